"""Takes the pictures of docs/pictures, in a browser.

    python docs/take_pictures.py ZOO [--only demo]

ZOO is a zoo that `descnet3d presets publish` wrote, with its page; the demo shows the descriptor of
ten categories that came with the package. It needs Chromium, and '.[test]'.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
PATIENCE = 600  # seconds
# The address of this server would be another one in each picture.
ELSEWHERE = (
    "document.querySelector('[data-address]').lastChild.textContent ="
    " 'DESCNET3D_ZOO=https://example.org/zoo'"
)
sys.path.insert(0, str(ROOT / "tests" / "stand_ins"))

import browser as web  # noqa: E402


def main() -> None:
    """Takes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--only", choices=("demo", "zoo"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile, web.started(Path(profile)) as page:
        if arguments.only != "demo":
            take_zoo(page, arguments.zoo)
        if arguments.only != "zoo":
            take_demo(page)


def take_zoo(page: Any, zoo: Path) -> None:
    """The zoo's page, and two presets that recover beside each other."""
    page.set_window_size(1280, 1080)
    with web.served(zoo) as address:
        page.get(address)
        time.sleep(2)
        page.execute_script(ELSEWHERE)
        save(page, "gallery", 940)
        page.get(f"{address}/#compare=recovery_sofa_32,recovery_toilet_32")
        time.sleep(8)
        save(page, "comparison", 860)


def take_demo(page: Any) -> None:
    """The demo's first tab, with a sofa that it has made."""
    import descnet3d
    from descnet3d.commands import demo

    page.set_window_size(1100, 800)
    with demo.served(descnet3d.load("modelnet10")) as address:
        page.get(address)
        wait_for(page, lambda: shown(page, "button.primary"))
        [category] = wait_for(page, lambda: shown(page, "input[aria-label=Category]"))
        category.click()
        [sofa] = wait_for(
            page, lambda: [each for each in shown(page, "[role=option]") if each.text == "sofa"]
        )
        sofa.click()
        shown(page, "button.primary")[0].click()
        [canvas] = wait_for(page, lambda: shown(page, "canvas"))
        wait_for(page, lambda: web.blue(canvas) > 0.02)
        save(page, "demo", 660)


def wait_for(page: Any, condition: Any) -> Any:
    """What the condition gives as soon as it gives something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, PATIENCE, 0.5).until(lambda _: condition())


def shown(page: Any, selector: str) -> list[Any]:
    """The elements that are seen."""
    found = page.find_elements("css selector", selector)
    return [element for element in found if element.is_displayed()]


def save(page: Any, name: str, height: int) -> None:
    """The upper part of what the browser shows, as a small file."""
    picture = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(height, picture.height)))
    picture.save(PICTURES / f"{name}.webp", quality=80, method=6)
    print(f"wrote {PICTURES / name}.webp, {picture.width}x{picture.height}")


if __name__ == "__main__":
    main()
