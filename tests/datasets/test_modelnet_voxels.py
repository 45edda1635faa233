"""`modelnet_voxels`: what it builds, from what, and what it refuses."""

import dataclasses
import functools
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from releases import BAD, BOX_123, GOOD, LITTER, box, write_release, write_voxel_release

import descnet3d
from descnet3d.datasets import ModelnetVoxels
from descnet3d.datasets.archives import VoxelArchive, read_archive, write_archive
from descnet3d.datasets.sources import read_shapes
from descnet3d.datasets.zips import ArchiveError


def prepare(builder, manual=None, **options):
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual, **options)
    )
    return builder


def read(builder, split):
    """The examples of a split by their id."""
    return {e["id"].decode(): e for e in tfds.as_numpy(builder.as_dataset(split=split))}


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


# --- tfds' own test of a builder ------------------------------------------------------------------


class DummyData(tfds.testing.DatasetBuilderTestCase):
    """The test case with data that is made when it begins."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = Path(cls.folder.name) / "shapes"
        cls.EXAMPLE_DIR.mkdir()
        cls.write(cls.EXAMPLE_DIR)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()


@pytest.mark.one_backend
class ModelnetMeshesTest(DummyData):
    DATASET_CLASS = ModelnetVoxels
    BUILDER_CONFIG_NAMES_TO_TEST = ["modelnet10_32", "modelnet40_32"]
    SPLITS = {"train": 5, "test": 2}

    @staticmethod
    def write(folder):
        write_release(folder / "ModelNet10.zip")
        write_release(folder / "ModelNet40.zip", root="ModelNet40")


@pytest.mark.one_backend
class ModelnetGridsTest(DummyData):
    DATASET_CLASS = ModelnetVoxels
    BUILDER_CONFIG_NAMES_TO_TEST = ["shapenets_modelnet10_30", "shapenets_modelnet40_32"]
    SPLITS = {"train": 4, "test": 2}

    @staticmethod
    def write(folder):
        write_voxel_release(folder / "3DShapeNetsCode.zip")


@pytest.mark.one_backend
class ModelnetPackedTest(DummyData):
    DATASET_CLASS = ModelnetVoxels
    BUILDER_CONFIG_NAMES_TO_TEST = ["packed_32"]
    SPLITS = {"train": 3, "test": 1}

    @staticmethod
    def write(folder):
        write_archive(folder / "my_shapes.npz", packed_shapes())


del DummyData  # is no test itself


def packed_shapes(size=32):
    return VoxelArchive(
        occupancy=np.random.default_rng(0).random((4, size, size, size)) < 0.1,
        labels=np.array([0, 1, 1, 0]),
        classes=("lamp", "vase"),
        is_test=np.array([False, False, True, False]),
        ids=("a", "b", "c", "d"),
    )


# --- modelnet_voxels ------------------------------------------------------------------------------


def test_every_good_model_of_the_release_comes_through_and_every_bad_one_is_named(tmp_path, manual):
    write_release(manual / "ModelNet10.zip")
    builder = prepare(tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path), manual)
    train, test = read(builder, "train"), read(builder, "test")
    assert sorted([*train, *test]) == sorted(Path(name).stem for name in GOOD)
    names = builder.info.features["label"].names
    for identity, example in {**train, **test}.items():
        assert names[example["label"]] == identity.rpartition("_")[0]
        assert example["occupancy"].shape == (32, 32, 32)
        assert example["occupancy"].dtype == bool
    assert {example["occupancy"].sum() for example in train.values()} == {BOX_123}
    assert {example["occupancy"].sum() for example in test.values()} == {24 * 16 * 16}
    skipped = json.loads((builder.data_path / "skipped.json").read_text())
    assert skipped == builder.skipped
    told = {one["file"].removeprefix("ModelNet10/"): one["reason"] for one in skipped}
    assert told.keys() == {*BAD, "README.txt", "unicorn"} and all(told.values())
    assert "is not called CATEGORY/train/NAME.off" in told["README.txt"]
    assert told["unicorn"] == "is of no category of modelnet10_32, with its 1 files"
    # A second builder finds it built, and says the same of it.
    again = tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path)
    assert again.info.splits["train"].num_examples == 5
    assert "academic use" in again.info.description and "wu2015shapenets" in again.info.citation


def test_a_strict_build_fails_at_the_first_bad_file_and_leaves_nothing(tmp_path, manual):
    write_release(manual / "ModelNet10.zip")
    builder = tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path, strict=True)
    with pytest.raises(ValueError, match=r"ModelNet10/chair/train/chair_0005.off is empty"):
        prepare(builder, manual)
    assert not builder.data_path.exists()


def test_a_release_without_one_good_file_is_an_error(tmp_path, manual):
    write_release(manual / "ModelNet10.zip", BAD)
    builder = tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path)
    with pytest.raises(ValueError, match="no file holds a shape; the last, ModelNet10/chair/"):
        prepare(builder, manual)
    write_release(manual / "ModelNet10.zip", LITTER)
    with pytest.raises(ValueError, match="holds no shapes of modelnet10_32"):
        prepare(builder, manual)


def test_whatever_a_packer_does_every_member_is_read_or_named(tmp_path, manual):
    members = {
        "./A/chair/train/one.off": "read",
        "B/chair/train/one.off": "read",  # two top folders, and one name in both
        "A\\chair\\Train\\two.OFF": "read",
        "A/Night Stand/TEST/three.off": "read",
        "A/chair/train/st\xfchl.off": "read",
        "sofa/train/four.off": "read",
        "A/chair/val/five.off": "is not called",
        "A/chair/six.off": "is not called",
        "A/chair/train/deeper/seven.off": "is not called",
        "A/chair/train/eight.obj": "is not called",
        "A/chair/train/nine.off.gz": "is not called",
        "B/lamp/train/ten.off": "is of no category",
        "A/chair/test/eleven.off": "does not begin",
    }
    with zipfile.ZipFile(manual / "ModelNet10.zip", "w") as archive:
        for name in members:
            content = "OFF" if "eleven" in name else box(1, 2, 3)
            if name.isascii():
                archive.writestr(name, content)
            else:  # as those have it that know no UTF-8
                archive.writestr(name.encode("latin-1").decode("cp437"), content)
    builder = tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path)
    prepare(builder, manual)
    found = [e["id"].decode() for s in ("train", "test")
             for e in tfds.as_numpy(builder.as_dataset(split=s))]  # fmt: skip
    assert len(found) == len(set(found)) == 6
    assert {"A/chair/train/one.off", "B/chair/train/one.off", "two", "three", "four"} <= set(found)
    told = {one["file"]: one["reason"] for one in builder.skipped}
    assert len(told) == 7
    for name, expected in members.items():
        if expected != "read":
            [reason] = [told[key] for key in told if name.startswith(key)]
            assert expected in reason
    said = []
    read_shapes("modelnet_voxels/modelnet10_32", data_dir=tmp_path, report=said.append)
    assert "lacks 7 files" in said[0] and "skipped.json" in said[0]


@pytest.fixture
def server(tmp_path):
    """The address of a folder that a server on this machine serves, and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", folder
        running.shutdown()
        thread.join()


