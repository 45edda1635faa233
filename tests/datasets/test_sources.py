"""Shapes from wherever a user has them: an archive, a folder, or a tfds data set."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from descnet3d.commands import cli
from descnet3d.datasets import VoxelFolder, folder_archives
from descnet3d.datasets.archives import write_archive
from descnet3d.datasets.grid_files import write_grids
from descnet3d.datasets.sources import read_shapes
from descnet3d.zoo import presets

BOX = """OFF
8 6 0
0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1
4 0 3 2 1\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shapes(workplace):
    """A folder of lamps in both splits and of vases, which are bars of the lengths 1 to 6."""
    root = workplace / "shapes"
    for name in ("lamp/train", "lamp/test", "vase/train"):
        (root / name).mkdir(parents=True)
    (root / "lamp/train/cube.off").write_text(BOX)
    (root / "lamp/train/bad.off").write_text("OFF\nx")
    zipfile.ZipFile("shapes.zip", "w").close()
    (root / "lamp/test/other.off").write_text(BOX)
    for length in range(1, 7):
        grid = np.zeros((8, 8, 8), bool)
        grid[4, 4, :length] = True
        np.save(root / f"vase/train/vase_{length}.npy", grid)
    return root


def lengths(archive):
    return dict(zip(archive.ids, archive.occupancy.sum(axis=(1, 2, 3)).tolist(), strict=True))


VASES = {f"vase_{length}": length for length in range(1, 7)}


def test_a_folder_is_read_with_its_categories_and_splits(shapes):
    said = []
    archive = read_shapes(shapes, size=8, report=said.append)
    assert lengths(archive) == {"cube": 6**3, "other": 6**3, **VASES}
    assert archive.classes == ("lamp", "vase")
    assert [archive.classes[label] for label in archive.labels] == ["lamp"] * 2 + ["vase"] * 6
    assert archive.is_test.tolist() == [name == "other" for name in archive.ids]
    (line,) = said
    assert line.startswith(f"skipped 1 of 9 files in {shapes}: bad.off ")
    assert read_shapes(shapes, report=said.append).occupancy.shape == (8, 32, 32, 32)


