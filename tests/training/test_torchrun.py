"""`torchrun` starts `descnet3d train` in two processes, which write one preset."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from tiny_runs import boxes

from descnet3d.datasets.archives import VoxelArchive, write_archive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="torchrun starts PyTorch"),
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = ["-m", "descnet3d.commands.cli", "train", "--category=box", "--size=16", "--batch_size=8"]
TRAIN += ["--matching_steps=0", "--langevin_steps=2", "--sampling_steps=5", "--sheet_every=0"]
# Each iteration sees all shapes, and nothing is drawn at random.
WITHOUT_NOISE = ["--likelihood_steps=4", "--likelihood_matching_weight=0", "--chains=data"]
WITHOUT_NOISE += ["--langevin_temperature=0"]
WITH_CHAINS = ["--likelihood_steps=40", "--chains_per_step=4", "--chains_count=8"]


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Starts the command on eight shapes, with or without torchrun."""
    monkeypatch.chdir(tmp_path)
    for axis in (1, 2, 3):
        shapes = np.repeat(boxes(8) if axis == 1 else shapes, 2, axis)  # noqa: F821
    none, ids = np.zeros(8, bool), tuple(map(str, range(8)))
    write_archive("boxes.npz", VoxelArchive(shapes, np.zeros(8, int), ("box",), none, ids))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def begin(out, *settings, launcher=()):
        words = [*launcher, *TRAIN, "--data=boxes.npz", f"--out={out}", *settings]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *words], env=environment, **streams)

    return begin


def finished(process, status=0):
    """What a process has printed, when it has ended."""
    said = process.communicate(timeout=600)[0]
    assert (process.returncode == 0) == (status == 0), said
    return said


def weights(folder):
    return dict(np.load(f"{folder}/weights.npz"))


def test_two_processes_come_to_the_weights_of_one_and_say_so_once(begin):
    finished(begin("one", *WITHOUT_NOISE))
    said = finished(begin("two", *WITHOUT_NOISE, launcher=TORCHRUN))
    assert said.count("wrote two") == 1
    with open("two/config.json") as config:
        assert json.load(config)["training"]["workers"] == 2
    one, two = weights("one"), weights("two")
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_run_that_is_terminated_goes_on_and_not_with_one_process(begin):
    finished(begin("whole", *WITH_CHAINS, launcher=TORCHRUN))
    process = begin("stopped", *WITH_CHAINS, launcher=TORCHRUN)
    log = "stopped/training/likelihood.csv"
    while not (os.path.exists(log) and os.path.getsize(log)):  # an epoch is done
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "goes on from there" in finished(process, status=1)
    alone = finished(begin("stopped", *WITH_CHAINS), status=1)
    assert "is the checkpoint of 2 workers" in " ".join(alone.split())
    said = finished(begin("stopped", *WITH_CHAINS, launcher=TORCHRUN))
    assert "going on after epoch" in said
    whole, resumed = weights("whole"), weights("stopped")
    for name, values in whole.items():
        np.testing.assert_allclose(resumed[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
