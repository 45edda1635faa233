"""A full disk is one line with the file's name, for everything that is written."""

import os
import subprocess
import sys

import numpy as np
import pytest
from full_disks import no_room_beyond
from tiny_models import tiny_model
from tiny_runs import QUICK, boxes, small_network

from descnet3d.datasets.archives import VoxelArchive, write_archive
from descnet3d.datasets.grid_files import write_grids
from descnet3d.datasets.mesh_writers import save_all
from descnet3d.files import OutputError
from descnet3d.shapes import sheets
from descnet3d.training.run import train
from descnet3d.zoo import publishing

pytestmark = pytest.mark.one_backend
GRIDS = np.random.default_rng(0).random((2, 16, 16, 16), dtype="float32")


def _archive(path):
    labels = np.zeros(2, np.int64)
    write_archive(path, VoxelArchive(GRIDS > 0.5, labels, ("box",), labels > 0, ("a", "b")))


WRITERS = {
    **{ending: write_grids for ending in (".npy", ".npz", ".mat")},
    ".binvox": lambda path, grids: write_grids(path, grids > 0.5),
    **{
        ending: lambda path, grids: save_all(grids[:1] > 0.5, path)
        for ending in (".ply", ".obj", ".stl", ".glb", ".off")
    },
    **{
        ending: lambda path, grids: sheets.save_sheet(grids[:1], path, tile=128)
        for ending in (".png", ".jpg", ".webp")
    },
}


@pytest.mark.parametrize("ending", WRITERS)
def test_what_shapes_are_written_to(tmp_path, ending):
    path = tmp_path / f"shapes{ending}"
    path.write_text("before")
    with no_room_beyond(400), pytest.raises(OutputError, match="make room") as raised:
        WRITERS[ending](path, GRIDS[:1])
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert path.read_text() == "before" and os.listdir(tmp_path) == [path.name]


def test_a_preset(tmp_path):
    folder = tiny_model().save_preset(tmp_path / "mine", id="mine", category="box", scores={})
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    for size in (300, 2000):  # the weights do not fit; the config alone does not
        with no_room_beyond(size), pytest.raises(OutputError, match="make room") as raised:
            tiny_model(seed=1).save_preset(folder)
        assert str(folder) in str(raised.value)
        assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before
    with no_room_beyond(300), pytest.raises(OutputError, match="make room"):
        publishing.add(tmp_path / "zoo", folder)
    assert list((tmp_path / "zoo").rglob("config.json")) == []


def test_checkpoints(tmp_path):
    with no_room_beyond(6000), pytest.raises(OutputError, match="matching.npz: .*make room"):
        train(boxes(), QUICK, tmp_path, network=small_network())
    train(boxes(), QUICK, tmp_path, network=small_network())  # and then it runs


LOGS = """
import sys
from pathlib import Path
import keras
from full_disks import no_room_beyond
from tiny_runs import QUICK, boxes, small_network
from descnet3d.training.run import train

class Full(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if not epoch:
            self.full = no_room_beyond(20)
            self.full.__enter__()

folder = Path(sys.argv[1])
log = {"csv": lambda: keras.callbacks.CSVLogger(folder / "log.csv"),
       "tensorboard": lambda: keras.callbacks.TensorBoard(folder / "logs", write_graph=False)}
try:
    train(boxes(), QUICK, folder, network=small_network(), checkpoint_every=1e9,
          callbacks=lambda *phase: [Full(), log[sys.argv[2]]()])
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("log", ["csv", "tensorboard"])
def test_logs(tmp_path, log):
    done = subprocess.run(
        [sys.executable, "-c", LOGS, str(tmp_path), log],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].startswith(f"OutputError: cannot write {tmp_path}"), done


def test_an_archive(tmp_path):
    with no_room_beyond(100), pytest.raises(OutputError, match="shapes.npz: .*make room"):
        _archive(tmp_path / "shapes.npz")
    assert os.listdir(tmp_path) == []