def test_a_part_of_a_folder_is_read_without_touching_the_rest(shapes):
    said = []
    vases = read_shapes(shapes, "vase", "train", size=8, report=said.append)
    assert lengths(vases) == VASES
    assert vases.classes == ("lamp", "vase") and set(vases.labels) == {1}
    assert said == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "shapes", "category": "vases"}, "no category 'vases'. Did you mean \"vase\""),
        ({"source": "shapes", "category": "vase", "split": "test"}, "holds no test vase shapes"),
        ({"source": "shapes", "split": "validation"}, 'split must be "train", "test" or None'),
        ({"source": "shapes", "size": 10_000}, "too many to read at once"),
        ({"source": "shapes", "size": 1}, "size must be a whole number from 2"),
        ({"source": "shapes/lamp/train"}, "no folders of categories with shapes"),
        ({"source": "shapes/lamp/train/cube.off"}, "cube.off is not an .npz archive"),
        ({"source": "shapes.zip"}, "shapes.zip is a zip file; unpack it"),
        ({"source": "nowhere/at all"}, "there is no file or folder nowhere/at all, and it is no"),
        ({"source": "nowhere"}, "no file or folder nowhere, and no tfds data set of that name"),
        ({"source": "mnist"}, "mnist is no data set of shapes"),
        ({"source": "voxel_folder"}, "there is no tfds data set voxel_folder"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(arguments, message, shapes):
    with pytest.raises(ValueError) as caught:
        read_shapes(**arguments, data_dir="data")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_of_bad_files_alone_is_an_error_that_names_them(workplace):
    (workplace / "bad/lamp").mkdir(parents=True)
    for number in range(7):
        (workplace / f"bad/lamp/{number}.off").write_text("")
    with pytest.raises(ValueError, match="bad: no file holds a shape: 0.off is empty; .* 2 more"):
        read_shapes("bad", size=8)


def test_what_was_voxelised_is_kept_until_the_folder_changes(shapes, monkeypatch):
    said = []

    def read(**options):
        return read_shapes(shapes, size=8, keep_in="run/kept", report=said.append, **options)

    first = read()
    (kept,) = Path("run/kept").glob("*.npz")
    voxelize, calls = folder_archives.voxelize_files, []

    def counted(paths, *arguments, **options):
        calls.append(len(paths))
        return voxelize(paths, *arguments, **options)

    monkeypatch.setattr(folder_archives, "voxelize_files", counted)
    again = read()
    assert calls == []
    assert len(said) == 2 and said[0] == said[1] and "bad.off" in said[0]
    np.testing.assert_array_equal(again.occupancy, first.occupancy)
    assert again[2:] != () and again.ids == first.ids and again.classes == first.classes
    assert len(read(category="vase").ids) == 6
    os.utime(shapes / "lamp/train/cube.off", (0, 0))
    read()
    kept.write_bytes(b"damaged")
    os.utime(shapes / "lamp/train/cube.off")
    read()
    assert calls == [6, 9, 9]


def test_an_archive_is_read_as_before(shapes):
    archive = read_shapes(shapes, size=8, report=print)
    write_archive("shapes.npz", archive)
    assert lengths(read_shapes("shapes.npz", "vase", "train", size=8)) == VASES
    with pytest.raises(ValueError, match=r"grids of \(8, 8, 8\), and size was given as 16"):
        read_shapes("shapes.npz", size=16)


def test_a_tfds_data_set_is_built_and_read(workplace, shapes):
    manual = workplace / "data/downloads/manual"
    manual.mkdir(parents=True)
    archive = read_shapes(shapes, size=32, report=print)
    write_archive(manual / "shapes.npz", archive)
    for _ in range(2):  # built, then found built
        found = read_shapes("modelnet_voxels/packed_32", data_dir="data")
        assert lengths(found) == lengths(archive)
        assert found.classes == archive.classes
        assert dict(zip(found.ids, found.labels.tolist(), strict=True)) == dict(
            zip(archive.ids, archive.labels.tolist(), strict=True)
        )
        assert [name for name, test in zip(found.ids, found.is_test, strict=True) if test] == [
            "other"
        ]
    assert lengths(read_shapes("modelnet_voxels/packed_32", "vase", data_dir="data")) == VASES
    with pytest.raises(ValueError, match="holds no test vase shapes"):
        read_shapes("modelnet_voxels/packed_32", "vase", "test", data_dir="data")
    with pytest.raises(ValueError, match="there is: modelnet10_32, modelnet10_64"):
        read_shapes("modelnet_voxels/packed_33", data_dir="data")


def test_a_voxel_folder_that_was_built_is_read_by_its_name(shapes):
    builder = VoxelFolder(root=shapes, size=8, data_dir="data")
    builder.download_and_prepare(file_format="array_record")
    name = f"voxel_folder/{builder.builder_config.name}"
    assert lengths(read_shapes(name, "vase", data_dir="data")) == VASES


WITHOUT_TENSORFLOW = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "tensorflow":
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

import numpy as np
import tensorflow_datasets as tfds
import descnet3d.datasets
from descnet3d.datasets.sources import read_shapes

folder = tfds.builder("voxel_folder", root="shapes", size=8, data_dir="data")
folder.download_and_prepare()
source = folder.as_data_source("train")
assert len(source) == 7 and source[0]["occupancy"].shape == (8, 8, 8)
assert source[0]["occupancy"].dtype == bool

for split, count in (("train", 7), ("test", 1)):
    found = read_shapes("modelnet_voxels/packed_32", split=split, data_dir="other")
    assert len(found.occupancy) == count
try:
    read_shapes("modelnet_voxels/packed_32", data_dir="data")
except ValueError as error:
    print(error)
assert "tensorflow" not in sys.modules
"""


def test_without_tensorflow_there_are_numpy_data(workplace, shapes):
    manual = workplace / "data/downloads/manual"
    manual.mkdir(parents=True)
    write_archive(manual / "a.npz", read_shapes(shapes, size=32, report=print))
    # One that TensorFlow has written, and that is in its own format.
    built = tfds.builder("modelnet_voxels/packed_32", data_dir="data")
    built.download_and_prepare()
    (workplace / "other/downloads").mkdir(parents=True)
    (workplace / "other/downloads/manual").symlink_to(manual)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "was built as tfrecord in data" in done.stdout.splitlines()[-1]


# --- on the command line --------------------------------------------------------------------------

QUICK = "--matching_steps=2 --likelihood_steps=0 --sampling_steps=2 --batch_size=2 --sheet_every=0"


@pytest.mark.slow
def test_a_model_is_trained_on_a_folder_and_evaluated_on_it(shapes, capsys):
    command = f"train --data=shapes --category=vase --out=vases --size=32 {QUICK}"
    assert cli.main(command.split()) == 0, capsys.readouterr().err
    model = presets.load("./vases")
    assert model.grid == (32, 32, 32) and model.preset["category"] == "vase"
    (shapes / "vase/test").mkdir()
    for name in ("vase_5.npy", "vase_6.npy"):
        (shapes / "vase/train" / name).rename(shapes / "vase/test" / name)
    capsys.readouterr()
    assert cli.main(["evaluate", "./vases", "--data=shapes", "--num=2"]) == 0
    printed = capsys.readouterr()
    assert "| shapes | 2 | 2 | |" in " ".join(printed.out.split())
    assert printed.err.startswith("skipped 1 of 9 files in shapes: bad.off ")


@pytest.mark.parametrize("ending", [".npz", ".npy", ".mat"])
def test_grids_that_the_package_writes_are_shapes_of_one_category(tmp_path, ending):
    grids = np.random.default_rng(0).random((1 if ending == ".mat" else 11, 8, 8, 8)) > 0.5
    path = tmp_path / f"lamps{ending}"
    write_grids(path, grids)
    archive = read_shapes(path)
    np.testing.assert_array_equal(archive.occupancy, grids)
    assert archive.classes == ("lamps",) and set(archive.labels) == {0}
    assert read_shapes(path, "toilet").classes == ("toilet",)
    if ending == ".mat":
        with pytest.raises(ValueError, match="too few to have test shapes"):
            read_shapes(path, split="test")
    else:
        parts = [read_shapes(path, split=split) for split in ("train", "test")]
        assert [len(part.labels) for part in parts] == [9, 2]
        assert not set(parts[0].ids) & set(parts[1].ids)
