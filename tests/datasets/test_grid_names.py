"""Grids as other projects keep them: under other names, in MATLAB 7.3, with axes for channels."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import io as scipy_io

from descnet3d.datasets.grid_files import open_grids, read_grid_file, read_grids
from descnet3d.datasets.shape_files import load_shape

GRID = np.random.default_rng(0).random((8, 9, 10)) < 0.4


@pytest.mark.parametrize("name", ["instance", "voxel", "voxels", "Volume", "input", "data"])
def test_the_only_array_of_a_file_is_the_grid_whatever_its_name(tmp_path, name):
    scipy_io.savemat(tmp_path / "a.mat", {name: GRID.astype(np.uint8), "label": 3.0})
    np.savez(tmp_path / "a.npz", **{name: GRID})
    for ending in ("mat", "npz"):
        found = read_grids(tmp_path / f"a.{ending}")
        assert found.dtype == bool
        np.testing.assert_array_equal(found, GRID[None])


def test_labels_and_words_beside_the_grid_are_no_grids(tmp_path):
    words = {"label": 3, "name": "chair", "pose": np.eye(4), "points": np.zeros((100, 3))}
    np.savez(tmp_path / "a.npz", voxels=GRID, **words)
    scipy_io.savemat(tmp_path / "a.mat", {"voxels": GRID, **words})
    for ending in ("mat", "npz"):
        np.testing.assert_array_equal(read_grids(tmp_path / f"a.{ending}")[0] > 0.5, GRID)
    np.savez(tmp_path / "b.npz", features=np.ones((1, 4096)), label=1)
    with pytest.raises(ValueError, match="nor another array of grids; it holds: features, label"):
        read_grids(tmp_path / "b.npz")


def test_of_several_arrays_one_is_asked_for(tmp_path):
    other = np.zeros((8, 9, 10))
    np.savez(tmp_path / "a.npz", seen=GRID, whole=other)
    scipy_io.savemat(tmp_path / "a.mat", {"seen": GRID, "whole": other})
    for ending in ("mat", "npz"):
        path = tmp_path / f"a.{ending}"
        with pytest.raises(ValueError, match=r"several other arrays \(seen, whole\).*--key=seen"):
            read_grids(path)
        np.testing.assert_array_equal(read_grids(path, key="seen")[0] > 0.5, GRID)
        assert load_shape(path, 16, key="seen").occupancy.sum() == GRID.sum()
        with pytest.raises(ValueError, match="no (key|variable) 'none'"):
            read_grids(path, key="none")


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float64])
def test_files_of_matlab_7_3_are_read_in_matlabs_order(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB's header lies before HDF5's
        stored = GRID.T.astype(np.uint8 if kind is bool else kind)
        data = file.create_dataset("instance", data=stored, compression="gzip")
        data.attrs["MATLAB_class"] = np.bytes_("logical" if kind is bool else "double")
    content = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + content[512:])
    np.testing.assert_array_equal(read_grids(path)[0] > 0.5, GRID)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["5", "5 packed", "7.3"]), st.floats(0, 1), st.binary(min_size=1, max_size=4)
)
def test_a_damaged_matlab_file_is_read_or_refused(tmp_path_factory, version, place, new):
    path = tmp_path_factory.mktemp("damaged") / "a.mat"
    variables = {"instance": GRID.astype(np.uint8), "label": 3.0}
    if version == "7.3":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in variables.items():
                file[name] = values
    else:
        scipy_io.savemat(path, variables, do_compression=version != "5")
    content = path.read_bytes()
    at = int(place * len(content))
    path.write_bytes(content[:at] + new + content[at + len(new) :])
    try:
        assert read_grids(path).ndim == 4
    except ValueError as error:
        assert "a.mat" in str(error)


def test_a_matlab_file_that_killed_scipys_reader_is_refused(tmp_path):
    scipy_io.savemat(tmp_path / "a.mat", {"a": GRID.astype(np.uint8)})
    content = (tmp_path / "a.mat").read_bytes()
    flags = content.index(struct.pack("<II", 6, 8)) + 8
    (tmp_path / "a.mat").write_bytes(content[:flags] + b"\x09\xff" + content[flags + 2 :])
    with pytest.raises(ValueError, match="of the class complex logical, and must be numbers"):
        read_grids(tmp_path / "a.mat")


def test_a_file_of_matlab_7_3_that_claims_too_much_or_points_elsewhere_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["instance"] = GRID
    with h5py.File(tmp_path / "link.mat", "w") as file:
        file["instance"] = h5py.ExternalLink(str(secret), "/instance")
    with pytest.raises(ValueError, match="nor another array of grids"):
        read_grids(tmp_path / "link.mat")
    with h5py.File(tmp_path / "large.mat", "w") as file:
        file.create_dataset("instance", (600, 600, 600), "u1", chunks=(10, 10, 10))
    with pytest.raises(ValueError, match="too large to read or to be in the file"):
        read_grids(tmp_path / "large.mat")
    (tmp_path / "cut.mat").write_bytes(secret.read_bytes()[:300])
    with pytest.raises(ValueError, match="damaged"):
        read_grids(tmp_path / "cut.mat")


@pytest.mark.parametrize("kind", [">f4", "<f2", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_width_and_order_are_read(tmp_path, kind, order):
    np.save(tmp_path / "a.npy", np.asarray(GRID.astype(kind), order=order))
    np.testing.assert_array_equal(read_grids(tmp_path / "a.npy")[0] > 0.5, GRID)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GRID.astype(np.uint8) * 255, "from 0 to 255"),
        (2.0 * GRID - 1, "from -1 to 1"),
        (np.where(GRID, np.nan, 0), "NaN"),
        (GRID.astype(complex), "complex128"),
        (GRID.astype(str), "must hold numbers"),
        (np.array([None, GRID], object), "Python objects"),
        (np.argwhere(GRID), "must be a batch"),
        (GRID.ravel(), "must be a batch"),
        (np.zeros((0, 8, 8, 8)), "is empty"),
        (np.zeros((8, 8, 8, 3), bool), "one grid of 3 channels"),
        (np.zeros((16, 16, 16, 4)), "one grid of 4 channels"),
    ],
)
def test_what_is_no_occupancy_is_refused(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    for read in (read_grids, open_grids):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "a.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_numpy_files_of_every_version_are_read(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, GRID, version)
    np.testing.assert_array_equal(read_grids(tmp_path / "a.npy")[0], GRID)


@pytest.mark.parametrize("shape", [(8, 9, 10), (1, 8, 9, 10), (8, 9, 10, 1), (1, 1, 8, 9, 10)])
def test_an_axis_for_channels_is_dropped(tmp_path, shape):
    np.save(tmp_path / "a.npy", GRID.reshape(shape))
    np.testing.assert_array_equal(read_grids(tmp_path / "a.npy"), GRID[None])


def test_what_rounding_leaves_beside_0_and_1_is_clipped(tmp_path):
    values = GRID * 1.0000002 - 1e-7
    np.save(tmp_path / "a.npy", values)
    found = read_grid_file(tmp_path / "a.npy").grids
    assert found.min() == 0 and found.max() == 1
    np.save(tmp_path / "a.npy", values * 2)
    with pytest.raises(ValueError, match="must lie in"):
        read_grids(tmp_path / "a.npy")
