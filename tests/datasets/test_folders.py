"""Which shapes a folder holds, and in which split."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from descnet3d.datasets.folders import list_folder, list_shapes


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_the_folders_say_category_and_split(tmp_path):
    root = fill(tmp_path, "chair/train/b.off", "chair/train/a.PLY", "chair/test/c.mat")
    fill(root, "sofa/test/d.binvox", "sofa/train/e.npz")
    found = [(s.category, s.split, s.id) for s in list_shapes(root)]
    assert found == [
        ("chair", "test", "c"),
        ("chair", "train", "a"),
        ("chair", "train", "b"),
        ("sofa", "test", "d"),
        ("sofa", "train", "e"),
    ]


def test_what_is_no_shape_is_passed_over(tmp_path):
    root = fill(tmp_path, "chair/train/a.off", "chair/train/.a.off", "chair/train/._a.off")
    fill(root, "__MACOSX/chair/train/a.off", "chair/.DS_Store", ".git/x/a.off", "README.txt")
    fill(root, "chair/__MACOSX/b.off", "chair/notes.txt", "chair/other/b.off", "loose.off")
    (root / "chair" / "folder.off").mkdir()
    listing = list_folder(root)
    found = [str(s.path.relative_to(root)) for s in listing.shapes]
    assert found == ["chair/other/b.off", "chair/train/a.off"]
    told = {str(Path(path).relative_to(root)): reason for path, reason in listing.passed_over}
    assert told.keys() == {"README.txt", "chair/notes.txt", "loose.off"}
    assert "no category" in told["loose.off"] and ".txt" in told["chair/notes.txt"]


def test_what_is_no_file_is_not_called_one_of_a_wrong_ending(tmp_path):
    root = fill(tmp_path, "chair/a.off")
    (root / "chair" / "b.off").symlink_to("nowhere.off")
    os.mkfifo(root / "chair" / "c.off")
    told = [reason for _, reason in list_folder(root).passed_over]
    assert told == ["is a link to nothing", "is no file of data"]


def test_a_files_name_alone_decides_its_split(tmp_path):
    names = [f"chair/{index:04d}.off" for index in range(1000)]
    found = {s.id: s.split for s in list_shapes(fill(tmp_path / "all", *names), 0.2)}
    tests = sum(split == "test" for split in found.values())
    assert 150 < tests < 250  # 200 ± 4 standard deviations
    some = {s.id: s.split for s in list_shapes(fill(tmp_path / "some", *names[::7]), 0.2)}
    assert some == {name: found[name] for name in some}
    # A larger share keeps the test shapes of a smaller one.
    larger = {s.id: s.split for s in list_shapes(tmp_path / "all", 0.5)}
    assert all(larger[name] == "test" for name, split in found.items() if split == "test")
    for share, split in ((0, "train"), (1, "test")):
        assert {s.split for s in list_shapes(tmp_path / "all", share)} == {split}


def test_the_split_is_the_same_on_every_machine_and_from_now_on(tmp_path):
    names = ["chair/a.off", "chair/b.off", "chair/c.off", "sofa/a.off", "sofa/b.off"]
    found = {
        s.path.relative_to(tmp_path).as_posix()
        for s in list_shapes(fill(tmp_path, *names), 0.5)
        if s.split == "test"
    }
    assert found == {"chair/c.off"}


def test_ids_are_different_even_where_names_are_not(tmp_path):
    root = fill(tmp_path, "chair/train/a.off", "chair/train/b.off", "sofa/test/a.off")
    assert [s.id for s in list_shapes(root)] == ["chair/train/a.off", "b", "sofa/test/a.off"]


def test_a_folder_without_categories_says_how_it_should_look(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        list_shapes(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no folders of categories.*CATEGORY/FILE"):
        list_shapes(tmp_path)
    fill(tmp_path, "a.off")
    with pytest.raises(ValueError, match="holds shapes, but no folders of categories"):
        list_shapes(tmp_path)
    with pytest.raises(ValueError, match="test_share must lie between 0 and 1, but it is 20"):
        list_shapes(tmp_path, 20)
