"""Several workers: the weights and figures of one with the joint batch, and chains of their own.

PyTorch trains in two processes; TensorFlow on two virtual devices of one, and in two processes.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
from every_model import likelihood

from descnet3d.training.checkpoints import CheckpointError, restore

SCRIPT = Path(__file__).parents[1] / "stand_ins" / "trained_together.py"
TORCH = keras.backend.backend() == "torch"


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


HOSTS = pytest.param("hosts", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["processes"] if TORCH else ["replicas", HOSTS])
def trained(request, tmp_path_factory):
    """The folder, what one process came to alone, and each of those that trained together."""
    engine = request.param
    folder = tmp_path_factory.mktemp("together")
    runs = [(0, 1), (0, 2), *([(1, 2)] if engine != "replicas" else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": str(SCRIPT.parent),
        "PORTS": json.dumps(free_ports(2)),
    }
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(rank), str(world), engine],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, world in runs
    ]
    try:
        for process in started:
            error = process.communicate(timeout=540)[1]
            assert process.returncode == 0, error
    finally:
        for process in started:  # who waits for one that has failed waits for ever
            process.kill()
    return folder, [dict(np.load(folder / f"{rank}_of_{world}.npz")) for rank, world in runs]


def test_weights_and_figures_are_those_of_one_process_with_the_joint_batch(trained):
    alone, *together = trained[1]
    names = [name for name in alone if not name.startswith(("noisy", "chains", "chain_range"))]
    assert len(names) > 8 and "val_energy" in names
    for one in together:
        for name in names:
            np.testing.assert_allclose(one[name], alone[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_each_has_chains_and_noise_of_its_own_and_the_weights_of_all(trained):
    _, *together = trained[1]
    chains = np.concatenate([one["chains"] for one in together])
    assert len(chains) == 2
    # Where chains begin alike, noise has parted them.
    assert np.abs(chains[0] - chains[1]).mean() > 0.05
    for one in together:
        for name in (name for name in one if name.startswith("noisy")):
            np.testing.assert_allclose(one[name], together[0][name], atol=1e-7)


@pytest.mark.parametrize("model", ["descriptor", "classifier"])
def test_a_run_that_was_stopped_goes_on_on_every_worker_as_if_it_had_not_been(trained, model):
    _, *together = trained[1]
    for one in together:
        names = [name for name in one if name.startswith(f"{model}_whole_")]
        assert len(names) > 8
        for name in names:
            resumed = one[name.replace("whole", "resumed")]
            np.testing.assert_allclose(resumed, one[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_another_number_of_workers_is_refused(trained):
    folder, (_, *together) = trained
    for one in together:
        assert "the checkpoint of 1 worker," in str(one["refusal"])
        assert "there are 2 now: resume with 1" in str(one["refusal"])
    with pytest.raises(CheckpointError, match="the checkpoint of 2 workers.*there is 1 now"):
        restore(likelihood().model, folder / "descriptor_whole_2.npz")
