"""The page of a zoo, in a real browser: what it shows, what it asks for, and how it is used."""

import json
import os
import re
import shutil
from pathlib import Path

import browser as web
import numpy as np
import pytest

from descnet3d.commands import cli
from descnet3d.datasets.shape_files import load_shape
from descnet3d.zoo import exhibits, gallery

pytestmark = [pytest.mark.one_backend, pytest.mark.slow]
ZOO = Path(__file__).resolve().parents[2] / "zoo"
SYNTHESIS, TEN = "synthesis_sofa_32", "synthesis_modelnet10_32"
RECOVERY, JUDGE = "recovery_sofa_32", "classifier_modelnet10_32"
ARROW_RIGHT, ENTER, ESCAPE, TAB = "\ue014", "\ue007", "\ue00c", "\ue004"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo of four presets, published with a shape of each."""
    folder = tmp_path_factory.mktemp("published") / "zoo"
    for name in (SYNTHESIS, TEN, RECOVERY, JUDGE):
        shutil.copytree(ZOO / name, folder / name)
    assert cli.main(["presets", "publish", str(folder), "--shapes=1"]) == 0
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with web.started(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(zoo, running):
    """The page, opened afresh; no error may have been told when the test is over."""
    with web.served(zoo) as address:
        running.get("about:blank")
        web.errors(running), web.traffic(running)
        running.get(address)
        yield running
        assert web.errors(running) == []


@pytest.fixture
def viewer():
    if not gallery.has_viewer():
        pytest.skip("needs the viewer: pip install '.[gallery]'")


def find(within, selector):
    return within.find_element("css selector", selector)


def shown(page):
    cards = page.find_elements("css selector", ".card")
    return [card.get_attribute("data-id") for card in cards if card.is_displayed()]


def wait_for(page, condition, seconds=120):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, seconds, 0.1).until(lambda _: condition())


def live(page, selector):
    return wait_for(page, lambda: find(page, f"{selector}.live model-viewer"))


def config_of(name):
    return json.loads((ZOO / name / "config.json").read_text())


def test_it_is_light_and_asks_no_other_server(page, viewer):
    assert shown(page) == [TEN, SYNTHESIS, RECOVERY, JUDGE]
    wait_for(page, lambda: page.execute_script("return document.readyState") == "complete")
    address = page.current_url.rstrip("/")
    asked, size = web.traffic(page)
    assert 50_000 < size < 3e6
    page.get(f"{address}/#{SYNTHESIS}")
    live(page, f"#{SYNTHESIS} .stage")
    more, _ = web.traffic(page)
    assert [url for url in more if url.endswith(".glb")]
    outside = [url for url in asked + more if not url.startswith((address, "data:", "blob:"))]
    assert outside == []


def test_filters_show_what_is_asked_for_and_the_address_keeps_them(page):
    find(page, "input[name=task][value=recovery] + span").click()
    assert shown(page) == [RECOVERY]
    assert find(page, ".count").text == "1 of 4 shown"
    find(page, "input[name=task][value=''] + span").click()
    find(page, "select[name=category] option[value=toilet]").click()
    # Two that know all ten categories, and none of sofas.
    assert shown(page) == [TEN, JUDGE]
    page.refresh()
    assert shown(page) == [TEN, JUDGE]
    find(page, "input[name=task][value=recovery] + span").click()
    assert shown(page) == []
    assert find(page, ".nothing").is_displayed()


def test_a_shape_is_drawn_and_turns_by_the_keyboard(page, viewer):
    find(page, f".card[data-id={SYNTHESIS}] h2 a").click()
    live(page, f"#{SYNTHESIS} .stage")
    stage = find(page, f"#{SYNTHESIS} .stage")
    wait_for(page, lambda: 0.1 < web.blue(stage) < 0.8)
    before = web.pixels(stage).astype(int)
    for _ in range(8):
        if page.execute_script("return document.activeElement.localName") == "model-viewer":
            break
        page.switch_to.active_element.send_keys(TAB)
    else:
        pytest.fail("the shape cannot be reached by the keyboard")
    page.switch_to.active_element.send_keys(ARROW_RIGHT * 4)
    wait_for(page, lambda: np.abs(web.pixels(stage).astype(int) - before).mean() > 2)


def test_it_is_used_by_the_keyboard_alone(page):
    link = find(page, f".card[data-id={RECOVERY}] h2 a")
    page.execute_script("arguments[0].focus()", link)
    link.send_keys(ENTER)
    dialog = find(page, f"#{RECOVERY}")
    assert dialog.get_attribute("open") is not None
    assert page.current_url.endswith(f"#{RECOVERY}")
    first = find(dialog, ".shapes input")
    page.execute_script("arguments[0].focus()", first)
    first.send_keys(ARROW_RIGHT)
    chosen = page.switch_to.active_element.get_attribute("data-title")
    assert chosen == "1: known"
    assert find(dialog, ".stage img").get_attribute("alt") == f"sofa: {chosen}"
    page.switch_to.active_element.send_keys(ESCAPE)
    wait_for(page, lambda: dialog.get_attribute("open") is None)
    wait_for(page, lambda: page.switch_to.active_element == link)
    assert "#" not in page.current_url


def test_a_picture_turns_under_the_mouse(page):
    from selenium.webdriver import ActionChains

    picture = find(page, f".card[data-id={SYNTHESIS}] .picture")
    assert web.blue(picture) > 0.05
    still = web.pixels(picture).astype(int)
    mouse = ActionChains(page)
    mouse.move_to_element_with_offset(picture, -60, 0).move_by_offset(5, 0).perform()
    wait_for(page, lambda: picture.find_elements("css selector", ".turning"))
    mouse.move_by_offset(60, 0).perform()
    turned = web.pixels(picture).astype(int)
    assert np.abs(turned - still).mean() > 2 and web.blue(picture) > 0.05


def test_two_are_compared_side_by_side(page, viewer):
    for name in (SYNTHESIS, TEN):
        find(page, f".card[data-id={name}] .compare").click()
    find(page, ".tray .go").click()
    comparison = find(page, "#comparison")
    wait_for(page, lambda: len(page.find_elements("css selector", "#comparison .live")) == 2)
    for stage in comparison.find_elements("css selector", ".stage"):
        wait_for(page, lambda stage=stage: web.blue(stage) > 0.05)
    text = find(comparison, "tbody").text
    [line] = [line for line in text.splitlines() if line.startswith("mean IoU of pairs")]
    figures = [
        config_of(name)[scores]["pairwise_iou"]
        for name in (SYNTHESIS, TEN)
        for scores in ("scores", "real_scores")
    ]
    assert [float(word) for word in line.split()[-4:]] == [
        pytest.approx(figure, abs=5e-4) for figure in figures
    ]
    assert page.current_url.endswith(f"#compare={SYNTHESIS},{TEN}")


def test_what_is_copied_is_the_line_that_loads_the_preset(page):
    page.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    page.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    find(page, f".card[data-id={SYNTHESIS}] h2 a").click()
    button = find(page, f"#{SYNTHESIS} .copy")
    # What the button says it says for two seconds: too short to be asked on a busy machine.
    page.execute_script(
        """
        const [button] = arguments, options = {subtree: true, characterData: true};
        window.said = [];
        new MutationObserver(() => said.push(button.textContent)).observe(button, options);
        """,
        button,
    )
    button.click()
    said = wait_for(page, lambda: page.execute_script("return said.length > 1 && said"))
    assert [text.partition(":")[0] for text in said] == ["Copied", "Copy"]
    copied = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == f'descnet3d.load("{SYNTHESIS}")'


@pytest.mark.parametrize("opened", ["", f"#{SYNTHESIS}", f"#compare={SYNTHESIS},{RECOVERY}"])
def test_a_phone_scrolls_one_way_only(page, opened):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.get(page.current_url + opened)
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        if opened:
            dialog = find(page, "dialog[open]")
            close = find(dialog, ".close").rect
            assert close["x"] + close["width"] <= 390 and close["y"] < 844
            assert page.execute_script("return arguments[0].scrollWidth", dialog) <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_is_dark_where_that_is_wished(page):
    def brightness():
        return web.pixels(find(page, "header")).mean()

    assert brightness() > 200
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    try:
        assert brightness() < 60
        assert web.blue(find(page, f".card[data-id={SYNTHESIS}] .picture")) > 0.05
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_opened_as_a_file_or_without_the_viewer_shapes_turn_as_pictures(zoo, running):
    from selenium.webdriver import ActionChains

    web.errors(running)
    running.get(f"file://{zoo}/index.html#{SYNTHESIS}")
    stage = find(running, f"#{SYNTHESIS} .stage")
    wait_for(running, lambda: stage.find_elements("css selector", ".turning"))
    before = web.pixels(stage).astype(int)
    ActionChains(running).drag_and_drop_by_offset(stage, 120, 0).perform()
    assert np.abs(web.pixels(stage).astype(int) - before).mean() > 2
    assert not running.find_elements("css selector", "model-viewer")
    assert web.errors(running) == []


def test_the_meshes_are_the_shapes_a_metre_high_grid_on_the_ground(zoo):
    trimesh = pytest.importorskip("trimesh")
    for name in (SYNTHESIS, RECOVERY):
        for shape in exhibits.listed(zoo, name):
            path = zoo / "gallery" / name / shape["mesh"]
            assert load_shape(path, 32).occupancy.sum() == shape["voxels"]
            mesh = trimesh.load(path, force="mesh")
            assert mesh.volume * 32**3 == pytest.approx(shape["voxels"], rel=1e-4)
            assert mesh.bounds[0, 1] >= 0 and mesh.bounds[1, 1] <= 1  # y is up


def test_what_was_made_is_made_once_and_anew_of_other_weights(zoo, tmp_path, capsys):
    copy = shutil.copytree(zoo, tmp_path / "zoo")
    shutil.rmtree(copy / RECOVERY)  # it would be shown with others, too
    made = copy / "gallery" / SYNTHESIS / "0.glb"
    os.utime(made, (0, 0))
    assert cli.main(["presets", "publish", str(copy), "--shapes=1"]) == 0
    assert made.stat().st_mtime == 0
    config = config_of(SYNTHESIS)
    config["model"]["category"] = "toilet"
    (copy / SYNTHESIS / "config.json").write_text(json.dumps(config))
    before = made.read_bytes()
    assert cli.main(["presets", "publish", str(copy), "--shapes=1"]) == 0
    assert made.read_bytes() != before


def test_a_preset_that_makes_nothing_is_named_and_hinders_no_other(zoo, tmp_path, capsys):
    copy = shutil.copytree(zoo, tmp_path / "zoo")
    shutil.rmtree(copy / "gallery")
    for name in (TEN, RECOVERY):
        shutil.rmtree(copy / name)  # what shares its weights cannot be loaded
    config = config_of(SYNTHESIS)
    config["model"]["shares"] = "synthesis_nowhere_32"
    (copy / SYNTHESIS / "config.json").write_text(json.dumps(config))
    assert cli.main(["presets", "publish", str(copy), "--shapes=1"]) == 0
    assert f"no shapes of {SYNTHESIS}: " in capsys.readouterr().err
    assert SYNTHESIS in (copy / "index.html").read_text()


def test_nothing_of_a_strangers_preset_becomes_a_tag(zoo, tmp_path):
    copy = shutil.copytree(zoo, tmp_path / "zoo")
    config = config_of(JUDGE)
    config["description"] = "<script>alert(1)</script>"
    config["model"]["classes"] = ['"><b id=bad>', *config["model"]["classes"][1:]]
    (copy / JUDGE / "config.json").write_text(json.dumps(config))
    card = (
        "# A\n\n<script src=x></script>\n\n![p](https://example.org/p.png)\n\n[l](javascript:x)\n"
    )
    (copy / JUDGE / "card.md").write_text(card)
    assert cli.main(["presets", "publish", str(copy), "--shapes=0"]) == 0
    page = (copy / "index.html").read_text()
    assert re.findall("<script[^>]*>", page) == ['<script src="gallery/gallery.js" defer>']
    assert "<b id=bad" not in page and "javascript:" not in re.sub("&lt;.*?&gt;", "", page).replace(
        "[l](javascript:x)", ""
    )
    assert "example.org" not in page and f'src="{JUDGE}/p.png"' in page


def test_without_the_viewer_the_command_says_how_to_get_it(zoo, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(zoo, tmp_path / "zoo")
    shutil.rmtree(copy / "gallery")
    monkeypatch.setattr(gallery, "_VIEWER", ("no_such_package", "vendor"))
    assert cli.main(["presets", "publish", str(copy), "--shapes=0"]) == 0
    assert "pip install 'descnet3d[gallery]'" in capsys.readouterr().err
    assert "data-viewer" not in (copy / "index.html").read_text()
    assert not list((copy / "gallery").glob("model-viewer*"))
