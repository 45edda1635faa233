"""Occupancy enters by one door, and files give back what was put in."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descnet3d import voxels

sizes = st.tuples(*[st.integers(1, 9)] * 3)
batches = st.tuples(st.integers(1, 4), sizes).map(lambda drawn: (drawn[0], *drawn[1]))
binary_grids = batches.flatmap(lambda shape: hnp.arrays(bool, shape))
grey_grids = batches.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
)
# Runs longer than a byte can count, which small random grids never have.
long_runs = st.lists(st.integers(1, 700), min_size=1, max_size=6)


def an_archive(count=6, size=(3, 4, 5), seed=0) -> voxels.VoxelArchive:
    random = np.random.default_rng(seed)
    return voxels.VoxelArchive(
        occupancy=random.random((count, *size)) < 0.3,
        labels=np.arange(count) % 3,
        classes=("chair", "night_stand", "sofa"),
        is_test=np.arange(count) >= count // 2,
        ids=tuple(f"shape_{index}" for index in range(count)),
    )


def assert_same_archives(one, other):
    np.testing.assert_array_equal(one.occupancy, other.occupancy)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.is_test, other.is_test)
    assert one.classes == other.classes
    assert one.ids == other.ids


# --- as_occupancy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_every_kind_of_number_comes_out_as_float32(dtype):
    shapes = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 5)).astype(dtype)
    occupancy = voxels.as_occupancy(shapes)
    assert occupancy.dtype == np.float32
    np.testing.assert_array_equal(occupancy, shapes)
    np.testing.assert_array_equal(voxels.as_occupancy(shapes[..., None]), shapes)
    np.testing.assert_array_equal(voxels.as_occupancy(shapes.tolist()), shapes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (np.zeros((4, 4, 4)), r"came as one grid \[4, 4, 4\]; add a leading axis: mine\[None\]"),
        (np.zeros((4, 4)), r"came with shape \[4, 4\]"),
        (np.zeros((2, 4, 4, 4, 2)), r"came with shape \[2, 4, 4, 4, 2\]"),
        (np.zeros((0, 4, 4, 4)), "mine is empty"),
        (np.zeros((2, 0, 4, 4)), "mine is empty"),
        (np.full((1, 2, 2, 2), np.nan), "mine holds 8 values that are NaN or infinite"),
        (np.full((1, 2, 2, 2), -np.inf), "NaN or infinite"),
        (np.full((1, 2, 2, 2), 255, np.uint8), r"must lie in \[0, 1\].*from 255 to 255"),
        (np.full((1, 2, 2, 2), -0.1), "from -0.1 to -0.1"),
        (np.full((1, 2, 2, 2), "1"), "mine must hold numbers"),
        (np.ones((1, 2, 2, 2), complex), "mine must hold numbers, and came as complex128"),
        ([[[[1]]], [[[1, 1]]]], "same size"),
        (None, "mine must hold numbers"),
    ],
)
def test_what_is_no_occupancy_is_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        voxels.as_occupancy(shapes, "mine")


def test_the_size_of_the_grid_is_checked_where_one_is_needed():
    shapes = np.zeros((2, 4, 4, 4))
    assert voxels.as_occupancy(shapes, size=(4, 4, 4)).shape == (2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"grids of size \[8, 8, 8\]"):
        voxels.as_occupancy(shapes, size=(8, 8, 8))
    with pytest.raises(ValueError, match="drop the last axis"):
        voxels.as_occupancy(np.zeros((4, 4, 4, 1)), size=(4, 4, 4))


# --- Archives -------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(occupancy=binary_grids, data=st.data())
def test_an_archive_comes_back_as_it_was(tmp_path_factory, occupancy, data):
    count = len(occupancy)
    archive = voxels.VoxelArchive(
        occupancy,
        np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))),
        ("bed", "sofa"),
        np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        tuple(data.draw(st.lists(st.text("aé_1", max_size=4), min_size=count, max_size=count))),
    )
    path = tmp_path_factory.mktemp("archive") / "shapes.npz"
    voxels.write_archive(path, archive)
    assert_same_archives(voxels.read_archive(path), archive)


def test_an_archive_is_packed_as_its_description_says(tmp_path):
    archive = an_archive()
    voxels.write_archive(tmp_path / "a.npz", archive)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        bits = np.unpackbits(arrays["voxels_packed"], axis=1)[:, : 3 * 4 * 5]
        np.testing.assert_array_equal(bits.reshape(-1, *arrays["shape"]), archive.occupancy)
        assert arrays["labels"].dtype == np.uint8


def test_a_part_of_an_archive_is_what_indexing_the_whole_gives(tmp_path):
    path = tmp_path / "a.npz"
    whole = an_archive(12)
    voxels.write_archive(path, whole)
    for category in (None, *whole.classes):
        for split in (None, "train", "test"):
            rows = np.ones(12, bool)
            if category:
                rows &= np.array(whole.classes)[whole.labels] == category
            if split:
                rows &= whole.is_test == (split == "test")
            expected = voxels.VoxelArchive(
                whole.occupancy[rows],
                whole.labels[rows],
                whole.classes,
                whole.is_test[rows],
                tuple(np.array(whole.ids)[rows]),
            )
            assert_same_archives(voxels.read_archive(path, category, split), expected)


def test_without_a_split_and_names_all_are_training_shapes_with_names_of_their_own(tmp_path):
    path = tmp_path / "a.npz"
    archive = an_archive()
    voxels.write_archive(path, archive)
    with np.load(path) as arrays:
        kept = {key: arrays[key] for key in arrays.files if key not in ("is_test", "ids")}
    np.savez(path, **kept)
    read = voxels.read_archive(path)
    np.testing.assert_array_equal(read.occupancy, archive.occupancy)
    assert not read.is_test.any()
    assert len(set(read.ids)) == 6
    assert voxels.read_archive(path, "sofa").ids == tuple(
        name for name in read.ids if name.startswith("sofa")
    )
    with pytest.raises(ValueError, match="holds no test shapes"):
        voxels.read_archive(path, split="test")


@pytest.mark.parametrize("wrong", ["nightstand", "Night Stand", "night_stnad"])
def test_a_category_that_is_nearly_right_is_suggested(tmp_path, wrong):
    voxels.write_archive(tmp_path / "a.npz", an_archive())
    with pytest.raises(ValueError, match='Did you mean "night_stand"?.*chair, night_stand, sofa'):
        voxels.read_archive(tmp_path / "a.npz", wrong)


def test_a_category_that_is_nothing_like_any_gets_the_list_alone(tmp_path):
    voxels.write_archive(tmp_path / "a.npz", an_archive())
    with pytest.raises(ValueError, match="It has: chair, night_stand, sofa") as raised:
        voxels.read_archive(tmp_path / "a.npz", "xylophone")
    assert "Did you mean" not in str(raised.value)
    with pytest.raises(ValueError, match="split must be"):
        voxels.read_archive(tmp_path / "a.npz", split="validation")


def npy_with_header(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"voxels_packed": None}, "no key 'voxels_packed'; it holds: classes"),
        ({"shape": None}, "no key 'shape'"),
        ({"labels": None}, "no key 'labels'"),
        ({"shape": np.array([3, 4, 6])}, r"need uint8 \[n, 9\]"),
        ({"shape": np.array([3, 4])}, "three whole numbers"),
        ({"shape": np.array([3, 4, -5])}, "a side is 1 to 1024 voxels"),
        ({"shape": np.array([3, 4, 2**62])}, "a side is 1 to 1024 voxels"),
        ({"labels": np.array([0, 1, 2, 3, 0, 1])}, "labels run from 0 to 3"),
        ({"labels": np.zeros(5, int)}, "one whole number for each of the 6 shapes"),
        ({"classes": np.array(["a", "a", "b"])}, "different names"),
        ({"is_test": np.zeros(5, bool)}, r"needs bool \[6\]"),
        ({"ids": np.arange(6)}, "not 6 names"),
        ({"labels": npy_with_header("(6,)", "|O")}, "Python objects"),
        ({"voxels_packed": npy_with_header("(4000000000000, 8)")}, "too short for it"),
        ({"voxels_packed": npy_with_header("(6, 8)")}, "too short for it"),
        ({"voxels_packed": npy_with_header("(-6, 8)")}, "the file is damaged"),
        ({"voxels_packed": b"nothing of numpy"}, "not a numpy array"),
    ],
)
def test_an_archive_whose_parts_do_not_fit_is_one_clear_error(tmp_path, changed, message):
    path = tmp_path / "a.npz"
    voxels.write_archive(path, an_archive())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for key, value in changed.items():
        if isinstance(value, np.ndarray):
            stream = io.BytesIO()
            np.save(stream, value)
            value = stream.getvalue()
        members[f"{key}.npy"] = value
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    with pytest.raises(ValueError, match=message) as raised:
        voxels.read_archive(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_missing_or_no_archive_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.npz"):
        voxels.read_archive(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ValueError, match="is not an .npz archive, or is cut short"):
        voxels.read_archive(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="cannot be read"):
        voxels.read_archive(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_read_right_or_refused_with_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    archive = an_archive()
    voxels.write_archive(path, archive)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut short"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read = voxels.read_archive(path)
    except ValueError as error:
        assert "a.npz" in str(error)
    else:
        # What is left of an archive has the checksum of every array, so it is right, or the key
        # of an optional array was lost.
        np.testing.assert_array_equal(read.occupancy, archive.occupancy)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_numpy_file_with_a_damaged_header_is_read_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("header") / "a.npy"
    voxels.write_grids(path, np.ones((2, 3, 3, 3), np.float32))
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    try:
        assert voxels.read_grids(path).ndim == 4
    except ValueError as error:
        assert "a.npy" in str(error)


def test_an_archive_of_parts_that_do_not_fit_is_not_written(tmp_path):
    archive = an_archive()
    path = tmp_path / "a.npz"
    for wrong in (
        archive._replace(labels=np.zeros(5, int)),
        archive._replace(labels=np.full(6, 3)),
        archive._replace(is_test=np.zeros(5, bool)),
        archive._replace(ids=("a",)),
        archive._replace(occupancy=np.full((6, 3, 4, 5), 0.5)),
    ):
        with pytest.raises(ValueError, match="archive"):
            voxels.write_archive(path, wrong)
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        voxels.write_archive(tmp_path / "a.zip", archive)
    assert list(tmp_path.iterdir()) == []


def test_modelnet10_has_the_counts_of_its_description(modelnet10):
    archive = voxels.read_archive(modelnet10)
    assert archive.occupancy.shape == (4899, 32, 32, 32)
    assert (~archive.is_test).sum() == 3991
    toilets = voxels.read_archive(modelnet10, "toilet", "train")
    assert len(toilets.occupancy) == 344
    assert toilets.occupancy.mean() == pytest.approx(0.084, abs=0.002)


# --- Files of grids -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(grids=st.one_of(binary_grids, grey_grids), ending=st.sampled_from([".npz", ".npy"]))
def test_numpy_files_give_back_the_grids_and_their_type(tmp_path_factory, grids, ending):
    path = tmp_path_factory.mktemp("grids") / f"shapes{ending}"
    assert voxels.write_grids(path, grids) == (path,)
    read = voxels.read_grids(path)
    assert read.dtype == grids.dtype
    np.testing.assert_array_equal(read, grids)


@settings(max_examples=40, deadline=None)
@given(grids=binary_grids)
def test_binvox_files_give_back_the_grids(tmp_path_factory, grids):
    folder = tmp_path_factory.mktemp("grids")
    paths = voxels.write_grids(folder / "shapes.binvox", grids)
    assert sorted(folder.iterdir()) == list(paths)
    assert len(paths) == len(grids)
    read = np.concatenate([voxels.read_grids(path) for path in paths])
    np.testing.assert_array_equal(read, grids)


@settings(max_examples=40, deadline=None)
@given(runs=long_runs)
def test_binvox_files_hold_runs_longer_than_a_byte_counts(tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("runs") / "a.binvox"
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    grid = np.resize(bits, (16, 15, 14))[None]
    voxels.write_grids(path, grid)
    np.testing.assert_array_equal(voxels.read_grids(path), grid)


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
    voxels.write_grids(tmp_path / "a.binvox", grid[None])
    content = (tmp_path / "a.binvox").read_bytes()
    sides, decoded = decode_binvox(content)
    assert sides == [3, 5, 4]
    np.testing.assert_array_equal(decoded, grid)
    assert b"\ntranslate 0 0 0\nscale 5\n" in content


def test_a_binvox_file_of_another_program_is_read(tmp_path):
    # One voxel, at x = 1, y = 2, z = 0 of a 2 x 3 x 2 grid: 1·(2·3) + 0·3 + 2 = 8 empty before it.
    content = b"#binvox 1\ndim 2 2 3\ntranslate -0.5 1.25e-3 3\nscale 7.5\ndata\n\0\x08\1\1\0\3"
    (tmp_path / "a.binvox").write_bytes(content)
    grids = voxels.read_grids(tmp_path / "a.binvox")
    assert grids.shape == (1, 2, 3, 2)
    assert np.argwhere(grids).tolist() == [[0, 1, 2, 0]]


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
        voxels.read_grids(tmp_path / "a.binvox")


def test_grids_are_read_from_a_voxel_archive_and_from_a_single_grid(tmp_path):
    archive = an_archive()
    voxels.write_archive(tmp_path / "packed.npz", archive)
    np.testing.assert_array_equal(voxels.read_grids(tmp_path / "packed.npz"), archive.occupancy)
    np.save(tmp_path / "one.npy", np.asfortranarray(archive.occupancy[0]))
    np.testing.assert_array_equal(voxels.read_grids(tmp_path / "one.npy")[0], archive.occupancy[0])


def test_what_cannot_be_read_or_written_as_grids_is_named(tmp_path):
    grids = np.full((2, 3, 3, 3), 0.5)
    with pytest.raises(ValueError, match="threshold it first"):
        voxels.write_grids(tmp_path / "a.binvox", grids)
    with pytest.raises(
        ValueError, match=r"\.npz, \.npy, \.binvox files, and path came as .*a\.mat"
    ):
        voxels.write_grids(tmp_path / "a.mat", grids)
    with pytest.raises(ValueError, match="does not exist"):
        voxels.write_grids(tmp_path / "missing" / "a.npz", grids)
    assert list(tmp_path.iterdir()) == []

    np.save(tmp_path / "wide.npy", np.full((1, 2, 2, 2), 9))
    with pytest.raises(ValueError, match=r"wide\.npy must lie in \[0, 1\]"):
        voxels.read_grids(tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        voxels.read_grids(tmp_path / "objects.npy")
    np.savez(tmp_path / "other.npz", voxels=np.zeros((1, 2, 2, 2)))
    with pytest.raises(ValueError, match="no key 'occupancy'; it holds: voxels"):
        voxels.read_grids(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="there is no file"):
        voxels.read_grids(tmp_path / "none.npy")
    whole = (tmp_path / "wide.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"cut\.npy"):
        voxels.read_grids(tmp_path / "cut.npy")
