"""A real browser without a window, for tests of pages; Debian's chromium and chromium-driver."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

_SWITCHES = (
    "--headless",
    "--no-sandbox",  # of a browser that root starts
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@contextlib.contextmanager
def started(profile: Path):
    """The browser's driver, or a skip where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in (*_SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield running
    finally:
        running.quit()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder that Python's own server serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def errors(browser) -> list[str]:
    """What the console has told since it was last asked, of errors alone."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def traffic(browser) -> tuple[list[str], int]:
    """The addresses that were asked since this was last called, and the bytes that came."""
    asked, size = [], 0
    for line in browser.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
        elif message["method"] == "Network.loadingFinished":
            size += message["params"]["encodedDataLength"]
    return asked, int(size)


def pixels(element) -> np.ndarray:
    """A picture of an element, `[height, width, 3]`."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"))


def blue(element) -> float:
    """The share of an element's pixels that have the color of shapes."""
    red, green, blue = np.moveaxis(pixels(element).astype(int), -1, 0)
    return float(((blue > red + 30) & (blue > green + 10)).mean())
