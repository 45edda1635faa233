"""Tables of figures, as Markdown that reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tabulate import tabulate

Figure = float | int | str | None


def table(rows: Mapping[str, Iterable[Figure]], headings: Iterable[str], corner: str = "") -> str:
    """Figures as a Markdown table.

    Args:
        rows: the figures of each row, by its name: floats (written with four digits), integers,
            words, or None for an empty cell.
        headings: what the columns of figures hold.
        corner: what the rows' names are.

    Returns:
        The table, without a newline at its end.
    """
    headings = list(headings)
    cells = [[name, *map(_cell, figures)] for name, figures in rows.items()]
    return tabulate(
        cells,
        [corner, *headings],
        "github",
        disable_numparse=True,
        colalign=["left"] + ["right"] * len(headings) if cells else None,
    )


def _cell(figure: Figure) -> str:
    if isinstance(figure, float):
        return f"{figure:.4g}"
    return "" if figure is None else str(figure)


def scores_table(
    columns: Mapping[str, Mapping[str, float]],
    *,
    ratio: bool = False,
    meanings: Mapping[str, str] | None = None,
    corner: str = "",
) -> str:
    """Sets of the same scores side by side, a row a score.

    Args:
        columns: the scores of each set, by its name.
        ratio: whether the ratio of the first set's to the last one's is told, of scores that are
            no counts.
        meanings: what rows are called instead of the scores' names.
        corner: what the scores are of.
    """
    sets = list(columns.values())
    rows: dict[str, list[Figure]] = {}
    for name, value in sets[0].items():
        figures: list[Figure] = [scores[name] for scores in sets]
        if ratio:
            last = sets[-1][name]
            figures.append(f"{value / last:.3f}" if isinstance(value, float) and last else None)
        rows[(meanings or {}).get(name, name)] = figures
    return table(rows, [*columns, *(["ratio"] if ratio else [])], corner)
