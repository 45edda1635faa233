"""Training runs: what they write, and how they go on after being killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tiny_runs
from keras import ops
from tiny_runs import COOPERATIVE, QUICK, boxes, cooperative, small_network

from descnet3d.models import networks
from descnet3d.models.batches import VoxelBatches
from descnet3d.training.callbacks import TrainingProgress
from descnet3d.training.checkpoints import CheckpointError, TrainingCheckpoint
from descnet3d.training.recipes import ANNEALED, RECIPES
from descnet3d.training.run import train


class Killed(Exception):
    pass


class KillAfter(keras.callbacks.Callback):
    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Killed


def run(folder, killers=(), recipe=QUICK):
    """A run that is killed and resumed once for each killer; its weights."""
    for killer in killers:
        with pytest.raises(Killed):
            train(
                boxes(),
                recipe,
                folder,
                network=small_network(),
                callbacks=lambda *phase, killer=killer: [killer],
                checkpoint_every=0.0,
            )
    finished = train(boxes(), recipe, folder, network=small_network(), checkpoint_every=0.0)
    return [ops.convert_to_numpy(v.value) for v in finished.model.network.variables]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing broke, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(whole[0], tmp_path / "finished")


def test_a_run_killed_again_and_again_gives_what_the_unbroken_run_gives(whole, tmp_path):
    _, weights = whole
    # Killed in the middle of an epoch, in the first phase and in the second.
    broken = run(tmp_path / "broken", [KillAfter(5), KillAfter(4), KillAfter(7)])
    for first, second in zip(weights, broken, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)
    other = run(tmp_path / "other", recipe=QUICK.changed(seed=1))
    assert np.abs(other[0] - weights[0]).max() > 1e-4


class KillAtTheEnd(keras.callbacks.Callback):
    """Comes after the last epoch's checkpoint, before the averaged weights take their place."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.params["epochs"]:
            raise Killed


