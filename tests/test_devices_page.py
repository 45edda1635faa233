"""The page on several devices: its programs and commands, run on two workers of this machine."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import descnet3d

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guide" / "devices.md"
BLOCK = re.compile(r"<!-- (file: (?P<file>\S+)|run|run twice) -->\n```\w+\n(?P<text>.*?)```", re.S)
pytestmark = [pytest.mark.slow, pytest.mark.one_backend]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which all of the page was done, in its order."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("devices")
    text = PAGE.read_text(encoding="utf-8")
    for port in sorted(set(re.findall(r":(295\d\d)", text))):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            text = text.replace(port, str(free.getsockname()[1]))
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    known = {"PATH": os.pathsep.join(paths), "HOST": "127.0.0.1", "OTHER": "127.0.0.1"}
    environment = {**os.environ, **known, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = 0
    for block in BLOCK.finditer(text):
        if block["file"]:
            (folder / block["file"]).write_text(block["text"], encoding="utf-8")
            continue
        started = [
            subprocess.Popen(
                ["bash", "-ec", block["text"]],
                cwd=folder,
                env={**environment, "INDEX": str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            for index in range(2 if "run twice" in block[0] else 1)
        ]
        try:
            for process in started:
                said = process.communicate(timeout=600)[0]
                assert process.returncode == 0, said
        finally:
            for process in started:  # and those that it has started
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        done += 1
    assert done == 6
    return folder


def test_every_way_of_the_page_leaves_a_preset(folder):
    for name in ("my_boxes", "boxes_of_processes", "boxes_of_devices", "boxes_of_hosts"):
        model = descnet3d.load(str(folder / name))
        assert model.synthesize(2, num_steps=2, seed=0).shape == (2, 16, 16, 16)


@pytest.mark.parametrize(("name", "epochs"), [("processes", 6), ("devices", 4), ("hosts", 2)])
def test_each_checkpoint_holds_two_workers_and_all_epochs(folder, name, epochs):
    with np.load(folder / f"{name}.npz") as arrays:
        assert arrays["chains/0"].shape[0] == arrays["noise/0"].shape[0] == 2
        assert np.abs(np.subtract(*arrays["chains/0"])).max() > 0
        assert arrays["progress"][0] == epochs
