"""Ctrl-C and SIGTERM in training: what was learned is saved, to the very batch."""

import os
import signal
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from tiny_runs import QUICK, boxes, small_network

from descnet3d.training.interruptions import TrainingStopped
from descnet3d.training.run import train

# Epochs of three batches, in both phases; what changes with the epoch changes in the third.
RECIPE = QUICK.changed(matching_steps=12, likelihood_steps=9)


class Interrupt(keras.callbacks.Callback):
    """Sends a signal to this very process at a moment of a batch, or of an epoch."""

    def __init__(self, number, moment, after):
        super().__init__()
        self.number, self.left = number, after
        setattr(self, moment, self._count)

    def _count(self, *_, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def run(folder, *interrupts):
    """A run that is interrupted and called again once for each; its weights, and what was said."""
    said = []
    for interrupt in interrupts:
        with pytest.raises(TrainingStopped) as stopped:
            train(
                boxes(),
                RECIPE,
                folder,
                network=small_network(),
                callbacks=lambda *phase, interrupt=interrupt: [interrupt],
            )
        said.append(str(stopped.value))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Your input ran out")
        model = train(boxes(), RECIPE, folder, network=small_network()).model
    return [ops.convert_to_numpy(v.value) for v in model.network.variables], said


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_again_and_again_comes_to_the_same_weights(
    whole, number, tmp_path
):
    before = signal.getsignal(number)
    weights, said = run(
        tmp_path,
        Interrupt(number, "on_train_batch_begin", 2),  # within a step, which is finished
        Interrupt(number, "on_train_batch_end", 1),  # the third batch, the last of its epoch
        Interrupt(number, "on_epoch_end", 1),
        Interrupt(number, "on_train_begin", 1),
        Interrupt(number, "on_train_batch_begin", 8),  # in the second phase
        Interrupt(number, "on_train_batch_begin", 1),
    )
    for ours, theirs in zip(weights, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    done = [float(each.split()[2]) for each in said]
    assert done == [0.67, 1.0, 2.0, 2.0, 0.67, 1.0]
    assert "matching.npz keeps" in said[0] and "likelihood.npz keeps" in said[-1]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("after", [1, 2, 5, 14])
def test_a_run_that_is_stopped_in_an_epoch_goes_on_through_the_others(whole, after, tmp_path):
    weights, _ = run(tmp_path, Interrupt(signal.SIGTERM, "on_train_batch_begin", after))
    for ours, theirs in zip(weights, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_run_that_is_stopped_at_every_step_gets_to_its_end(whole, tmp_path):
    steps = [Interrupt(signal.SIGINT, "on_train_batch_begin", 1) for _ in range(12)]
    weights, said = run(tmp_path, *steps)
    assert len({(each.split()[2], each.split()[5]) for each in said}) == 12
    for ours, theirs in zip(weights, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_second_interrupt_within_a_step_does_not_wait_and_saves_nothing_torn(tmp_path):
    class Twice(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(
            boxes(), RECIPE, tmp_path, network=small_network(), callbacks=lambda *phase: [Twice()]
        )
    assert not isinstance(stopped.value, TrainingStopped)
    with np.load(tmp_path / "matching.npz") as file:
        assert file["progress"][0] == 0
