"""How many shapes obey a composition, beside shapes of the same categories that are not composed.

    python benchmarks/composition.py --num=16 --sheet=composition.webp

A row a composition: the share of shapes whose told voxels are all as told, the share of told voxels
that are, the probability of each category by the reference classifier, and the share of shapes in
one piece. Of shapes that are not composed the same is measured: what they would obey by chance. The
sheet has a row for each, in the order of the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from descnet3d.evaluation.pieces import raggedness
from descnet3d.shapes import sheets
from descnet3d.tables import Figure, table
from descnet3d.zoo import presets


class Example(NamedTuple):
    """What is asked for, and what is looked at.

    Attributes:
        asked: the arguments of `synthesize`.
        told: the grid that shapes are held against, asked for or not; None for none.
        categories: those whose probability is printed.
    """

    asked: Mapping[str, Any]
    told: np.ndarray | None
    categories: tuple[str, ...]


def low(side: int) -> np.ndarray:
    """Nothing in the upper part of the grid, into which the headboards of beds reach."""
    where = np.zeros((side,) * 3, np.int8)
    where[:, :, round(side * 17 / 32) :] = -1
    return where


def round_plate(side: int) -> np.ndarray:
    """A round plate of 2 voxels of 32, and nothing beside it at its height."""
    where = np.zeros((side,) * 3, np.int8)
    centre = np.arange(side) - (side - 1) / 2
    disc = np.hypot(*np.meshgrid(centre, centre)) <= side * 10 / 32
    where[:, :, round(side * 20 / 32) : round(side * 22 / 32)] = np.where(disc, 1, -1)[..., None]
    return where


def examples(side: int) -> dict[str, Example]:
    """What the table and the sheet show."""
    both, box, plate = ("chair", "sofa"), low(side), round_plate(side)
    halves, away = {"chair": 0.5, "sofa": 0.5}, {"chair": 1.5, "sofa": -0.5}
    of_bed, of_table = {"category": "bed"}, {"category": "table"}
    return {
        "chair": Example({"category": "chair"}, None, both),
        "sofa": Example({"category": "sofa"}, None, both),
        "half chair, half sofa": Example({"category": halves}, None, both),
        "1.5 chair, -0.5 sofa": Example({"category": away}, None, both),
        "bed": Example(of_bed, box, ("bed",)),
        "low bed, strength 3": Example({**of_bed, "where": box, "strength": 3.0}, box, ("bed",)),
        "low bed": Example({**of_bed, "where": box}, box, ("bed",)),
        "table": Example(of_table, plate, ("table",)),
        "round table": Example({**of_table, "where": plate}, plate, ("table",)),
    }


def figures(made: np.ndarray, example: Example, classifier: Any) -> list[Figure]:
    """The figures of a row."""
    solid, obeyed, right = made > 0.5, None, None
    if example.told is not None:
        as_told = (solid == (example.told > 0))[:, example.told != 0]
        obeyed, right = f"{as_told.all(1).sum()} of {len(made)}", float(as_told.mean())
    chances = classifier.probabilities(made).mean(0)
    said = [f"{name} {chances[classifier.classes.index(name)]:.3f}" for name in example.categories]
    return [obeyed, right, ", ".join(said), raggedness(solid).get("one_piece")]


def main() -> None:
    """Prints the table and writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="synthesis_modelnet10_32")
    parser.add_argument("--num", type=int, default=16, help="shapes of a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", help="where the sheet goes; none where this is absent")
    parser.add_argument("--columns", type=int, default=6, help="shapes of a row of the sheet")
    options = parser.parse_args()
    model = presets.load_descriptor(options.preset)
    classifier = presets.reference_classifier(model.classes, model.grid)
    if classifier is None:
        parser.error(f"there is no classifier of the categories of {options.preset}")
    rows, shown, labels = {}, [], []
    for name, example in examples(model.grid[0]).items():
        made = model.synthesize(options.num, seed=options.seed, progress=True, **example.asked)
        rows[name] = figures(made, example, classifier)
        shown.append(made[: options.columns])
        labels += [name, *[""] * (len(shown[-1]) - 1)]
    headings = ["all as told", "voxels as told", "class probability", "one piece"]
    print(table(rows, headings, f"{options.preset}, seed {options.seed}"))
    if options.sheet:
        columns = min(options.num, options.columns)
        tiles = np.concatenate(shown)
        sheets.save_sheet(tiles, options.sheet, labels=labels, columns=columns, tile=144)


if __name__ == "__main__":
    main()
