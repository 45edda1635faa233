"""Files of grids give back what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descnet3d import grids, voxels

sizes = st.tuples(*[st.integers(1, 9)] * 3)
batches = st.tuples(st.integers(1, 4), sizes).map(lambda drawn: (drawn[0], *drawn[1]))
binary_grids = batches.flatmap(lambda shape: hnp.arrays(bool, shape))
grey_grids = batches.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
)
# Runs longer than a byte can count, which small random grids never have.
long_runs = st.lists(st.integers(1, 700), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(shapes=st.one_of(binary_grids, grey_grids), ending=st.sampled_from([".npz", ".npy"]))
def test_numpy_files_give_back_the_grids_and_their_type(tmp_path_factory, shapes, ending):
    path = tmp_path_factory.mktemp("grids") / f"shapes{ending}"
    assert grids.write_grids(path, shapes) == (path,)
    read = grids.read_grids(path)
    assert read.dtype == shapes.dtype
    np.testing.assert_array_equal(read, shapes)


@settings(max_examples=40, deadline=None)
@given(shapes=binary_grids)
def test_binvox_files_give_back_the_grids(tmp_path_factory, shapes):
    folder = tmp_path_factory.mktemp("grids")
    paths = grids.write_grids(folder / "shapes.binvox", shapes)
    assert sorted(folder.iterdir()) == list(paths)
    assert len(paths) == len(shapes)
    read = np.concatenate([grids.read_grids(path) for path in paths])
    np.testing.assert_array_equal(read, shapes)


@settings(max_examples=40, deadline=None)
@given(runs=long_runs)
def test_binvox_files_hold_runs_longer_than_a_byte_counts(tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("runs") / "a.binvox"
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    grid = np.resize(bits, (16, 15, 14))[None]
    grids.write_grids(path, grid)
    np.testing.assert_array_equal(grids.read_grids(path), grid)


def decode_binvox(content: bytes) -> tuple[list[int], np.ndarray]:
    """The format's specification, voxel by voxel: y runs fastest, then z, then x."""
    header, _, body = content.partition(b"data\n")
    lines = header.decode().splitlines()
    assert lines[0] == "#binvox 1"
    depth, height, width = (int(side) for side in lines[1].split()[1:])
    grid = np.zeros((depth, width, height), dtype=bool)  # x, y, z
    index = 0
    for value, count in zip(body[::2], body[1::2], strict=True):
        for place in range(index, index + count):
            x, rest = divmod(place, width * height)
            z, y = divmod(rest, width)
            grid[x, y, z] = value
        index += count
    assert index == depth * width * height
    return [depth, height, width], grid


def test_binvox_files_are_as_the_format_says(tmp_path):
    grid = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    grids.write_grids(tmp_path / "a.binvox", grid[None])
    content = (tmp_path / "a.binvox").read_bytes()
    sides, decoded = decode_binvox(content)
    assert sides == [3, 5, 4]
    np.testing.assert_array_equal(decoded, grid)
    assert b"\ntranslate 0 0 0\nscale 5\n" in content


def test_a_binvox_file_of_another_program_is_read(tmp_path):
    # One voxel, at x = 1, y = 2, z = 0 of a 2 x 3 x 2 grid: 1·(2·3) + 0·3 + 2 = 8 empty before it.
    content = b"#binvox 1\ndim 2 2 3\ntranslate -0.5 1.25e-3 3\nscale 7.5\ndata\n\0\x08\1\1\0\3"
    (tmp_path / "a.binvox").write_bytes(content)
    shapes = grids.read_grids(tmp_path / "a.binvox")
    assert shapes.shape == (1, 2, 3, 2)
    assert np.argwhere(shapes).tolist() == [[0, 1, 2, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a binvox file"),
        (b"#binvox 2\ndim 1 1 1\ndata\n\1\1", "not a binvox file of version 1"),
        (b"#binvox 1\ndim 1 1 1\n", "cut short"),
        (b"#binvox 1\nscale 1\ndata\n\1\1", "no line `dim"),
        (b"#binvox 1\ndim 1 -1 1\ndata\n\1\1", "no line `dim"),
        (b"#binvox 1\ndim 0 1 1\ndata\n", "a side is 1 to 1024"),
        (b"#binvox 1\ndim 9999999999 1 1\ndata\n\1\1", "a side is 1 to 1024"),
        (b"#binvox 1\ndim 2 1 1\ndata\n\1\1", "it holds 1 voxels, where its header promises 2"),
        (b"#binvox 1\ndim 2 1 1\ndata\n\1\3", "it holds 3 voxels"),
        (b"#binvox 1\ndim 2 1 1\ndata\n\1\2\1", "no length"),
        (b"#binvox 1\ndim 2 1 1\ndata\n\7\2", "one is 7"),
    ],
)
def test_a_damaged_binvox_file_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "a.binvox").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        grids.read_grids(tmp_path / "a.binvox")


def test_grids_are_read_from_a_voxel_archive_and_from_a_single_grid(tmp_path):
    archive = voxels.VoxelArchive(
        np.random.default_rng(0).random((2, 3, 4, 5)) < 0.3,
        np.array([0, 1]),
        ("chair", "sofa"),
        np.array([False, True]),
        ("a", "b"),
    )
    voxels.write_archive(tmp_path / "packed.npz", archive)
    np.testing.assert_array_equal(grids.read_grids(tmp_path / "packed.npz"), archive.occupancy)
    np.save(tmp_path / "one.npy", np.asfortranarray(archive.occupancy[0]))
    np.testing.assert_array_equal(grids.read_grids(tmp_path / "one.npy")[0], archive.occupancy[0])


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_numpy_file_with_a_damaged_header_is_read_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("header") / "a.npy"
    grids.write_grids(path, np.ones((2, 3, 3, 3), np.float32))
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    try:
        assert grids.read_grids(path).ndim == 4
    except ValueError as error:
        assert "a.npy" in str(error)


def test_what_cannot_be_read_or_written_as_grids_is_named(tmp_path):
    shapes = np.full((2, 3, 3, 3), 0.5)
    with pytest.raises(ValueError, match="threshold it first"):
        grids.write_grids(tmp_path / "a.binvox", shapes)
    with pytest.raises(
        ValueError, match=r"\.npz, \.npy, \.binvox files, and path came as .*a\.mat"
    ):
        grids.write_grids(tmp_path / "a.mat", shapes)
    with pytest.raises(ValueError, match="does not exist"):
        grids.write_grids(tmp_path / "missing" / "a.npz", shapes)
    assert list(tmp_path.iterdir()) == []

    np.save(tmp_path / "wide.npy", np.full((1, 2, 2, 2), 9))
    with pytest.raises(ValueError, match=r"wide\.npy must lie in \[0, 1\]"):
        grids.read_grids(tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        grids.read_grids(tmp_path / "objects.npy")
    np.savez(tmp_path / "other.npz", voxels=np.zeros((1, 2, 2, 2)))
    with pytest.raises(ValueError, match="no key 'occupancy'; it holds: voxels"):
        grids.read_grids(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="there is no file"):
        grids.read_grids(tmp_path / "none.npy")
    whole = (tmp_path / "wide.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"cut\.npy"):
        grids.read_grids(tmp_path / "cut.npy")
