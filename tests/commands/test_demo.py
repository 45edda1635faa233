"""`descnet3d demo` in a real browser: what it makes is what Python makes."""

import importlib.util
import socket
import urllib.parse

import browser as web
import every_model
import numpy as np
import pytest
import requests

from descnet3d.commands import cli, demo, demo_page, demo_painting
from descnet3d.datasets.shape_files import load_shape

pytest.importorskip("gradio", reason="needs Gradio: pip install '.[demo]'")
SIDE = 16
pytestmark = [pytest.mark.one_backend, pytest.mark.slow]


@pytest.fixture(scope="module")
def model():
    return every_model.annealed().model


@pytest.fixture(scope="module")
def address(model):
    with demo.served(model) as address:
        yield address


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """The page, open in one browser for all tests: each has a tab of its own on it."""
    with web.started(tmp_path_factory.mktemp("profile")) as running:
        running.get(address)
        wait_for(running, lambda: shown(running, "button.primary"))
        yield running


def wait_for(page, condition, every=0.1):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 120, every).until(lambda _: condition())


def shown(page, selector):
    found = page.find_elements("css selector", selector)
    return [element for element in found if element.is_displayed()]


def press(page, tab):
    """Opens a tab, and presses its button."""
    open_tab(page, tab)
    [button] = wait_for(
        page, lambda: [each for each in shown(page, "button.primary") if each.text == tab]
    )
    button.click()


def open_tab(page, tab):
    [chosen] = [each for each in shown(page, "button[role=tab]") if each.text == tab]
    chosen.click()


def type_into(page, label, value):
    [field] = [
        each
        for each in shown(page, "input[type=number]")
        if each.get_attribute("aria-label") == label
    ]
    page.execute_script("arguments[0].select()", field)
    field.send_keys(str(value))


def downloaded(page, folder, name):
    """The grid of the mesh that the visible tab's button downloads, once it is called so."""
    where = {"behavior": "allow", "downloadPath": str(folder)}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def is_there():
        if not (folder / name).is_file():
            [button] = [each for each in shown(page, "button, a") if each.text == "Download .glb"]
            button.click()
        return (folder / name).is_file()

    wait_for(page, is_there, every=1)
    return load_shape(folder / name, SIDE).occupancy


def test_what_is_synthesised_is_what_python_synthesises(page, address, model, tmp_path):
    press(page, "Synthesise")
    occupancy = downloaded(page, tmp_path, "slab_0.glb")
    np.testing.assert_array_equal(occupancy, model.synthesize(1, category="slab", seed=0)[0] > 0.5)
    type_into(page, "Seed", 7)
    press(page, "Synthesise")
    occupancy = downloaded(page, tmp_path, "slab_7.glb")
    np.testing.assert_array_equal(occupancy, model.synthesize(1, category="slab", seed=7)[0] > 0.5)
    assert wait_for(page, lambda: shown(page, "canvas"))
    asked, _ = web.traffic(page)
    own = (address, "data:", "blob:", "chrome:")
    assert [url for url in asked if not url.startswith(own)] == []
    # Without WebGPU the viewer takes WebGL, and says so as if it were an error.
    assert [error for error in web.errors(page) if "WebGPU" not in error] == []


def test_what_is_watched_ends_as_it_is_synthesised(page, model, tmp_path):
    press(page, "Watch")
    steps = len(model.sampling.levels())
    wait_for(page, lambda: any(told(each) == f"step {steps} of {steps}" for each in texts(page)))
    occupancy = downloaded(page, tmp_path, "slab_0.glb")
    np.testing.assert_array_equal(occupancy, model.synthesize(1, category="slab", seed=0)[0] > 0.5)
    [picture] = wait_for(page, lambda: shown(page, "img"))
    assert wait_for(page, lambda: web.blue(picture) > 0.02)


def test_a_file_that_is_dropped_keeps_what_is_visible_of_it(page, tmp_path):
    box = np.zeros((SIDE, SIDE, SIDE), np.float32)
    box[4:12, 4:12, 2:14] = 1
    np.save(tmp_path / "box.npy", box)
    page.find_elements("css selector", "button[role=tab]")[2].click()
    [dropped] = wait_for(
        page,
        lambda: [
            each
            for each in page.find_elements("css selector", "input[type=file]")
            if ".npy" in each.get_attribute("accept")
        ],
    )
    dropped.send_keys(str(tmp_path / "box.npy"))
    wait_for(page, lambda: "box" in page.find_element("css selector", "body").text)
    press(page, "Recover")
    wait_for(page, lambda: any("of those that were hidden" in told(each) for each in texts(page)))
    found = downloaded(page, tmp_path, "box_whole.glb")
    assert found.sum() >= box.sum() / 4 and (found & (box > 0.5)).sum() >= box.sum() / 4
    assert (
        len(wait_for(page, lambda: len(shown(page, "canvas")) == 2 and shown(page, "canvas"))) == 2
    )


