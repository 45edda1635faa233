"""`descnet3d presets`, with a zoo that it publishes and that Python's own server serves."""

import os
import shutil
import socket
import subprocess
import sys
import time

import keras
import pytest
import requests

import descnet3d
from descnet3d.commands import cli
from descnet3d.zoo import presets

pytestmark = pytest.mark.one_backend


@pytest.fixture
def saved(tmp_path):
    """Two presets as users save them: one that says what it is, and one that does not."""
    keras.utils.set_random_seed(0)
    voxels = keras.Input((8, 8, 8, 1))
    score = keras.layers.Dense(1)(keras.layers.Flatten()(voxels))
    model = descnet3d.DescriptorNet(keras.Model(voxels, score), voxel_mean=0.125)
    model.save_preset(
        tmp_path / "saved" / "lamps", id="synthesis_lamp_8", task="synthesis", category="lamp"
    )
    model.save_preset(tmp_path / "saved" / "my_boxes", scores={"nearest_iou": 0.8125})
    return tmp_path / "saved"


@pytest.fixture
def zoo(saved, tmp_path, monkeypatch, capsys):
    """A published zoo behind `python -m http.server`, and an empty cache."""
    folder = tmp_path / "zoo"
    add = [f"--add={saved / name}" for name in ("lamps", "my_boxes")]
    assert cli.main(["presets", "publish", str(folder), *add, "--category=box", "--shapes=0"]) == 0
    assert "2 presets" in capsys.readouterr().out
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind=127.0.0.1"]
    server = subprocess.Popen(
        [*command, f"--directory={folder}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    monkeypatch.setenv("NO_PROXY", "*")
    address = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            requests.get(address, timeout=1)
            break
        except requests.ConnectionError:
            time.sleep(0.05)
    monkeypatch.setenv("DESCNET3D_ZOO", address)
    monkeypatch.setenv("DESCNET3D_CACHE", str(tmp_path / "cache"))
    yield folder
    server.kill()
    server.wait()


def run(capsys, *words, status=0):
    assert cli.main(["presets", *words]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def test_what_is_published_can_be_looked_at_listed_and_loaded(zoo, capsys):
    page = (zoo / "index.html").read_text()
    assert "synthesis_lamp_8" in page and "my_boxes" in page
    rows = run(capsys, "list", "--category=box").splitlines()
    assert [row.split() for row in rows] == [
        ["ID", "CATEGORY", "TASK", "SIZE", "PARAMS", "WHERE", "SCORES"],
        ["my_boxes", "box", "synthesis", "8³", "513", "to", "get", "nearest_iou", "0.812"],
    ]
    assert descnet3d.load("lamp").grid == (8, 8, 8)
    assert "  cache" in run(capsys, "list", "--category=lamp").splitlines()[1]
    assert "  package" in run(capsys, "list", "--category=toilet", "--task=synthesis")


def test_download_show_verify_and_remove(zoo, capsys, tmp_path):
    folder = run(capsys, "download", "box").strip()
    assert folder == str(presets.find("my_boxes"))
    assert sorted(os.listdir(folder)) == ["card.md", "config.json", "weights.npz"]
    assert run(capsys, "show", "box").startswith("my_boxes\n")
    assert run(capsys, "verify", "box") == f"my_boxes: whole ({folder})\n"
    with open(f"{folder}/weights.npz", "ab") as file:
        file.write(b"x")
    assert cli.main(["presets", "verify", "box"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"my_boxes: damaged: weights.npz ({folder})\n"
    assert "1 damaged: descnet3d presets download NAME fetches into the cache anew" in captured.err
    assert cli.main(["presets", "download", "box"]) == 0
    told = capsys.readouterr().err
    assert told == f"descnet3d: warning: {folder} is damaged (weights.npz), and is fetched anew\n"
    assert "whole" in run(capsys, "verify", "box")
    run(capsys, "download", "lamp")
    assert f"removed {folder}" in run(capsys, "remove", "box")
    assert "is not in the cache" in run(capsys, "remove", "box", status=1)
    assert run(capsys, "remove", "--all").count("removed") == 1
    assert not list((tmp_path / "cache" / "presets").iterdir())


def test_an_address_is_downloaded_and_removed(zoo, capsys, monkeypatch):
    address = f"{os.environ['DESCNET3D_ZOO']}/my_boxes"
    folder = run(capsys, "download", address).strip()
    assert f"removed {folder}" in run(capsys, "remove", address)


def test_what_came_with_the_package_is_shown_and_never_removed(capsys, tmp_path):
    picture = tmp_path / "toilets.png"
    shown = run(capsys, "show", "toilet", f"--out={picture}")
    assert shown.startswith("synthesis_toilet_32\n") and shown.endswith(f"{picture}\n")
    source = presets.find("toilet")
    assert picture.read_bytes() == (source / "sheet.png").read_bytes()
    assert "lies in" in run(capsys, "remove", "toilet", status=1)
    assert (source / "config.json").exists()


def test_the_list_fits_a_terminal_of_80_columns_and_keeps_whole_figures(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets
    whole = run(capsys, "list").splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run(capsys, "list").splitlines()
    assert len(narrow) == len(whole) > 20 and max(map(len, narrow)) <= 80
    monkeypatch.setenv("COLUMNS", "110")
    for line, complete in zip(run(capsys, "list").splitlines(), whole, strict=True):
        assert complete.startswith(line) and complete[len(line) :][:2] in ("", ", ", "  ")


def test_a_card_is_shown_figures_first_and_without_markdown(capsys):
    shown = run(capsys, "show", "toilet", "--task=recovery").splitlines()
    assert shown[0] == "recovery_toilet_32"
    assert shown.index("FIGURES") < shown.index("DATA AND TERMS")
    trained = run(capsys, "show", "langevin_toilet_32").splitlines()
    sections = [trained.index(name) for name in ("FIGURES", "TRAINING", "DATA AND TERMS")]
    assert sections == sorted(sections)
    assert not [line for line in shown if line.startswith(("#", "|", "```", "!["))]
    assert max(map(len, shown[: shown.index("DATA AND TERMS")])) <= 80
    [row] = [line for line in shown if line.startswith("at a threshold of 0.5")]
    assert len(row.split()) == 8  # and three figures


def test_what_is_added_is_told_as_the_zoo_was_named(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    added, counted = run(capsys, "publish", "zoo", "--add=saved/lamps", "--shapes=0").splitlines()
    assert added == "added zoo/synthesis_lamp_8, by the id in its config, not saved/lamps"
    assert counted.startswith("zoo: 1 preset, ")


def test_a_link_out_of_a_zoo_is_not_published(saved, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.write_text("of the user")
    shutil.copytree(saved / "lamps", tmp_path / "zoo" / "synthesis_lamp_8")
    link = tmp_path / "zoo" / "synthesis_lamp_8" / "card.md"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    assert f"{link} is a link to {secret}" in run(capsys, "publish", f"{tmp_path}/zoo", status=1)
    more = f"--add={tmp_path / 'zoo' / 'synthesis_lamp_8'}"
    assert "is a link to" in run(capsys, "publish", f"{tmp_path}/other", more, status=1)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]


def test_what_a_zoo_has_not_is_not_listed_and_hinders_no_download(zoo, capsys, monkeypatch):
    listed = {line.split()[0] for line in run(capsys, "list").splitlines()[1:]}
    at_hand = {preset.id for preset in presets.list_presets() if preset.path is not None}
    assert listed == at_hand | {"my_boxes", "synthesis_lamp_8"}
    (zoo / "my_boxes" / "config.json").unlink()
    assert cli.main(["presets", "download", "--all", "--category=box"]) == 1
    assert cli.main(["presets", "download", "--all", "--task=synthesis"]) == 1
    told = capsys.readouterr()
    assert "synthesis_lamp_8" in told.out and "1 could not be fetched: my_boxes" in told.err


def test_a_damaged_preset_is_not_published(saved, tmp_path, capsys):
    shutil.copytree(saved / "lamps", tmp_path / "zoo" / "synthesis_lamp_8")
    with open(tmp_path / "zoo" / "synthesis_lamp_8" / "weights.npz", "ab") as file:
        file.write(b"x")
    assert "is not what config.json says" in run(capsys, "publish", f"{tmp_path}/zoo", status=1)
    assert not (tmp_path / "zoo" / "index.json").exists()
    more = [f"--add={saved / 'my_boxes'}"]
    said = run(capsys, "publish", f"{tmp_path}/zoo", *more, status=1)
    assert "does not say what its category is: give --category" in said
    assert "has no presets" in run(capsys, "publish", str(tmp_path / "empty"), status=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch"], "no action 'fetch'; there is: list, show, download, verify, remove, publish"),
        (["show"], "show needs NAME"),
        (["download"], "download needs NAME (or --all)"),
        (["publish"], "publish needs FOLDER"),
        (["list", "toilet"], "'toilet' is one argument too many"),
        (["remove", "toilet", "--all"], "'toilet' is one argument too many"),
    ],
)
def test_wrong_usage_says_what_is_missing(capsys, words, message):
    assert message in run(capsys, *words, status=2)
