"""Ctrl-C, wherever it falls, is one line; after the work it is nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from descnet3d import startup
from descnet3d.commands import interrupts, outputs

pytestmark = pytest.mark.one_backend


class Falls:
    """Ctrl-C comes while it is destroyed, where Python raises nothing."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # where the signal is taken


def test_an_interrupt_within_a_destructor_is_not_lost(capfd):
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), interrupts.taken():
        Falls()
        time.sleep(10)
    assert interrupts.status() == 130
    assert capfd.readouterr().err == ""
    assert sys.unraisablehook is before


def test_an_interrupt_that_an_imported_library_swallows_is_not_lost(monkeypatch):
    def catches_all():
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    monkeypatch.setattr(startup, "import_keras", catches_all)
    with pytest.raises(KeyboardInterrupt), interrupts.taken():
        outputs.start_keras()
    assert interrupts.status() == 143


def test_what_else_a_destructor_raises_is_told_as_ever(monkeypatch):
    class Fails:
        def __del__(self):
            raise RuntimeError("not an interrupt")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(str(lost.exc_value)))
    with interrupts.taken():
        Fails()
    assert told == ["not an interrupt"]


# TensorFlow's end takes a while, and so may this.
SLOW_END = """
import atexit, sys, time
from descnet3d.commands.cli import main

@atexit.register
def end():
    print("ending", flush=True)
    time.sleep(1)

sys.argv[1:] = ["--version"]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_after_the_work_changes_nothing(number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_END], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.stdout.readline() != "ending\n":
        pass
    process.send_signal(number)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0
