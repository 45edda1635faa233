"""`voxel_folder`: a folder of one's own shapes, built anew whenever it has changed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from own_folder import box, write_folder

from descnet3d.datasets import VoxelFolder
from descnet3d.datasets.voxel_folder.voxel_folder_dataset_builder import VoxelFolderConfig

pytestmark = pytest.mark.one_backend


def read(builder, split):
    """The examples of a split by their id."""
    return {e["id"].decode(): e for e in tfds.as_numpy(builder.as_dataset(split=split))}


class VoxelFolderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = VoxelFolder
    SPLITS = {"train": 6, "test": 2}

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = write_folder(Path(cls.folder.name) / "shapes")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def _make_builder(self, config=None):
        return VoxelFolder(root=self.EXAMPLE_DIR, size=16, data_dir=self.tmp_dir)


def test_a_folder_is_built_with_its_splits_and_without_its_bad_files(tmp_path):
    root = write_folder(tmp_path / "My Shapes")
    builder = tfds.builder("voxel_folder", root=root, size=16, data_dir=tmp_path / "data")
    assert builder.builder_config.name.startswith("my_shapes_16_")
    builder.download_and_prepare()
    train, test = read(builder, "train"), read(builder, "test")
    assert "tall" in train and "flat" in test
    assert {*train, *test} == {"tall", "flat", *(f"vase_{number}" for number in range(1, 7))}
    assert train["tall"]["occupancy"].sum() == 4 * 8 * 12
    reasons = {one["file"]: one["reason"] for one in builder.skipped}
    assert set(reasons) == {"lamp/train/bad.off", "vase/lists.npz"}
    assert "Python objects, which are never read" in reasons["vase/lists.npz"]
    # A grid that is smaller is centred in the larger one.
    vase = {**train, **test}["vase_6"]["occupancy"]
    np.testing.assert_array_equal(np.pad(np.load(root / "vase/vase_6.npy"), 4), vase)
    with pytest.raises(ValueError, match="bad.off"):
        VoxelFolder(root=root, strict=True, data_dir=tmp_path).download_and_prepare()


def test_names_of_any_bytes_are_read_and_what_is_no_shape_is_named(tmp_path):
    root = write_folder(tmp_path / os.fsdecode(b"sh\xe4pes"))
    (root / os.fsdecode(b"lamp/train/l\xe4mp.off")).write_text(box(1, 2, 3))
    (root / os.fsdecode(b"lamp/r\xe4d.txt")).touch()
    for name in ("loose.off", "vase/val/a.off"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(box())
    builder = tfds.builder("voxel_folder", root=root, size=16, data_dir=tmp_path / "data")
    builder.download_and_prepare()
    assert "l\\xe4mp" in read(builder, "train")
    told = {one["file"]: one["reason"] for one in builder.skipped}
    assert told == {one["file"]: one["reason"] for one in json.loads(
        (builder.data_path / "skipped.json").read_text("utf-8"))}  # fmt: skip
    assert told.keys() == {"lamp/train/bad.off", "vase/lists.npz", "lamp/r\\xe4d.txt",
                           "loose.off", "vase/val/a.off"}  # fmt: skip


def test_a_folder_that_has_changed_is_another_data_set(tmp_path):
    root = write_folder(tmp_path / "shapes")

    def name(**settings):
        builder = tfds.builder("voxel_folder", root=root, data_dir=tmp_path, **settings)
        return builder.builder_config.name

    first = name()
    assert name() == first
    names = {first, name(size=16), name(fill="surface"), name(span=0.5), name(up="y")}
    names.add(name(test_share=0.9))
    (root / "vase/new.off").write_text(box())
    names.add(name())
    os.utime(root / "vase/new.off", (0, 0))
    names.add(name())
    assert len(names) == 8


def test_a_built_folder_is_read_by_its_name_alone(tmp_path):
    root = write_folder(tmp_path / "shapes")
    builder = VoxelFolder(root=root, size=16, data_dir=tmp_path)
    builder.download_and_prepare()
    name = f"voxel_folder/{builder.builder_config.name}"
    assert len(tfds.load(name, data_dir=tmp_path, split="train")) == 6
    loaded = tfds.load(
        "voxel_folder",
        data_dir=tmp_path,
        split="test",
        builder_kwargs={"root": root, "size": 16},
        as_supervised=True,
    )
    occupancy, label = next(iter(loaded))
    assert occupancy.shape == (16, 16, 16) and label.shape == ()
    # As NumPy too, whichever way it was written.
    source = VoxelFolder(root=root, size=16, data_dir=tmp_path).as_data_source("test")
    assert len(source) == len(loaded)
    np.testing.assert_array_equal(source[0]["occupancy"], occupancy.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "voxel_folder needs a folder, as in"),
        ({"config": "lamps"}, "config is 'lamps'"),
        ({"config": VoxelFolderConfig(), "size": 16}, "a config and nothing beside it"),
        ({"root": "nowhere"}, "there is no folder nowhere"),
        ({"root": "."}, "holds no folders of categories"),
    ],
)
def test_a_folder_builder_without_a_folder_says_so(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        VoxelFolder(data_dir=tmp_path, **arguments)


# The installed program `tfds`.
TFDS = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main"]


@pytest.mark.slow
def test_it_is_built_by_tfds_own_command(tmp_path):
    config = {"root": str(write_folder(tmp_path / "shapes")), "size": 8}
    words = ["voxel_folder", "--imports=descnet3d.datasets", f"--config={json.dumps(config)}"]
    words += [f"--data_dir={tmp_path}", "--file_format=array_record"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*TFDS, "build", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(VoxelFolder(**config, data_dir=tmp_path).as_data_source("train")) == 6