def small_config(name="modelnet10_8", **changes):
    config = ModelnetVoxels.builder_configs["modelnet10_32"]
    return dataclasses.replace(config, name=name, size=8, **changes)


def test_the_release_is_downloaded_or_taken_from_the_manual_folder(tmp_path, manual, server):
    address, folder = server
    write_release(folder / "ModelNet10.zip")
    config = small_config(url=f"{address}/ModelNet10.zip")
    builder = prepare(ModelnetVoxels(config=config, data_dir=tmp_path), manual)
    downloaded = read(builder, "train")
    assert len(downloaded) == 5
    # In the manual folder there is another, and that is the one that counts.
    write_release(manual / "ModelNet10.zip", {"bed/train/bed_0001.off": box()})
    config = small_config("modelnet10_8_by_hand", url=f"{address}/ModelNet10.zip")
    builder = prepare(ModelnetVoxels(config=config, data_dir=tmp_path), manual)
    assert list(read(builder, "train")) == ["bed_0001"] and "test" not in builder.info.splits


def test_a_download_that_fails_says_what_to_do(tmp_path, server):
    address, _ = server
    config = small_config(url=f"{address}/ModelNet10.zip")
    with pytest.raises(
        ValueError, match=r"ModelNet10.zip cannot be downloaded .*404.* manual folde"
    ):
        prepare(ModelnetVoxels(config=config, data_dir=tmp_path))


def test_a_download_that_is_not_the_released_one_is_refused(tmp_path, server, monkeypatch):
    address, folder = server
    write_release(folder / "ModelNet10.zip")
    url = f"{address}/ModelNet10.zip"
    released = tfds.core.download.checksums.UrlInfo(1000, "0" * 64, "ModelNet10.zip")
    monkeypatch.setattr(ModelnetVoxels, "url_infos", {url: released})
    with pytest.raises(ValueError, match="cannot be downloaded .*wrong checksum"):
        prepare(ModelnetVoxels(config=small_config(url=url), data_dir=tmp_path))


def test_a_hostile_release_is_refused_and_nothing_is_built(tmp_path, manual):
    with zipfile.ZipFile(manual / "ModelNet10.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ModelNet10/chair/train/chair_0001.off", box())
        archive.writestr("ModelNet10/chair/train/../../../../evil.off", box())
    builder = tfds.builder("modelnet_voxels/modelnet10_32", data_dir=tmp_path)
    with pytest.raises(ArchiveError, match=r"evil.off' points outside the archive"):
        prepare(builder, manual)
    assert not builder.data_path.exists()
    assert not list(tmp_path.rglob("evil.off"))