def test_a_run_killed_after_its_last_epoch_has_its_averaged_weights(whole, tmp_path):
    folder, weights = whole
    broken = run(tmp_path / "broken", [KillAtTheEnd(), KillAtTheEnd()])
    for phase in ("matching.npz", "likelihood.npz"):
        with (
            np.load(folder / phase) as ours,
            np.load(tmp_path / "broken" / phase) as theirs,
        ):
            for name in set(ours.files) - {"progress"}:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-7)
    for first, second in zip(weights, broken, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_a_generators_run_killed_again_and_again_gives_what_the_unbroken_run_gives(tmp_path):
    def weights(folder, killers=()):
        def once(callbacks=None):
            return cooperative(folder, callbacks=callbacks, checkpoint_every=0.0)

        for killer in killers:
            with pytest.raises(Killed):
                once(lambda *phase: [killer])  # noqa: B023
        parts = once().model.parts.values()
        return [ops.convert_to_numpy(v.value) for part in parts for v in part.variables]

    whole = weights(tmp_path / "whole")
    # Killed in the middle of both phases, and after the last epoch of the first.
    broken = weights(tmp_path / "broken", [KillAfter(5), KillAtTheEnd(), KillAfter(5)])
    for first, second in zip(whole, broken, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def test_an_untrained_descriptor_teaches_nobody(tmp_path):
    with pytest.raises(ValueError, match="start must name a preset"):
        train(np.zeros((4, 16, 16, 16), bool), COOPERATIVE.changed(start=None), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chains": "generator"}, "chains must be one of persistent, noise, data"),
        ({"cooperation_steps": 5}, "cooperation_steps is for the task cooperative"),
        ({"task": "cooperative"}, "generator_steps or cooperation_steps must be positive"),
    ],
)
def test_settings_that_contradict_each_other_make_no_recipe(changed, message):
    with pytest.raises(ValueError, match=message):
        QUICK.changed(**changed)


def epochs_in(checkpoint):
    with np.load(checkpoint, allow_pickle=False) as file:
        return int(file["progress"][0])


KILLED_RUN = """
import sys
from tiny_runs import QUICK, boxes, small_network
from descnet3d.training.run import train
train(boxes(), QUICK.changed(matching_steps=3000), sys.argv[1], network=small_network(),
      checkpoint_every=0.0)
"""


@pytest.mark.slow
def test_a_process_killed_while_it_writes_leaves_a_checkpoint_that_loads(tmp_path):
    root = os.path.dirname(os.path.abspath(tiny_runs.__file__))
    command = [sys.executable, "-c", KILLED_RUN, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": root}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / "matching.npz"
    started = time.monotonic()
    # One is written before the first epoch, whose compilation takes as long as the machine is busy.
    while not (checkpoint.exists() and epochs_in(checkpoint)) and time.monotonic() - started < 240:
        time.sleep(0.1)
    time.sleep(2.0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    epochs = epochs_in(checkpoint)
    with np.load(checkpoint, allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files)
    assert 0 < epochs < 1000


def test_weights_that_are_no_longer_finite_do_not_replace_a_good_checkpoint(finished, tmp_path):
    model = train(boxes(), QUICK, finished, network=small_network()).model
    keeper = TrainingCheckpoint(tmp_path / "kept.npz", every_seconds=0.0)
    keeper.set_model(model)
    keeper.on_epoch_end(0)
    kept = (tmp_path / "kept.npz").read_bytes()
    model.network.variables[0].assign(model.network.variables[0].value * np.nan)
    keeper.on_epoch_end(1)
    assert (tmp_path / "kept.npz").read_bytes() == kept


def test_a_folder_of_a_run_with_other_settings_is_refused(finished):
    with pytest.raises(CheckpointError, match="batch_size=4.*5"):
        train(boxes(), QUICK.changed(batch_size=5), finished, network=small_network())


def test_a_folder_of_a_run_on_other_shapes_is_refused(finished):
    with pytest.raises(CheckpointError, match="shapes"):
        train(~boxes(), QUICK, finished, network=small_network())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("chains_per_step", 200),
        ("langevin_step_size", -1.0),
        ("chains", "foo"),
        ("network", "papre"),
    ],
)
def test_wrong_settings_are_found_before_the_work_and_leave_the_folder_free(
    setting, value, tmp_path
):
    network = None if setting == "network" else small_network()
    with pytest.raises(ValueError, match="papre|count|step_size|start must be"):
        train(boxes(), QUICK.changed(**{setting: value}), tmp_path / "run", network=network)
    assert not (tmp_path / "run").exists()


def test_one_step_a_pass_resumes_too(tmp_path):
    recipe = QUICK.changed(matching_steps=0, step_per_pass=True)
    whole = run(tmp_path / "whole", recipe=recipe)
    broken = run(tmp_path / "broken", [KillAfter(4)], recipe=recipe)
    for first, second in zip(whole, broken, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_cut_short_is_refused(finished):
    path = finished / "likelihood.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="likelihood.npz is .*it is damaged, or"):
        train(boxes(), QUICK, finished, network=small_network())


def test_the_order_of_the_shapes_is_a_function_of_seed_and_epoch():
    shapes = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 2)) / 10

    def order(batches):
        return np.concatenate([batches[i][:, 0, 0, 0] for i in range(len(batches))])

    batches = VoxelBatches(shapes, 4, seed=3)
    epochs = []
    for epoch in range(3):
        batches.epoch = epoch
        epochs.append(order(batches))
    for epoch in epochs:
        np.testing.assert_allclose(np.sort(epoch), shapes[:, 0, 0, 0])
    assert not np.array_equal(epochs[0], epochs[1])
    again = VoxelBatches(shapes, 4, seed=3)
    again.epoch = 2
    np.testing.assert_array_equal(order(again), epochs[2])


def test_mirroring_flips_about_half_of_the_shapes_along_its_axis():
    shapes = np.zeros((400, 4, 4, 4), bool)
    shapes[:, 0, 1, 2] = True
    batch = VoxelBatches(shapes, 400, mirror_axes=(0,))[0]
    flipped = batch[:, 3, 1, 2] == 1
    assert abs(flipped.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(batch[~flipped, 0, 1, 2], 1)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_network_that_there_is(name):
    assert RECIPES[name].network in {*networks.NETWORKS, *ANNEALED}


def test_from_the_first_epoch_on_the_bar_knows_how_long_one_takes(capsys):
    bar = TrainingProgress("matching", 0, 3)
    bar.on_train_begin()
    time.sleep(0.3)
    bar.on_epoch_end(0, {"loss": 1.0})
    assert re.search(
        r"matching: 3 epochs(.|\n)*1/3.*([3-9]\d\dms|[1-9]\d*s)/epoch", capsys.readouterr().out
    )
