"""Tables, read by another library's reader."""

import io

import pandas
import pytest

from descnet3d.tables import scores_table, table


def read(markdown):
    """A Markdown table as pandas reads columns that bars separate."""
    lines = [line for line in markdown.splitlines() if not set(line) <= set("|-: ")]
    frame = pandas.read_csv(io.StringIO("\n".join(lines)), sep=r"\s*\|\s*", engine="python")
    frame = frame.iloc[:, 1:-1]
    return frame.set_index(frame.columns[0])


def test_figures_come_back_from_a_table():
    frame = read(table({"a": [0.123456, 7], "b": [None, 10**6]}, ["one", "two"], "name"))
    assert frame.loc["a", "one"] == 0.1235 and frame.loc["b", "two"] == 10**6
    assert pandas.isna(frame.loc["b", "one"])


def test_columns_stand_under_each_other():
    lines = table({"a": [0.5], "longer": [100]}, ["column"]).splitlines()
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1


def test_a_ratio_is_of_the_first_to_the_last_and_of_no_count():
    sets = {"ours": {"iou": 0.6, "shapes": 64}, "real": {"iou": 0.8, "shapes": 64}}
    frame = read(scores_table(sets, ratio=True, meanings={"iou": "IoU"}, corner="of"))
    assert frame.loc["IoU", "ratio"] == pytest.approx(0.75)
    assert pandas.isna(frame.loc["shapes", "ratio"])