def test_the_grids_of_3dshapenets_are_padded_or_left(tmp_path, manual):
    write_voxel_release(manual / "3DShapeNetsCode.zip")
    grids = {}
    for size in (30, 32):
        name = f"modelnet_voxels/shapenets_modelnet10_{size}"
        builder = prepare(tfds.builder(name, data_dir=tmp_path), manual)
        grids[size] = {key: e["occupancy"] for key, e in read(builder, "train").items()}
    assert sorted(grids[30]) == ["sofa_1_1", "sofa_1_2", "sofa_2_1", "sofa_2_2"]
    assert {key: grid.sum() for key, grid in grids[30].items()} == {
        "sofa_1_1": 4,
        "sofa_1_2": 8,
        "sofa_2_1": 8,
        "sofa_2_2": 16,
    }
    for key, grid in grids[30].items():
        np.testing.assert_array_equal(np.pad(grid, 1), grids[32][key])


def test_a_packed_archive_comes_out_as_it_went_in(tmp_path, manual):
    shapes = packed_shapes()
    write_archive(manual / "mine.npz", shapes)
    builder = prepare(tfds.builder("modelnet_voxels/packed_32", data_dir=tmp_path), manual)
    assert builder.info.features["label"].names == ["lamp", "vase"]
    found = {**read(builder, "train"), **read(builder, "test")}
    for row, identity in enumerate(shapes.ids):
        np.testing.assert_array_equal(found[identity]["occupancy"], shapes.occupancy[row])
        assert found[identity]["label"] == shapes.labels[row]
    again = tfds.builder("modelnet_voxels/packed_32", data_dir=tmp_path)
    assert again.info.features["label"].names == ["lamp", "vase"]
    wrong = tfds.builder("modelnet_voxels/packed_64", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"holds grids of \(32, 32, 32\)"):
        prepare(wrong, manual)
    write_archive(manual / "other.npz", shapes)
    with pytest.raises(ValueError, match="needs one voxel archive .* and there are 2"):
        prepare(wrong, manual)


# --- what uses it ---------------------------------------------------------------------------------


def small_model():
    keras.utils.set_random_seed(0)
    grid = keras.Input((8, 8, 8, 1))
    responses = keras.layers.Conv3D(4, 3, strides=2, activation="silu")(grid)
    score = keras.layers.Dense(1)(keras.layers.Flatten()(responses))
    model = descnet3d.DescriptorNet(keras.Model(grid, score))
    model.compile(keras.optimizers.Adam(1e-4))
    return model


def test_a_data_set_feeds_fit_as_batches_and_as_arrays(tmp_path, manual):
    write_release(manual / "ModelNet10.zip")
    builder = prepare(ModelnetVoxels(config=small_config(), data_dir=tmp_path), manual)
    tuples = builder.as_dataset(split="train", batch_size=2, as_supervised=True)
    dictionaries = builder.as_dataset(split="train", batch_size=2).map(
        # Keras hands whole batches to PyTorch, which has no strings.
        lambda batch: {key: batch[key] for key in ("occupancy", "label")}
    )
    batch = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))
    for data, options in (
        (tuples, {}),
        (dictionaries, {}),
        (batch["occupancy"], {"batch_size": 2}),
    ):
        history = small_model().fit(data, epochs=1, verbose=0, **options).history
        assert history and all(np.isfinite(values).all() for values in history.values())


# The installed program `tfds`.
TFDS = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main"]


@pytest.mark.slow
@pytest.mark.one_backend
def test_it_is_built_by_tfds_own_command(tmp_path, manual):
    write_release(manual / "ModelNet10.zip")
    words = ["modelnet_voxels/modelnet10_32", "--imports=descnet3d.datasets"]
    words += [f"--data_dir={tmp_path}", f"--manual_dir={manual}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*TFDS, "build", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(tfds.load("modelnet_voxels/modelnet10_32", data_dir=tmp_path, split="train")) == 5


@pytest.mark.slow
@pytest.mark.one_backend
def test_all_of_modelnet10_as_packed(modelnet10, tmp_path, manual):
    (manual / modelnet10.name).symlink_to(modelnet10)
    builder = prepare(tfds.builder("modelnet_voxels/packed_32", data_dir=tmp_path), manual)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert counts == {"train": 3991, "test": 908}
    archive = read_archive(modelnet10)
    rows = {name: row for row, name in enumerate(archive.ids)}
    for identity, example in read(builder, "test").items():
        np.testing.assert_array_equal(example["occupancy"], archive.occupancy[rows[identity]])
        assert example["label"] == archive.labels[rows[identity]]
