"""How far long work has come: a bar on terminals, a line a minute elsewhere; on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS = 60.0


def bar(
    total: float | None, unit: str, *, title: str | None = None, items: Any = None, **more: Any
) -> tqdm:
    """A `tqdm` bar with the time left, for people and for logs.

    Args:
        total: how much there is to do; None where that is not known.
        unit: of what.
        title: what stands before it.
        items: what is gone through, where the bar is iterated over.
        more: further settings of `tqdm`.

    Returns:
        The bar; `update` advances it.
    """
    from tqdm import tqdm

    settings: dict[str, Any] = {"dynamic_ncols": True, "leave": False}
    if not sys.stderr.isatty():
        settings = {
            "delay": SECONDS,  # what is done sooner needs no line
            "mininterval": SECONDS,
            "maxinterval": SECONDS,
            "ncols": 100,
            "ascii": True,
            "file": _Lines(),
        }
    return tqdm(items, title, total, unit=unit, **settings, **more)


class _Lines:
    """Standard error, on which a bar that is drawn anew becomes another line."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass
