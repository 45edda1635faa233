"""A preset's card, which is Markdown, as it is read in a terminal: the figures first."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

WIDTH = 80
_FIRST = "## Figures"


def rendered(card: str) -> str:
    """The card's text.

    Args:
        card: Markdown: a title, a description, and sections.

    Returns:
        Lines of at most 80 columns, as far as its words and numbers allow: the description, the
        figures, and then the other sections.
    """
    head, *sections = re.split(r"^(?=## )", card, flags=re.MULTILINE)
    sections.sort(key=lambda section: not section.startswith(_FIRST))  # the others keep their order
    lines = [line for part in (head, *sections) for line in _lines(part.strip().splitlines())]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _lines(source: Sequence[str]) -> Iterator[str]:
    table: list[list[str]] = []
    is_code = False
    for line in [*source, ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if table:
            yield from _columns(table)
            table = []
        if line.startswith("```"):
            is_code = not is_code
        elif is_code:
            yield f"  {line}"
        elif line.startswith("#"):
            yield line.lstrip("# ").upper() if line.startswith("## ") else line.lstrip("# ")
            yield ""
        elif not line.startswith("!["):
            indent = "  " if line.startswith("- ") else ""
            yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent) or [""]
    yield ""


def _columns(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose first column is wrapped, and whose others stand to the right."""
    rows = [row for row in table if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    others = [max(len(cell) for cell in column) for column in list(zip(*rows, strict=False))[1:]]
    first = max(20, WIDTH - sum(others) - 2 * len(others))
    for name, *cells in rows:
        *above, last = textwrap.wrap(name, first) or [""]
        yield from above
        aligned = (f"  {cell:>{width}}" for cell, width in zip(cells, others, strict=False))
        yield f"{last:{first}}{''.join(aligned)}".rstrip()
