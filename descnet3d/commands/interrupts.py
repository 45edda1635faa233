"""Ctrl-C and SIGTERM, told apart from whatever fails because of them.

An interrupt that comes while a library is imported ends as that library's ImportError, or worse:
what counts is that it came. One that comes within a destructor, where nothing can be raised, is
sent again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_came: list[int] = []
# Long enough for a destructor to end.
_SECONDS = 0.05


@contextlib.contextmanager
def taken(for_good: bool = False) -> Iterator[None]:
    """Takes both as KeyboardInterrupt, and notes that they came.

    Args:
        for_good: whether the process ends after it; what comes then is too late, and is ignored.
    """
    _came.clear()

    def note(number: int, frame: FrameType | None) -> None:
        _came.append(number)
        raise KeyboardInterrupt

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread gets signals
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as shells have it in background
                before[number] = signal.signal(number, note)
    try:
        with _sent_again():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if for_good else handler)


@contextlib.contextmanager
def _sent_again() -> Iterator[None]:
    """Sends an interrupt anew that Python could only print, as within a destructor."""
    before, timers = sys.unraisablehook, []

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not (_came and issubclass(lost.exc_type, KeyboardInterrupt)):
            before(lost)
            return
        timers.append(threading.Timer(_SECONDS, os.kill, (os.getpid(), _came[-1])))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def raise_lost() -> None:
    """Raises what came and went no further, as where a library that was imported catches all."""
    if _came:
        raise KeyboardInterrupt


def came() -> bool:
    """Whether one has come since they are taken."""
    return bool(_came)


def status() -> int:
    """The exit status that shells expect after it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_came[-1] if _came else signal.SIGINT)


def tell(command: str, error: BaseException) -> int:
    """Prints one line, and gives the exit status."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            print()  # a progress bar leaves its line open
        said = str(error) if isinstance(error, KeyboardInterrupt) else ""
        print(f"{f'descnet3d {command}'.strip()}: {said or 'interrupted'}", file=sys.stderr)
    return status()
