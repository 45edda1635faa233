"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from descnet3d import files
from descnet3d.datasets.shape_files import load_shape


def test_a_finished_block_puts_its_file_in_place_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "shapes.npz"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["shapes.npz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_removes_the_half_of_a_new_one(tmp_path, error):
    path = tmp_path / "shapes.npz"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as temporary:
        temporary.write_text("half of a new")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["shapes.npz"]


@pytest.mark.parametrize("name", ["a.npz", "model.weights.h5", "no_ending", "x" * 250 + ".png"])
def test_the_temporary_path_lies_beside_and_ends_the_same_way(tmp_path, name):
    with files.replacing(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name != name
        assert temporary.name.endswith(name[-16:])
        temporary.touch()
    assert os.listdir(tmp_path) == [name]


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with files.replacing(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").touch()
    with files.replacing(tmp_path / "ours") as temporary:
        temporary.touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_block_that_writes_nothing_is_reported(tmp_path):
    with pytest.raises(files.OutputError, match="left no file"), files.replacing(tmp_path / "a"):
        pass


def test_a_path_that_cannot_be_written_is_named_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    cases = {
        tmp_path: "it is a folder",
        tmp_path / "file" / "a.npz": "file: it is not a folder",
        tmp_path / ("x" * 300): "File name too long",
        Path("/dev/null"): "not an ordinary file",
    }
    for path, message in cases.items():
        with pytest.raises(files.OutputError, match=message) as raised:
            files.check_writable(path)
        assert str(path.parent if "file/" in str(path) else path) in str(raised.value)
    assert os.listdir(tmp_path) == ["file"]


def test_folders_are_made_when_a_file_is_written_in_them_and_not_before(tmp_path):
    path = tmp_path / "new" / "within" / "a.txt"
    files.check_writable(path)
    assert os.listdir(tmp_path) == []
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


LEFT_BEHIND = """
import sys, time
from descnet3d import files
with files.replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("half written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_leaves_is_removed_by_the_next_one_and_what_lives_is_not(tmp_path):
    path = tmp_path / "shapes.npz"
    living, dead = (
        subprocess.Popen(
            [sys.executable, "-c", LEFT_BEHIND, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    for process in (living, dead):
        assert process.stdout.readline() == "half written\n"
    dead.kill()
    dead.wait()
    (tmp_path / ".hidden-of-the-user").touch()
    (tmp_path / f".abcdef-1-123456-{path.name}").touch()  # of another machine, and young
    assert len(os.listdir(tmp_path)) == 4
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
    left = sorted(os.listdir(tmp_path))
    living.kill()
    living.wait()
    assert len(left) == 4 and left[-1] == "shapes.npz"
    assert [name for name in left if f"-{dead.pid:x}-" in name] == []
    assert [name for name in left if f"-{living.pid:x}-" in name] != []


def test_a_folder_without_permission_is_an_output_error(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(files.OutputError, match="nothing can be created"):
        files.check_writable(folder / "a.npz")


def test_a_disk_that_refuses_is_an_output_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(files.OutputError, match="Read-only file system"):
        files.check_writable(tmp_path / "a.npz")


def test_checking_leaves_an_existing_file_as_it_is(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("kept")
    assert files.check_writable(path) == path.resolve()
    assert path.read_text() == "kept"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_numbered_names_sort_in_their_order():
    assert [path.name for path in files.numbered("a/b.ply", 1)] == ["b.ply"]
    assert [str(path) for path in files.numbered("a/b.ply", 2)] == ["a/b_00.ply", "a/b_01.ply"]
    names = [path.name for path in files.numbered("b.ply", 101)]
    assert names == sorted(set(names))
    assert names[-1] == "b_100.ply"


@pytest.mark.parametrize("name", ["there", "new", "new/within/another", "link"])
def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    assert files.check_folder_writable(tmp_path / name) == (tmp_path / name).resolve()
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert os.listdir(tmp_path / "there") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "cannot write into .*file: it is not a folder"),
        ("file/new", r"cannot write into .*new: nothing can be created there \(Not a directory\)"),
        ("new/" + "x" * 300, r"\(File name too long\)"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(files.OutputError, match=message):
        files.check_folder_writable(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/zero is Unix's")
@pytest.mark.parametrize("ending", [".npz", ".npy", ".binvox", ".mat", ".off", ".stl"])
def test_what_never_ends_is_not_read(tmp_path, ending):
    (tmp_path / f"device{ending}").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / f"pipe{ending}")
    with open(tmp_path / f"long{ending}", "wb") as file:
        file.truncate(2**40)
    for name in ("device", "pipe", "long"):
        with pytest.raises(ValueError, match=f"{name}{ending} is|{name}{ending} cannot be read"):
            load_shape(tmp_path / f"{name}{ending}")
