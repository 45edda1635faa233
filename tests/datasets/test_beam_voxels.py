"""Apache Beam makes the same data sets, shape by shape, as one process after the other."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from own_folder import write_folder
from releases import write_release, write_voxel_release

from descnet3d.datasets import ModelnetVoxels, VoxelFolder

beam = pytest.importorskip("apache_beam")
pytestmark = pytest.mark.one_backend


def built(make, data, manual=None, by_beam=False):
    """What a builder has written: every split's examples by their ids, and what was skipped."""
    builder = make(data_dir=data)
    config = tfds.download.DownloadConfig(manual_dir=manual)
    if by_beam:
        # DirectRunner would look on the network for a faster one first.
        config.beam_runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
        config.beam_options = beam.options.pipeline_options.PipelineOptions([])
    builder.download_and_prepare(download_config=config)
    splits = {
        name: {each["id"].decode(): each for each in tfds.as_numpy(builder.as_dataset(split=name))}
        for name in builder.info.splits
    }
    skipped = json.loads((builder.data_path / "skipped.json").read_text("utf-8"))
    assert builder.skipped == skipped
    assert not list(builder.data_path.glob("*.skipped.json"))
    return splits, {one["file"]: one["reason"] for one in skipped}


def assert_same(one, other):
    (shapes, skipped), (others, others_skipped) = one, other
    assert skipped == others_skipped
    assert {split: list(found) for split, found in shapes.items()} == {
        split: list(found) for split, found in others.items()
    }
    for split, found in shapes.items():
        for name, example in found.items():
            theirs = others[split][name]
            assert example["label"] == theirs["label"]
            np.testing.assert_array_equal(example["occupancy"], theirs["occupancy"])


def test_a_folder_is_the_same(tmp_path):
    root = write_folder(tmp_path / "shapes")

    def make(**options):
        return VoxelFolder(root=root, size=16, up="y", span=0.6, **options)

    alone = built(make, tmp_path / "alone")
    assert {"train", "test"} == alone[0].keys() and "lamp/train/bad.off" in alone[1]
    assert_same(built(make, tmp_path / "beam", by_beam=True), alone)


def test_poses_are_the_same(tmp_path):
    root = tmp_path / "shapes"
    write_folder(root)
    for path in root.glob("vase/*"):
        path.unlink()

    def make(**options):
        return VoxelFolder(root=root, size=16, poses=3, **options)

    alone = built(make, tmp_path / "alone")
    assert {"tall_01", "tall_02", "tall_03"} == alone[0]["train"].keys()
    assert_same(built(make, tmp_path / "beam", by_beam=True), alone)


@pytest.mark.parametrize(
    ("config", "name", "write"),
    [
        ("modelnet10_32", "ModelNet10.zip", write_release),
        ("shapenets_modelnet10_32", "3DShapeNetsCode.zip", write_voxel_release),
    ],
)
def test_a_release_of_modelnet_is_the_same(config, name, write, tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    write(manual / name)

    def make(**options):
        return ModelnetVoxels(config=config, **options)

    alone = built(make, tmp_path / "alone", manual)
    assert len(alone[0]["train"]) > 1 and alone[1]
    assert_same(built(make, tmp_path / "beam", manual, by_beam=True), alone)


def test_a_strict_build_names_the_file_that_stops_it(tmp_path):
    root = write_folder(tmp_path / "shapes")

    def make(**options):
        return VoxelFolder(root=root, size=16, strict=True, **options)

    with pytest.raises(Exception, match=r"(lamp/train/bad.off|vase/lists.npz) "):
        built(make, tmp_path / "beam", by_beam=True)
    assert not list((tmp_path / "beam").rglob("*.tfrecord*"))
