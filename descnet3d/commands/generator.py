"""The commands of a generator: `descnet3d generate`, `interpolate` and `arithmetic`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.zoo import presets

if TYPE_CHECKING:
    import numpy as np

    from descnet3d.models.cooperative import CooperativeNet


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "seed",
        0,
        "The same seed gives the same latents.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=values,
    )
    flags.DEFINE_string("out", None, outputs.MEANING, flag_values=values)
    flags.DEFINE_boolean(
        "revise",
        False,
        "Let Langevin dynamics of the descriptor revise what the generator makes.",
        flag_values=values,
    )


def _generate_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("num", 16, "How many shapes.", lower_bound=1, flag_values=values)
    _define_flags(values)


def _rows_flags(values: flags.FlagValues, what: str, count: int) -> None:
    flags.DEFINE_integer(
        "num", 4, f"How many {what}, of latents from the prior.", 1, flag_values=values
    )
    flags.DEFINE_string(
        "input",
        None,
        f"A file of grids (.npz, .npy, .mat) whose shapes, {count} at a time, are encoded and "
        "taken instead.",
        flag_values=values,
    )
    _define_flags(values)


def _interpolate_flags(values: flags.FlagValues) -> None:
    _rows_flags(values, "paths", 2)
    flags.DEFINE_integer(
        "steps", 9, "The shapes of a path, both ends included.", 2, flag_values=values
    )
    flags.DEFINE_enum(
        "path",
        "spherical",
        ["spherical", "linear"],
        "Along a great circle, or a straight line.",
        flag_values=values,
    )


def _arithmetic_flags(values: flags.FlagValues) -> None:
    _rows_flags(values, "sums a - b + c", 3)


def _generate(arguments: Sequence[str], values: flags.FlagValues) -> None:
    folder = _preset(arguments[0], values)
    write = outputs.writer(values.out, values.num)
    model, started = _start(folder)
    shapes = model.generate(
        values.num, seed=values.seed, revised=values.revise, progress=sys.stdout.isatty()
    )
    outputs.report([write(shapes)], len(shapes), started)


def _interpolate(arguments: Sequence[str], values: flags.FlagValues) -> None:
    folder = _preset(arguments[0], values)
    given = _given(values, 2)
    rows = values.num if given is None else len(given) // 2
    labels = [f"{step + 1} of {values.steps}" for _ in range(rows) for step in range(values.steps)]
    write = outputs.writer(values.out, len(labels), labels, columns=values.steps)
    model, started = _start(folder)
    import numpy as np

    from descnet3d.evaluation import shape_distances
    from descnet3d.evaluation.model_sheets import paths

    ends = _latents(model, given, rows, 2, values.seed)
    shapes = paths(
        model,
        ends,
        values.steps,
        kind=values.path,
        revised=values.revise,
        progress=sys.stdout.isatty(),
    )
    outputs.report([write(shapes)], len(shapes), started)
    rows_of_shapes = np.split(shapes, rows)
    largest = ", ".join(f"{shape_distances.path_steps(row).max():.3f}" for row in rows_of_shapes)
    print(f"the largest step between neighbours (1 - IoU): {largest}")


def _arithmetic(arguments: Sequence[str], values: flags.FlagValues) -> None:
    folder = _preset(arguments[0], values)
    given = _given(values, 3)
    rows = values.num if given is None else len(given) // 3
    labels = ["a", "b", "c", "a - b + c"] * rows
    write = outputs.writer(values.out, len(labels), labels, columns=4)
    model, started = _start(folder)
    from descnet3d.evaluation.model_sheets import sums

    operands = _latents(model, given, rows, 3, values.seed)
    shapes = sums(model, operands, revised=values.revise, progress=sys.stdout.isatty())
    outputs.report([write(shapes)], len(shapes), started)


def _preset(name: str, values: flags.FlagValues) -> Path:
    """The folder of a cooperative preset."""
    if values.out is None:
        raise UsageError("--out missing: say where to write, as in --out=shapes.png")
    return presets.find_generator(name)


def _start(folder: Path) -> tuple[CooperativeNet, float]:
    started = time.perf_counter()
    outputs.start_keras()
    model: Any = presets.load(folder)
    return model, started


def _given(values: flags.FlagValues, count: int) -> np.ndarray | None:
    """The shapes of --input, a multiple of `count`."""
    if values.input is None:
        return None
    from descnet3d.datasets.grid_files import read_grids
    from descnet3d.shapes.occupancy import as_occupancy

    shapes = as_occupancy(read_grids(values.input), values.input)
    if not len(shapes) or len(shapes) % count:
        raise ValueError(
            f"{values.input} must hold {count} shapes for each row, but it holds {len(shapes)}"
        )
    return shapes


def _latents(
    model: CooperativeNet, given: np.ndarray | None, rows: int, count: int, seed: int
) -> np.ndarray:
    """Latents `[rows, count, d]`, of given shapes or from the prior."""
    drawn = model.draw_latents(rows * count, seed) if given is None else model.encode(given)
    return drawn.reshape(rows, count, -1)


_NAME = "NAME is a category, the id of a cooperative preset, or a folder that a training run wrote."
GENERATE = Command(
    name="generate",
    arguments=("NAME",),
    summary="make new shapes with a generator, at once",
    description=(
        "Makes new shapes with the generator of a cooperative preset, in one pass (synthesize "
        f"--task=cooperative has them revised by Langevin dynamics, as --revise does here). {_NAME}"
    ),
    example="descnet3d generate chair --num=64 --out=chairs.png",
    define_flags=_generate_flags,
    run=_generate,
)
INTERPOLATE = Command(
    name="interpolate",
    arguments=("NAME",),
    summary="walk from shape to shape",
    description=(
        "Makes the shapes on the way between two latents of a generator, a row for each path, and "
        f"prints the largest step of each. {_NAME}"
    ),
    example="descnet3d interpolate chair --num=3 --revise --out=paths.png",
    define_flags=_interpolate_flags,
    run=_interpolate,
)
ARITHMETIC = Command(
    name="arithmetic",
    arguments=("NAME",),
    summary="add and subtract shapes",
    description=(
        "Makes the shape of the latents a - b + c: what a has and b has not, added to c. Each row "
        f"of a sheet shows a, b, c and the sum. {_NAME}"
    ),
    example="descnet3d arithmetic chair --input=three_chairs.npz --out=sum.png",
    define_flags=_arithmetic_flags,
    run=_arithmetic,
)
