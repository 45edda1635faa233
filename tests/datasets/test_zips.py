"""Archives from strangers: what is honest comes out whole, what is not is refused by name."""

import io
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from descnet3d.datasets import zips
from descnet3d.datasets.zips import ArchiveError, ZipArchive


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder in a folder, so that what lands outside of it is seen."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner


def pack(*members, path="shapes.zip", compression=zipfile.ZIP_DEFLATED):
    """A zip of members, each (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return Path(path)


def info(name, mode=0, **attributes):
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    made.compress_type = zipfile.ZIP_DEFLATED
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def test_an_honest_archive_comes_out_whole():
    content = os.urandom(3_000_000)
    path = pack(("chair/", ""), ("chair/train/a.off", content), ("chair/b.off", ""))
    with ZipArchive(path) as archive:
        assert archive.names == ("chair/train/a.off", "chair/b.off")
        assert archive.read("chair/train/a.off") == content
        target = archive.unpack("chair/train/a.off", "here.off")
        assert target.read_bytes() == content
        assert archive.unpack("chair/b.off", "here.off").read_bytes() == b""
    assert sorted(os.listdir()) == ["here.off", "shapes.zip"]


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_links_that_lie_at_the_target_are_not_followed(how):
    Path("precious").write_bytes(b"precious")
    Path("target").symlink_to("precious")
    with ZipArchive(pack(("a", b"new"), compression=how)) as archive:
        archive.unpack("a", "target")
    assert Path("precious").read_bytes() == b"precious"
    assert Path("target").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil.off", "x")], r"'../evil.off' points outside"),
        ([("chair/../../evil.off", "x")], "points outside"),
        ([("chair/..", "x")], "points outside"),
        ([("..\\evil.off", "x")], "points outside"),
        ([("chair\\..\\..\\evil.off", "x")], "points outside"),
        ([("./../evil.off", "x")], "points outside"),
        ([(".//evil.off", "x")], "is no plain path"),
        ([("/etc/evil.off", "x")], "'/etc/evil.off' is an absolute path"),
        ([("\\\\server\\evil.off", "x")], "is an absolute path"),
        ([("C:/evil.off", "x")], "'C:/evil.off' is an absolute path"),
        ([("c:evil.off", "x")], "is an absolute path"),
        ([("chair//evil.off", "x")], "is no plain path"),
        ([("chair/./evil.off", "x")], "is no plain path"),
        ([("chair/a.off", "x"), ("chair\\a.off", "y")], "is there twice"),
        (
            [("good.off", "x"), (info("link.off", stat.S_IFLNK | 0o777), "/etc")],
            "'link.off' is a s",
        ),
        ([(info("pipe.off", stat.S_IFIFO | 0o666), "")], "'pipe.off' is neither a file nor"),
        ([(info("device.off", stat.S_IFCHR | 0o666), "")], "is neither a file nor"),
        ([("good.off", "x"), ("bomb.off", bytes(20_000_000))], "'bomb.off' would unpack from"),
    ],
)
def test_a_hostile_member_is_refused_by_its_name(members, message):
    path = pack(("good/honest.off", "x"), *members)
    with pytest.raises(ArchiveError, match=message) as caught:
        ZipArchive(path)
    assert str(caught.value).startswith("shapes.zip is refused, with nothing unpacked: ")
    assert os.listdir() == ["shapes.zip"] and os.listdir("..") == ["inner"]


def test_the_ways_of_other_packers_name_the_same_files():
    path = pack(("./chair/a.off", "one"), ("chair\\train\\b c.off", "two"), ("chair\\", ""))
    with ZipArchive(path) as archive:
        assert archive.names == ("chair/a.off", "chair/train/b c.off")
        assert archive.read("chair/a.off") == b"one"
        assert archive.read("chair/train/b c.off") == b"two"


def test_names_in_an_old_alphabet_are_read_and_those_that_lie_are_refused():
    path = pack(("chair/st\u00fchl.off", "x"))
    content = path.read_bytes().replace("\u00fc".encode(), b"\x81e")  # as CP437 has it
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"claims that its names are UTF-8, and b'chair/st"):
        ZipArchive(path)
    content = bytearray(content)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<H", content, content.index(signature) + offset, 0)
    path.write_bytes(content)
    with ZipArchive(path) as archive:
        assert archive.names == ("chair/st\u00fcehl.off",)
        assert archive.read("chair/st\u00fcehl.off") == b"x"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    with pytest.raises(ArchiveError, match="'a.off' is there twice"):
        ZipArchive(pack(("a.off", "one"), ("a.off", "two")))
    with pytest.raises(ArchiveError, match="'a' is there twice"):
        ZipArchive(pack(("a", "a file"), ("a/", "")))


def test_an_encrypted_member_is_refused():
    path = pack(("secret.off", "x"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flags of the central directory's entry
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="'secret.off' is encrypted"):
        ZipArchive(path)


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(how):
    with pytest.raises(ArchiveError, match="packed in a way that is not read"):
        ZipArchive(pack(("a.off", "x"), compression=how))


@pytest.mark.parametrize(
    ("limit", "names"), [("MAX_MEMBER_BYTES", "ac"), ("MAX_TOTAL_BYTES", "bc")]
)
def test_what_is_too_large_is_refused_before_it_is_unpacked(limit, names, monkeypatch):
    monkeypatch.setattr(zips, limit, 5000)
    path = pack(*((name, os.urandom(3000)) for name in names[:1]), (names[1], os.urandom(6000)))
    with pytest.raises(ArchiveError, match="'c' would unpack to 6000 bytes, 9000 in all"):
        ZipArchive(path)


def test_a_bomb_that_lies_about_its_size_does_not_go_off():
    path = pack(("bomb.off", bytes(50_000_000)))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, 1000)
    path.write_bytes(content)
    tracemalloc.start()
    with ZipArchive(path) as archive, pytest.raises(ArchiveError, match="damaged at 'bomb.off'"):
        archive.unpack("bomb.off", "out.off")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert os.listdir() == ["shapes.zip"]


def test_members_that_share_their_bytes_are_refused():
    """Many entries for one stretch of the file: small, and a petabyte when unpacked."""
    one = pack(("a", os.urandom(100_000)))
    content = one.read_bytes()
    start = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    entry = content[start:end]
    entries = b"".join(entry[:-1] + bytes([97 + number]) for number in range(20))
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 20, 20, len(entries), start, 0)
    one.write_bytes(content[:start] + entries + tail)
    with pytest.raises(ArchiveError, match="'b' claims bytes that the file"):
        ZipArchive(one)


def test_an_endless_table_of_contents_is_not_read(monkeypatch):
    monkeypatch.setattr(zips, "_MAX_TABLE_BYTES", 1000)
    path = pack(*((f"{number:03d}.off", "") for number in range(100)))
    with pytest.raises(ArchiveError, match="its table of contents takes 5300 bytes"):
        ZipArchive(path)


def test_damaged_archives_are_said_to_be_damaged():
    whole = pack(("a.off", os.urandom(10_000)), ("b.off", os.urandom(10_000))).read_bytes()
    with pytest.raises(ArchiveError, match="there is no file nowhere.zip"):
        ZipArchive("nowhere.zip")
    with pytest.raises(ArchiveError, match=". cannot be read: Is a directory"):
        ZipArchive(".")
    for content in (b"", b"OFF\n", whole[:-30], whole[: len(whole) // 2]):
        Path("cut.zip").write_bytes(content)
        with pytest.raises(ArchiveError, match="cut.zip is not a zip archive, or is cut short"):
            ZipArchive("cut.zip")
    flipped = bytearray(whole)
    flipped[5000] ^= 1
    Path("flipped.zip").write_bytes(flipped)
    with ZipArchive("flipped.zip") as archive:
        with pytest.raises(ArchiveError, match="flipped.zip is damaged at 'a.off'"):
            archive.unpack("a.off", "a.off")
        assert len(archive.read("b.off")) == 10_000
    assert not Path("a.off").exists()


def test_whatever_bytes_come_no_other_error_leaves():
    whole = bytearray(pack(("a.off", "some text " * 50), ("b/c.off", "x")).read_bytes())
    for position in range(len(whole)):
        for value in (0x00, 0xFF, whole[position] ^ 0x10):
            broken = bytearray(whole)
            broken[position] = value
            Path("broken.zip").write_bytes(broken)
            try:
                with ZipArchive("broken.zip") as archive:
                    for name in archive.names:
                        archive.read(name)
            except ArchiveError:
                pass


def test_a_zip_behind_other_bytes_is_a_zip_all_the_same():
    path = pack(("a.off", "x"))
    path.write_bytes(io.BytesIO(b"#!/bin/sh\n").getvalue() + path.read_bytes())
    with ZipArchive(path) as archive:
        assert archive.read("a.off") == b"x"
