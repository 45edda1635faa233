"""Presets come from addresses: verified, once, whoever asks, and offline from then on."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import web_server
from tiny_models import tiny_model
from web_server import WebServer

import descnet3d
from descnet3d.models.preset_config import PresetError, PresetWarning
from descnet3d.zoo import cache, downloads, presets, publishing
from descnet3d.zoo.downloads import DownloadError, Patience, UnreachableError

SHAPES = np.random.default_rng(0).random((3, 8, 8, 8), dtype="float32")

pytestmark = pytest.mark.one_backend


def publish(zoo, seed=0, name="synthesis_box_8", **more):
    saved = tiny_model(seed).save_preset(
        zoo.parent / "saved" / name, weights_dtype="float32", id=name, category="box", **more
    )
    shutil.rmtree(zoo / name, ignore_errors=True)
    publishing.add(zoo, saved)
    publishing.publish(zoo)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A zoo of boxes behind an address, which is the chosen one, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "PATIENCE", Patience(3, 0.8, 64, 0.01, 0.02))
    zoo = tmp_path / "served" / "zoo"
    publish(zoo)
    server = WebServer(tmp_path / "served")
    monkeypatch.setenv("DESCNET3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DESCNET3D_ZOO", f"{server.address}/zoo")
    yield server
    with contextlib.suppress(OSError):
        server.stop()


def same(model, seed=0):
    np.testing.assert_allclose(model.energy(SHAPES), tiny_model(seed).energy(SHAPES), rtol=1e-6)
    return True


def test_a_category_is_loaded_from_an_address_and_offline_from_then_on(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(descnet3d.load("box"))
        assert same(descnet3d.load("synthesis_box_8"))
    assert server.count("weights.npz") == 1
    server.stop()
    with pytest.warns(PresetWarning, match="refused.*fetched from there last is taken instead"):
        assert same(descnet3d.load("box"))


def test_what_came_with_the_package_asks_nobody(server):
    server.stop()
    assert presets.find("toilet").name == "synthesis_toilet_32"
    assert presets.find("classifier_modelnet10_32").is_dir()


def test_a_zoo_that_nobody_has_reached_yet_is_told(server):
    server.stop()
    with pytest.raises(UnreachableError, match="index.json cannot be fetched: .*refused"):
        descnet3d.load("box")


def test_a_folder_of_ones_own_needs_no_zoo(server, tmp_path, monkeypatch):
    server.stop()
    monkeypatch.chdir(tmp_path)
    tiny_model().save_preset("mine", weights_dtype="float32")
    for name in ("mine", "./mine", str(tmp_path / "mine"), tmp_path / "mine"):
        assert same(descnet3d.load(name))


def test_a_folder_is_a_zoo_too(server, monkeypatch):
    monkeypatch.setenv("DESCNET3D_ZOO", str(server.folder / "zoo"))
    assert same(descnet3d.load("box"))
    assert not server.asked
    with open(server.folder / "zoo" / "synthesis_box_8" / "weights.npz", "ab") as file:
        file.write(b"x")
    with pytest.raises(PresetError, match="weights.npz is damaged"):
        descnet3d.load("box")


def test_a_preset_answers_to_the_name_of_the_folder_that_it_was_published_from(server, tmp_path):
    saved = tiny_model().save_preset(
        tmp_path / "my_boxes", weights_dtype="float32", id="synthesis_crate_8", category="crate"
    )
    publishing.add(server.folder / "zoo", saved)
    publishing.publish(server.folder / "zoo")
    for name in ("my_boxes", "synthesis_crate_8", "crate"):
        assert same(descnet3d.load(name))
    for name in ("my_boxes", "synthesis_crate_8"):
        assert same(descnet3d.load(f"{server.address}/zoo/{name}"))
    with pytest.raises(DownloadError, match="my_crates/config.json is not there"):
        descnet3d.load(f"{server.address}/zoo/my_crates")
    with pytest.raises(PresetError, match="is a zoo: put the id .*synthesis_crate_8"):
        descnet3d.load(f"{server.address}/zoo")


def test_a_zoo_that_is_down_is_not_waited_for_where_its_index_is_remembered(server, monkeypatch):
    assert same(descnet3d.load("box"))
    monkeypatch.setattr(downloads, "PATIENCE", Patience(5, 20.0, 64, 5.0, 30.0))
    server.stop()
    started = time.monotonic()
    with pytest.warns(PresetWarning, match="1 attempt"):
        assert presets.find("box").is_dir()
    assert time.monotonic() - started < 4


def test_what_is_near_in_the_zoo_is_suggested(server):
    with pytest.raises(presets.PresetNotFoundError, match='Did you mean "box"') as raised:
        descnet3d.load("boxx")
    assert server.address in str(raised.value)


def test_the_list_says_what_is_at_hand(server):
    [before] = [preset for preset in descnet3d.list_presets() if preset.category == "box"]
    descnet3d.load("box")
    [after] = [preset for preset in descnet3d.list_presets() if preset.category == "box"]
    assert before.path is None and after.path == presets.find("box")
    assert before.files == after.files


@pytest.mark.parametrize(
    ("file", "plan", "kind", "message"),
    [
        ("index.json", web_server.refuse(404), DownloadError, "is not there"),
        ("index.json", web_server.refuse(500), UnreachableError, "answers 500"),
        ("index.json", web_server.other(b"<html>"), ValueError, "index.json is damaged"),
        ("synthesis_box_8/config.json", web_server.refuse(404), DownloadError, "is not there"),
        ("synthesis_box_8/weights.npz", web_server.refuse(429), UnreachableError, "429"),
        ("synthesis_box_8/weights.npz", web_server.other(b"x"), DownloadError, "has 1 bytes"),
        ("synthesis_box_8/weights.npz", web_server.silent, UnreachableError, "timed out"),
    ],
)
def test_no_wrong_weights_and_one_clear_line(server, file, plan, kind, message):
    server.always[f"/zoo/{file}"] = plan
    with pytest.raises(kind, match=message) as raised:
        descnet3d.load("box")
    assert "\n" not in str(raised.value)
    assert not list((cache.root() / "presets").glob("*"))
    del server.always[f"/zoo/{file}"]
    assert same(descnet3d.load("box"))  # no lock was left, and no part that spoils


def test_weights_of_the_right_length_but_other_bytes_are_refused(server):
    weights = server.folder / "zoo" / "synthesis_box_8" / "weights.npz"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    server.always["/zoo/synthesis_box_8/weights.npz"] = web_server.other(bytes(content))
    with pytest.raises(DownloadError, match="not the file that was expected"):
        descnet3d.load("box")


@pytest.mark.parametrize("file", ["weights.npz", "config.json", "card.md"])
def test_a_file_damaged_in_the_cache_is_fetched_anew(server, file):
    descnet3d.load("box")
    path = presets.find("box") / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(PresetWarning, match=rf"is damaged \({file}\), and is fetched anew"):
        assert same(descnet3d.load("box"))
    path.unlink()
    server.always[f"/zoo/synthesis_box_8/{file}"] = web_server.refuse(404)
    with pytest.warns(PresetWarning), pytest.raises(DownloadError, match="is not there"):
        descnet3d.load("box")


def test_a_preset_for_a_later_version_is_not_even_fetched(server):
    publish(server.folder / "zoo", requires="99.0")
    index = json.loads((server.folder / "zoo" / "index.json").read_text())
    index["presets"][0]["requires"] = "99.0"
    (server.folder / "zoo" / "index.json").write_text(json.dumps(index))
    with pytest.raises(PresetError, match=r"synthesis_box_8 needs descnet3d 99\.0"):
        descnet3d.load("box")
    assert not server.count("weights.npz")


def test_a_new_version_in_the_zoo_is_another_preset(server):
    first = presets.find("box")
    publish(server.folder / "zoo", seed=1)
    assert same(descnet3d.load("box"), seed=1)
    assert presets.find("box") != first


# --- several processes ----------------------------------------------------------------------------

FIND = "from descnet3d.zoo import presets; print(presets.find('box'))"


def start(code=FIND):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_twenty_processes_fetch_a_preset_once(server):
    server.plans["/zoo/synthesis_box_8/weights.npz"] = [web_server.cut(300)]
    server.always["/zoo/synthesis_box_8/weights.npz"] = web_server.steady(10, 0.05)
    processes = [start() for _ in range(20)]
    found = {process.communicate(timeout=300) for process in processes}
    assert {process.returncode for process in processes} == {0}
    assert {out.strip() for out, _ in found} == {str(presets.find("box"))}
    assert server.count("weights.npz") == 2  # one that broke off, and one that went on
    assert not list((cache.root() / "parts").iterdir())
    assert same(descnet3d.load("box"))


def test_a_killed_process_leaves_no_lock_and_its_part_is_taken_up(server):
    server.always["/zoo/synthesis_box_8/weights.npz"] = web_server.steady(1000, 0.05)
    process = start()
    part = cache.root() / "parts"
    deadline = time.monotonic() + 300
    while not [path for path in part.glob("*/weights.npz.part") if path.stat().st_size > 20]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    del server.always["/zoo/synthesis_box_8/weights.npz"]
    server.asked.clear()
    assert same(descnet3d.load("box"))
    [headers] = [headers for path, headers in server.asked if path.endswith("weights.npz")]
    assert headers["Range"].startswith("bytes=") and headers["Range"] != "bytes=0-"


# --- a cache that cannot be written ---------------------------------------------------------------


def test_what_is_in_a_cache_is_read_where_nothing_can_be_written(server):
    descnet3d.load("box")
    for name in ("locks", "parts", "addresses"):  # a file withstands even root
        shutil.rmtree(cache.root() / name)
        (cache.root() / name).touch()
    assert same(descnet3d.load("box"))
    assert server.count("weights.npz") == 1
    shutil.rmtree(cache.root() / "presets")
    with pytest.raises(DownloadError, match="cannot lock a file in the cache .*; set DESCNET3D_C"):
        descnet3d.load("box")


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_a_cache_where_nothing_can_be_written_is_named(server, monkeypatch):
    monkeypatch.setenv("DESCNET3D_CACHE", "/sys/descnet3d")
    message = "the cache /sys/descnet3d: .*; set DESCNET3D_CACHE to a folder that can be written"
    with pytest.raises(DownloadError, match=message):
        presets.find("box")


def test_a_cache_that_is_no_folder_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DESCNET3D_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot lock a file in the cache .*file: "):
        presets.find("box")


def test_a_full_cache_is_named_and_works_once_there_is_room(server):
    [preset] = [preset for preset in descnet3d.list_presets() if preset.category == "box"]
    place = cache.place(preset.id, preset.files)
    parts = cache.root() / "parts" / place.name
    parts.mkdir(parents=True)
    (parts / "weights.npz.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="No space left on device; make room, or set"):
        presets.find("box")
    assert same(descnet3d.load("box"))


# --- presets with addresses of their own ----------------------------------------------------------


def test_an_address_is_loaded_again_only_where_it_has_changed(server):
    address = f"{server.address}/zoo/synthesis_box_8/"
    for _ in range(2):
        assert same(descnet3d.load(address))
    assert server.count("weights.npz") == 1
    publish(server.folder / "zoo", seed=1)
    assert same(descnet3d.load(address), seed=1)
    server.stop()
    with pytest.warns(PresetWarning, match="taken instead"):
        assert same(descnet3d.load(address), seed=1)


def test_an_address_without_a_preset_is_told(server):
    with pytest.raises(DownloadError, match="is not there"):
        descnet3d.load(f"{server.address}/zoo/none")
    server.always["/zoo/x/config.json"] = web_server.other(b'{"weights": {"file": "x.npz"}}')
    with pytest.raises(PresetError, match="is no preset: config.json, weights, is not whole"):
        descnet3d.load(f"{server.address}/zoo/x")
    server.always["/zoo/x/config.json"] = web_server.other(
        json.dumps({"weights": {"file": "../../x", "sha256": "0" * 64}}).encode()
    )
    with pytest.raises(PresetError, match="file must be the name of a file, but it is '../../x'"):
        descnet3d.load(f"{server.address}/zoo/x")
