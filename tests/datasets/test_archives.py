"""Archives give back what was put in, or say what is wrong with them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descnet3d.datasets.archives import VoxelArchive, read_archive, write_archive

sizes = st.tuples(*[st.integers(1, 9)] * 3)
batches = st.tuples(st.integers(1, 4), sizes).map(lambda drawn: (drawn[0], *drawn[1]))
binary_grids = batches.flatmap(lambda shape: hnp.arrays(bool, shape))


def an_archive(count=6, size=(3, 4, 5), seed=0) -> VoxelArchive:
    random = np.random.default_rng(seed)
    return VoxelArchive(
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


@settings(max_examples=30, deadline=None)
@given(occupancy=binary_grids, data=st.data())
def test_an_archive_comes_back_as_it_was(tmp_path_factory, occupancy, data):
    count = len(occupancy)
    archive = VoxelArchive(
        occupancy,
        np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))),
        ("bed", "sofa"),
        np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        tuple(data.draw(st.lists(st.text("aé_1", max_size=4), min_size=count, max_size=count))),
    )
    path = tmp_path_factory.mktemp("archive") / "shapes.npz"
    write_archive(path, archive)
    assert_same_archives(read_archive(path), archive)


def test_an_archive_is_packed_as_its_description_says(tmp_path):
    archive = an_archive()
    write_archive(tmp_path / "a.npz", archive)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        bits = np.unpackbits(arrays["voxels_packed"], axis=1)[:, : 3 * 4 * 5]
        np.testing.assert_array_equal(bits.reshape(-1, *arrays["shape"]), archive.occupancy)
        assert arrays["labels"].dtype == np.uint8


def test_a_part_of_an_archive_is_what_indexing_the_whole_gives(tmp_path):
    path = tmp_path / "a.npz"
    whole = an_archive(12)
    write_archive(path, whole)
    for category in (None, *whole.classes):
        for split in (None, "train", "test"):
            rows = np.ones(12, bool)
            if category:
                rows &= np.array(whole.classes)[whole.labels] == category
            if split:
                rows &= whole.is_test == (split == "test")
            expected = VoxelArchive(
                whole.occupancy[rows],
                whole.labels[rows],
                whole.classes,
                whole.is_test[rows],
                tuple(np.array(whole.ids)[rows]),
            )
            assert_same_archives(read_archive(path, category, split), expected)


def test_without_a_split_and_names_all_are_training_shapes_with_names_of_their_own(tmp_path):
    path = tmp_path / "a.npz"
    archive = an_archive()
    write_archive(path, archive)
    with np.load(path) as arrays:
        kept = {key: arrays[key] for key in arrays.files if key not in ("is_test", "ids")}
    np.savez(path, **kept)
    read = read_archive(path)
    np.testing.assert_array_equal(read.occupancy, archive.occupancy)
    assert not read.is_test.any()
    assert len(set(read.ids)) == 6
    assert read_archive(path, "sofa").ids == tuple(
        name for name in read.ids if name.startswith("sofa")
    )
    with pytest.raises(ValueError, match="holds no test shapes"):
        read_archive(path, split="test")


@pytest.mark.parametrize("wrong", ["nightstand", "Night Stand", "night_stnad"])
def test_a_category_that_is_nearly_right_is_suggested(tmp_path, wrong):
    write_archive(tmp_path / "a.npz", an_archive())
    with pytest.raises(ValueError, match='Did you mean "night_stand"?.*chair, night_stand, sofa'):
        read_archive(tmp_path / "a.npz", wrong)


def test_a_category_that_is_nothing_like_any_gets_the_list_alone(tmp_path):
    write_archive(tmp_path / "a.npz", an_archive())
    with pytest.raises(ValueError, match="It has: chair, night_stand, sofa") as raised:
        read_archive(tmp_path / "a.npz", "xylophone")
    assert "Did you mean" not in str(raised.value)
    with pytest.raises(ValueError, match="split must be"):
        read_archive(tmp_path / "a.npz", split="validation")


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
    write_archive(path, an_archive())
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
        read_archive(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_missing_or_no_archive_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.npz"):
        read_archive(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ValueError, match="is not an .npz archive, or is cut short"):
        read_archive(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="cannot be read"):
        read_archive(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_read_right_or_refused_with_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    archive = an_archive()
    write_archive(path, archive)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut short"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read = read_archive(path)
    except ValueError as error:
        assert "a.npz" in str(error)
    else:
        # What is left of an archive has the checksum of every array, so it is right, or the key
        # of an optional array was lost.
        np.testing.assert_array_equal(read.occupancy, archive.occupancy)


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
            write_archive(path, wrong)
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        write_archive(tmp_path / "a.zip", archive)
    assert list(tmp_path.iterdir()) == []


def test_modelnet10_has_the_counts_of_its_description(modelnet10):
    archive = read_archive(modelnet10)
    assert archive.occupancy.shape == (4899, 32, 32, 32)
    assert (~archive.is_test).sum() == 3991
    toilets = read_archive(modelnet10, "toilet", "train")
    assert len(toilets.occupancy) == 344
    assert toilets.occupancy.mean() == pytest.approx(0.084, abs=0.002)