def test_where_a_category_has_a_preset_for_recovery_it_is_taken(model, tmp_path):
    box = np.zeros((32, 32, 32), np.float32)
    box[8:24, 8:24, 4:28] = 1
    np.save(tmp_path / "box.npy", box)
    workshop = demo_page.Workshop(model, tmp_path)
    known, found, told = workshop.recover(str(tmp_path / "box.npy"), "bathtub", "half:0.5", None, 0)
    seen, whole = (load_shape(path, 32).occupancy for path in (known, found))
    assert 0 < seen.sum() < box.sum() and (whole & seen).sum() == seen.sum()
    assert "of those that were hidden are wrong" in told


def painted(low, high):
    """What the sketchpad gives of a rectangle, in shares of its sides, from below."""
    layer = np.zeros((240, 240, 4), np.uint8)
    (left, below), (right, above) = np.multiply((low, high), 240).astype(int)
    layer[240 - above : 240 - below, left:right] = 255
    return {"layers": [layer]}


def test_silhouettes_make_the_largest_shape_that_has_them():
    front, side = painted((0, 0), (1, 0.5)), painted((0, 0), (0.25, 1))
    shape = demo_painting.hull([front, side, None], 32)
    expected = np.zeros((32, 32, 32), bool)
    expected[13:19, 4:28, 10:22] = True  # x of the side, y of the front, z of both; in the middle
    np.testing.assert_array_equal(shape, expected)
    far = painted((0, 0.5), (1, 1))  # y of what is seen from above
    assert demo_painting.hull([None, painted((0, 0), (1, 1)), far], 32).any((0, 2)).sum() == 12
    for wrong, said in (
        ([front, None, {"layers": []}], "two silhouettes"),
        ([front, painted((0, 0.6), (1, 1)), None], "no shape in common"),
    ):
        with pytest.raises(ValueError, match=said):
            demo_painting.hull(wrong, 32)


def test_what_is_painted_with_the_mouse_becomes_a_shape(page, tmp_path):
    open_tab(page, "Paint")
    canvases = wait_for(page, lambda: len(shown(page, "canvas")) == 3 and shown(page, "canvas"))
    brushes = shown(page, "button[aria-label=Brush]")
    for canvas, brush in zip(canvases[:2], brushes, strict=False):
        brush.click()
        paint(page, canvas)
    [holds] = [
        each
        for each in page.find_elements("css selector", "input[type=radio]")
        if "it stays" in each.get_attribute("value")
    ]
    holds.click()
    [button] = [each for each in shown(page, "button.primary") if "Make" in each.text]
    button.click()
    words = "painted voxels are kept"
    wait_for(page, lambda: any(words in told(each) for each in texts(page)))
    [said] = [told(each) for each in texts(page) if words in told(each)]
    kept, _, painted_voxels = said.split()[:3]
    assert kept == painted_voxels and int(kept) > 0
    assert downloaded(page, tmp_path, "slab_painted_0.glb").sum() >= int(kept)
    stages = wait_for(page, lambda: len(shown(page, "canvas")) == 5 and shown(page, "canvas")[3:])
    wait_for(page, lambda: all(web.blue(stage) > 0.005 for stage in stages))


def paint(page, canvas):
    """A stroke down, across and up, about the middle."""
    from selenium.webdriver import ActionChains

    hand = ActionChains(page, duration=20).move_to_element_with_offset(canvas, -60, -40)
    hand.click_and_hold()
    for step in ((0, 80), (20, 0), (0, -80), (20, 0), (0, 80)):
        hand.move_by_offset(*step)
    hand.release().perform()
    wait_for(page, lambda: web.blue(canvas) > 0.02)


def test_one_walks_from_shape_to_shape(page, model, tmp_path):
    press(page, "Walk")
    ends = [model.draw_latents(1, seed)[0] for seed in (0, 1)]
    way = model.interpolate(*ends, 7, category="slab") > 0.5
    np.testing.assert_array_equal(downloaded(page, tmp_path, "slab_0_1_way_1.glb"), way[0])
    [place] = shown(page, "input[type=range]")
    place.send_keys("\ue014" * 6)  # the right arrow
    np.testing.assert_array_equal(downloaded(page, tmp_path, "slab_0_1_way_7.glb"), way[-1])


def test_only_this_computer_is_served_and_no_file_that_is_too_large(address):
    place = urllib.parse.urlsplit(address)
    assert place.hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):  # it is not bound to all addresses
        socket.create_connection(("127.0.0.2", place.port), timeout=5).close()
    for size, status in ((1000, 200), (demo.MOST_MEGABYTES * 2**20 + 1, 413)):
        answer = requests.post(
            f"{address}gradio_api/upload", files={"files": ("a.npy", bytes(size))}, timeout=60
        )
        assert answer.status_code == status


def test_what_it_needs_is_told(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["demo"]) == 1
    assert "pip install 'descnet3d[demo]'" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main(["demo", "classifier_modelnet10_32"]) == 1
    assert "have no latents" in capsys.readouterr().err


def texts(page):
    return shown(page, "textarea, input[type=text]")


def told(field):
    return field.get_attribute("value") or ""
