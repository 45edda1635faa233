"""`descnet3d voxelize`: a folder of shapes becomes an archive."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descnet3d.commands import cli
from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.grid_files import read_grid_file, read_grids, write_grids
from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.shapes.voxelize import voxelize

TETRAHEDRON = "0 0 0\n{size} 0 0\n0 {size} 0\n0 0 {size}\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "shapes"
    for place in ("tent/train/a", "tent/train/b", "tent/test/c", "blob/d"):
        path = root / f"{place}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("OFF4 4 6\n" + TETRAHEDRON.format(size=len(place)))
    (root / "blob" / "hollow.off").touch()
    (root / "blob" / ".DS_Store").touch()
    (root / "blob" / ".z.zip").touch()
    write_grids(root / "blob" / "e.mat", np.ones((1, 4, 4, 4), bool))
    return root


def test_meshes_go_in_in_twelve_poses(folder, capsys):
    for grid in folder.glob("blob/e.mat"):
        grid.unlink()
    assert cli.main(["voxelize", "shapes", "--out=a.npz", "--size=16", "--poses=12"]) == 0
    archive = read_archive("a.npz", "tent")
    assert len(archive.ids) == 3 * 12 and archive.ids[:2] == ("c_01", "c_02")
    mesh = read_mesh(folder / "tent/train/a.off")
    for pose in range(12):
        turned = voxelize(mesh, 16, turn=30.0 * pose).occupancy
        assert np.array_equal(archive.occupancy[archive.ids.index(f"a_{pose + 1:02d}")], turned)
    write_grids(folder / "tent/train/e.npz", np.ones((1, 4, 4, 4), bool))
    assert cli.main(["voxelize", "shapes", "--out=b.npz", "--size=16", "--poses=2"]) == 1
    assert "only meshes have poses" in capsys.readouterr().err


def test_a_folder_becomes_an_archive(folder, capsys):
    assert cli.main(["voxelize", "shapes", "--out=a.npz", "--size=16", "--test_share=1"]) == 0
    captured = capsys.readouterr()
    skipped, wrote = captured.out.splitlines()
    assert captured.err == ""
    assert skipped == "skipped shapes/blob/hollow.off: is empty"
    counts = "5 shapes of 2 categories (2 train, 3 test) on 16³ grids, 1 file skipped"
    assert wrote.startswith(f"wrote a.npz: {counts}, in ")
    archive = read_archive("a.npz")
    assert archive.classes == ("blob", "tent")
    assert archive.ids == ("d", "e", "c", "a", "b")
    assert archive.labels.tolist() == [0, 0, 1, 1, 1]
    assert archive.is_test.tolist() == [True, True, True, False, False]
    expected = voxelize(read_mesh(folder / "tent" / "train" / "a.off"), 16)
    np.testing.assert_array_equal(archive.occupancy[3], expected.occupancy)
    assert archive.occupancy[1].sum() == 64


def test_what_was_voxelised_can_be_looked_at(folder, capsys):
    words = ["voxelize", "shapes", "--out=a.npz", "--size=16"]
    assert cli.main([*words, "--sheet=a.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote a.png: look whether")
    with Image.open("a.png") as sheet:
        assert sheet.width == 5 * 120  # all shapes in one row: there are fewer than fit
    assert cli.main([*words, "--sheet=a.txt"]) == 2
    assert cli.main(["voxelize", "shapes/blob/e.mat", "--out=e.npz", "--sheet=a.png"]) == 2
    said = capsys.readouterr().err
    assert "a.txt ends in none of .png" in said and "one file was given" in said


def test_every_file_of_an_odd_folder_is_read_or_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mesh = "OFF\n4 4 6\n" + TETRAHEDRON.format(size=2)
    good = {
        "my chair/Train/a.off": ("my chair", False),
        "my chair/TEST/b.OFF": ("my chair", True),
        "my chair/training/1f/models/model_normalized.off": ("my chair", False),
        "my chair/test/packed.off.gz": ("my chair", True),
        os.fsdecode(b"s\xf6fa/train/\xe9.off"): ("s\\xf6fa", False),
        "train/lamp/c.off": ("lamp", False),
        "testing/lamp/d.off": ("lamp", True),
    }
    named = {
        "loose.off": "lies in no category's folder",
        "my chair/val/e.off": "validation folder",
        "my chair/Validation/f.off": "validation folder",
        "valid/lamp/g.off": "validation folder",
        "train/lamp/test/h.off": "two splits at once",
        "my chair/notes": "ends in nothing",
        "my chair/train/scene.fbx": "ends in .fbx",
        "my chair/train/i.glb.gz": "ends in .gz",
        "my chair/train/broken.off": "has no triangle",
    }
    for name in (*good, *named):
        path = tmp_path / "odd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(mesh.replace("2", "0") if "broken" in name else mesh)
    packed = tmp_path / "odd/my chair/test/packed.off.gz"
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    assert cli.main(["voxelize", "odd", "--out=a.npz", "--size=8"]) == 0
    archive = read_archive("a.npz")
    found = [(archive.classes[label], bool(test))
             for label, test in zip(archive.labels, archive.is_test, strict=True)]  # fmt: skip
    assert sorted(found) == sorted(good.values())
    assert "packed" in archive.ids and "\\xe9" in archive.ids
    told = {one["path"]: one["reason"] for one in json.loads(Path("skipped.json").read_text())}
    assert told.keys() == {f"odd/{name}" for name in named}
    for name, reason in named.items():
        assert reason in told[f"odd/{name}"]
    assert "1 file skipped and 8 passed over (all in skipped.json)" in capsys.readouterr().out


def test_a_single_mesh_becomes_a_grid_with_its_place(folder, capsys):
    mesh = read_mesh(folder / "blob" / "d.off")
    for ending in (".npz", ".binvox", ".mat", ".npy"):
        words = ["voxelize", "shapes/blob/d.off", f"--out=d{ending}", "--size=8", "--span=1"]
        assert cli.main(words) == 0
        assert capsys.readouterr().out.startswith(f"wrote d{ending}: 1 grid of 8³")
        expected = voxelize(mesh, 8, span=1)
        np.testing.assert_array_equal(read_grids(f"d{ending}")[0], expected.occupancy)
        place = read_grid_file(f"d{ending}").transform
        assert place == (None if ending == ".npy" else expected.transform)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["shapes"], 2, "--out missing"),
        (["shapes", "--out=a.ply"], 2, "must end in .npz"),
        (["shapes", "--out=a.npz", "--size=1000"], 2, "--size"),
        (["shapes", "--out=a.npz", "--span=0"], 2, "--span=0 is not above 0"),
        (["shapes", "--out=a.npz", "--fill=half"], 2, "--fill"),
        (["shapes/blob/d.off", "--out=a.ply"], 2, "ends in none of"),
        (["shapes/blob/d.off", "--out=a.binvox", "--up=y"], 2, "choose .npz"),
        (["shapes/blob/hollow.off", "--out=a.npz"], 1, "hollow.off: is empty"),
        (["shapes", "--out=shapes/blob/d.off/a.npz"], 1, "is not a folder"),
        (["shapes", "--out=a.npz", "--strict"], 1, "blob/hollow.off: is empty"),
        (["shapes/blob", "--out=a.npz"], 1, "holds shapes, but no folders of categories"),
        (["shapes/blob/.z.zip", "--out=a.npz"], 1, "z.zip is a zip file; unpack it"),
        (["none", "--out=a.npz"], 1, "there is no folder none"),
    ],
)
def test_every_failure_is_one_line_and_leaves_nothing(folder, capsys, words, status, message):
    assert cli.main(["voxelize", *words]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and message in captured.err, captured.err
    assert [path.name for path in folder.parent.iterdir()] == ["shapes"]


def test_a_folder_in_which_nothing_can_be_read_fails_and_says_why(tmp_path, capsys):
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair" / "a.off").write_text("solid")
    assert cli.main(["voxelize", str(tmp_path), f"--out={tmp_path / 'a.npz'}"]) == 1
    captured = capsys.readouterr()
    assert "a.off: does not begin as an OFF file" in captured.out
    assert "none of the 1 files" in captured.err
    assert not (tmp_path / "a.npz").exists()


def test_voxelising_loads_no_framework(folder):
    code = "import sys; from descnet3d.commands.cli import main; status = main(sys.argv[1:]); "
    code += "print(*sys.modules, sep='\\n'); sys.exit(status)"
    words = ["voxelize", "shapes", "--out=a.npz", "--size=8"]
    command = [sys.executable, "-c", code, *words]
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"tensorflow", "keras", "torch", "tensorflow_datasets", "open3d", "sklearn"}
