"""Files of grids give back what was put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descnet3d.datasets.archives import VoxelArchive, write_archive
from descnet3d.datasets.grid_files import open_grids, read_grid_file, read_grids, write_grids
from descnet3d.shapes.transform import GridTransform

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
    assert write_grids(path, shapes) == (path,)
    read = read_grids(path)
    assert read.dtype == shapes.dtype
    np.testing.assert_array_equal(read, shapes)


forms = st.sampled_from(["batch", "channel last", "channel second", "one", "backwards", "rows"])


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.one_of(binary_grids, grey_grids),
    form=forms,
    ending=st.sampled_from([".npz", ".npy", ".mat"]),
    at=st.integers(0, 3),
)
def test_grids_that_are_read_some_at_a_time_are_those_that_are_read_at_once(
    tmp_path_factory, shapes, form, ending, at
):
    path = tmp_path_factory.mktemp("grids") / f"shapes{ending}"
    if ending == ".mat":
        write_grids(path, shapes[:1])
    else:
        changes = {
            "channel last": lambda grids: grids[..., None],
            "channel second": lambda grids: grids[:, None],
            "one": lambda grids: grids[0],
            "backwards": np.asfortranarray,
            "rows": lambda grids: grids[::-1],
        }
        written = changes.get(form, np.asarray)(shapes)
        if ending == ".npz":
            np.savez_compressed(path, occupancy=written)
        else:
            np.save(path, written)
    whole, some = read_grids(path), open_grids(path)
    assert some.shape == whole.shape[:4]
    for rows in (slice(at, at + 2), slice(0, 1), slice(0, 100)):  # onwards, and back
        if rows.start < len(whole):
            assert some.read(rows).dtype == np.float32
            np.testing.assert_array_equal(some.read(rows), whole[rows])


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_what_is_wrong_with_a_file_is_told_before_any_of_it_is_used(tmp_path, ending):
    path, shapes = tmp_path / f"shapes{ending}", np.ones((400, 4, 4, 4), "float32")
    write_grids(path, shapes)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"shapes.np[yz].* (cut short|too short)"):
        open_grids(path)
    shapes[399, 0, 0, 0] = 7
    (np.savez if ending == ".npz" else np.save)(path, shapes)
    with pytest.raises(ValueError, match=r"shapes.np[yz] must lie in \[0, 1\]"):
        open_grids(path)
    with pytest.raises(ValueError, match="missing.np"):
        open_grids(tmp_path / f"missing{ending}")


@settings(max_examples=40, deadline=None)
@given(shapes=binary_grids)
def test_binvox_files_give_back_the_grids(tmp_path_factory, shapes):
    folder = tmp_path_factory.mktemp("grids")
    paths = write_grids(folder / "shapes.binvox", shapes)
    assert sorted(folder.iterdir()) == list(paths)
    assert len(paths) == len(shapes)
    read = np.concatenate([read_grids(path) for path in paths])
    np.testing.assert_array_equal(read, shapes)


@settings(max_examples=40, deadline=None)
@given(runs=long_runs)
def test_binvox_files_hold_runs_longer_than_a_byte_counts(tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("runs") / "a.binvox"
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    grid = np.resize(bits, (16, 15, 14))[None]
    write_grids(path, grid)
    np.testing.assert_array_equal(read_grids(path), grid)


@settings(max_examples=40, deadline=None)
@given(shapes=st.one_of(binary_grids, grey_grids))
def test_matlab_files_give_back_the_grids_and_their_type(tmp_path_factory, shapes):
    folder = tmp_path_factory.mktemp("grids")
    paths = write_grids(folder / "shapes.mat", shapes)
    assert sorted(folder.iterdir()) == list(paths)
    read = np.concatenate([read_grids(path) for path in paths])
    assert read.dtype == shapes.dtype
    np.testing.assert_array_equal(read, shapes)


def test_a_matlab_file_as_3dshapenets_has_them_is_read(tmp_path):
    instance = np.random.default_rng(0).random((30, 30, 30)) < 0.1
    # Theirs are uint8, not compressed, and hold nothing else.
    scipy.io.savemat(tmp_path / "chair_1.mat", {"instance": instance.astype(np.uint8)})
    assert scipy.io.whosmat(tmp_path / "chair_1.mat") == [("instance", (30, 30, 30), "uint8")]
    read = read_grids(tmp_path / "chair_1.mat")
    assert read.dtype == bool and read.shape == (1, 30, 30, 30)
    np.testing.assert_array_equal(read[0], instance)
    assert read_grid_file(tmp_path / "chair_1.mat").transform is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600), "no HDF5 file"),
        (b"MATLAB 5.0 MAT-file" + b" " * 105 + b"\0\1IM" + b"\17\0\0\0\xff\xff\xff\x7f", "a.mat"),
        (bytes(200), "a.mat"),
        (b"#binvox 1\n" * 30, "a.mat"),
    ],
)
def test_what_is_no_matlab_file_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_grids(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"voxels": np.zeros((2, 2))}, "no 'instance', nor another.*; it holds: voxels"),
        ({"instance": np.array([{}, 1], object)}, "of the class cell"),
        ({"instance": {"field": 1.0}}, "of the class struct"),
        ({"instance": "words"}, "of the class char|must hold numbers"),
        ({"instance": np.full((2, 2, 2), 7.0)}, r"must lie in \[0, 1\]"),
        ({"instance": np.zeros((2, 2))}, r"a\.mat must be a batch"),
    ],
)
def test_a_matlab_file_of_something_else_is_named(tmp_path, variables, message):
    scipy.io.savemat(tmp_path / "a.mat", variables)
    with pytest.raises(ValueError, match=message):
        read_grids(tmp_path / "a.mat")


def test_a_matlab_variable_that_claims_too_much_is_refused_before_it_is_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"instance": np.zeros((2, 3, 4), np.uint8)})
    content = (tmp_path / "a.mat").read_bytes()
    honest, claimed = (np.array(sides, "<i4").tobytes() for sides in ((2, 3, 4), (2**10,) * 3))
    assert content.count(honest) == 1
    (tmp_path / "a.mat").write_bytes(content.replace(honest, claimed))
    with pytest.raises(ValueError, match=r"claims the shape \[1024, 1024, 1024\]"):
        read_grids(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(content[:-16])
    with pytest.raises(ValueError, match="damaged"):
        read_grids(tmp_path / "a.mat")


finite = st.floats(-1e6, 1e6)
transforms = st.builds(
    GridTransform,
    st.floats(1e-6, 1e6),
    st.tuples(finite, finite, finite),
    st.sampled_from(["z", "y"]),
    st.floats(-360, 360),
)


@settings(max_examples=40, deadline=None)
@given(transform=transforms, ending=st.sampled_from([".npz", ".mat", ".binvox"]))
def test_the_place_of_a_grid_is_kept_with_it(tmp_path_factory, transform, ending):
    path = tmp_path_factory.mktemp("grids") / f"a{ending}"
    if ending == ".binvox":
        transform = replace(transform, up="z", turn=0.0)
    grid = np.ones((1, 5, 5, 5), bool)
    write_grids(path, grid, transform)
    read = read_grid_file(path).transform
    if ending == ".binvox":  # scale and translation are those of the whole grid
        assert read.offset == transform.offset
        assert read.scale == pytest.approx(transform.scale, rel=1e-15)
    else:
        assert read == transform
    np.testing.assert_array_equal(read_grids(path), grid)


def test_a_place_that_a_file_cannot_hold_is_refused(tmp_path):
    grid = np.ones((1, 2, 2, 2), bool)
    with pytest.raises(ValueError, match=r"\.npy files hold no transform"):
        write_grids(tmp_path / "a.npy", grid, GridTransform(1.0, (0, 0, 0)))
    for turned in (GridTransform(1.0, (0, 0, 0), up="y"), GridTransform(1.0, (0, 0, 0), turn=30)):
        with pytest.raises(ValueError, match=r"\.binvox files hold only.*choose \.npz"):
            write_grids(tmp_path / "a.binvox", grid, turned)
    assert list(tmp_path.iterdir()) == []
    write_grids(tmp_path / "a.npz", grid)
    assert read_grid_file(tmp_path / "a.npz").transform is None
    np.savez(tmp_path / "b.npz", occupancy=grid, scale=-1, offset=np.zeros(3), up="z", turn=0)
    with pytest.raises(ValueError, match="b.npz is damaged: its transform"):
        read_grid_file(tmp_path / "b.npz")


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
    write_grids(tmp_path / "a.binvox", grid[None])
    content = (tmp_path / "a.binvox").read_bytes()
    sides, decoded = decode_binvox(content)
    assert sides == [3, 5, 4]
    np.testing.assert_array_equal(decoded, grid)
    assert b"\ntranslate 0 0 0\nscale 5\n" in content


def test_a_binvox_file_of_another_program_is_read(tmp_path):
    # One voxel, at x = 1, y = 2, z = 0 of a 2 x 3 x 2 grid: 1·(2·3) + 0·3 + 2 = 8 empty before it.
    content = b"#binvox 1\ndim 2 2 3\ntranslate -0.5 1.25e-3 3\nscale 7.5\ndata\n\0\x08\1\1\0\3"
    (tmp_path / "a.binvox").write_bytes(content)
    shapes = read_grids(tmp_path / "a.binvox")
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
        read_grids(tmp_path / "a.binvox")


def test_grids_are_read_from_a_voxel_archive_and_from_a_single_grid(tmp_path):
    archive = VoxelArchive(
        np.random.default_rng(0).random((2, 3, 4, 5)) < 0.3,
        np.array([0, 1]),
        ("chair", "sofa"),
        np.array([False, True]),
        ("a", "b"),
    )
    write_archive(tmp_path / "packed.npz", archive)
    np.testing.assert_array_equal(read_grids(tmp_path / "packed.npz"), archive.occupancy)
    np.save(tmp_path / "one.npy", np.asfortranarray(archive.occupancy[0]))
    np.testing.assert_array_equal(read_grids(tmp_path / "one.npy")[0], archive.occupancy[0])


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_numpy_file_with_a_damaged_header_is_read_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("header") / "a.npy"
    write_grids(path, np.ones((2, 3, 3, 3), np.float32))
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    try:
        assert read_grids(path).ndim == 4
    except ValueError as error:
        assert "a.npy" in str(error)


def test_what_cannot_be_read_or_written_as_grids_is_named(tmp_path):
    shapes = np.full((2, 3, 3, 3), 0.5)
    with pytest.raises(ValueError, match="threshold it first"):
        write_grids(tmp_path / "a.binvox", shapes)
    with pytest.raises(
        ValueError, match=r"\.npz, \.npy, \.binvox, \.mat files, and path is .*a\.vox"
    ):
        write_grids(tmp_path / "a.vox", shapes)
    assert list(tmp_path.iterdir()) == []

    np.save(tmp_path / "wide.npy", np.full((1, 2, 2, 2), 9))
    with pytest.raises(ValueError, match=r"wide\.npy must lie in \[0, 1\]"):
        read_grids(tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_grids(tmp_path / "objects.npy")
    np.savez(tmp_path / "other.npz", voxels=np.zeros((1, 2, 2, 2)), more=np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match="no 'occupancy', and several other.*: say which"):
        read_grids(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="there is no file"):
        read_grids(tmp_path / "none.npy")
    whole = (tmp_path / "wide.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"cut\.npy"):
        read_grids(tmp_path / "cut.npy")
