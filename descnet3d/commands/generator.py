"""The commands of latents: `descnet3d generate`, `interpolate` and `arithmetic`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import define_seed_flag
from descnet3d.zoo import presets

if TYPE_CHECKING:
    import numpy as np

    from descnet3d.models.latent_model import LatentModel


def _define_flags(values: flags.FlagValues) -> None:
    define_seed_flag(values, "The same seed gives the same latents.")
    outputs.define_flags(values)
    flags.DEFINE_boolean(
        "revise",
        False,
        "Let Langevin dynamics revise what is made of the latents.",
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
    write = outputs.writer(values.out, values.num, form=outputs.mesh_form(values))
    model, started = _start(folder)
    made = outputs.in_batches(
        values.num,
        values.seed,
        lambda rows, seed, progress: model.generate(
            rows.stop - rows.start, seed=seed, revised=values.revise, progress=progress
        ),
    )
    outputs.report([write(made)], values.num, started)


def _interpolate(arguments: Sequence[str], values: flags.FlagValues) -> None:
    folder = _preset(arguments[0], values)
    given = _given(values, 2)
    rows = values.num if given is None else len(given) // 2
    labels = [f"{step + 1} of {values.steps}" for _ in range(rows) for step in range(values.steps)]
    write = outputs.writer(
        values.out, len(labels), labels, columns=values.steps, form=outputs.mesh_form(values)
    )
    model, started = _start(folder)
    import numpy as np

    from descnet3d.evaluation import shape_distances
    from descnet3d.evaluation.model_sheets import paths

    largest = []

    def walk(ends: np.ndarray, progress: bool) -> np.ndarray:
        shapes = paths(
            model, ends, values.steps, kind=values.path, revised=values.revise, progress=progress
        )
        for row in np.split(shapes, len(ends)):
            largest.append(f"{shape_distances.path_steps(row).max():.3f}")
        return shapes

    made = outputs.in_batches(rows, values.seed, _of_latents(model, given, 2, walk), values.steps)
    outputs.report([write(made)], len(labels), started)
    print(f"the largest step between neighbours (1 - IoU): {', '.join(largest)}")


def _arithmetic(arguments: Sequence[str], values: flags.FlagValues) -> None:
    folder = _preset(arguments[0], values)
    given = _given(values, 3)
    rows = values.num if given is None else len(given) // 3
    labels = ["a", "b", "c", "a - b + c"] * rows
    write = outputs.writer(
        values.out, len(labels), labels, columns=4, form=outputs.mesh_form(values)
    )
    model, started = _start(folder)
    from descnet3d.evaluation.model_sheets import sums

    def add(operands: np.ndarray, progress: bool) -> np.ndarray:
        return sums(model, operands, revised=values.revise, progress=progress)

    made = outputs.in_batches(rows, values.seed, _of_latents(model, given, 3, add), 4)
    outputs.report([write(made)], len(labels), started)


def _preset(name: str, values: flags.FlagValues) -> Path:
    """The folder of a preset whose shapes have latents."""
    if values.out is None:
        raise UsageError("--out missing: say where to write, as in --out=shapes.png")
    return presets.find_with_latents(name)


def _start(folder: Path) -> tuple[LatentModel, float]:
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


def _of_latents(
    model: LatentModel,
    given: np.ndarray | None,
    count: int,
    make: Callable[[np.ndarray, bool], np.ndarray],
) -> Callable[[slice, int, bool], np.ndarray]:
    """What makes rows of shapes of latents `[rows, count, d]`, of given shapes or the prior's."""

    def of_rows(rows: slice, seed: int, progress: bool) -> np.ndarray:
        number = rows.stop - rows.start
        if given is None:
            drawn = model.draw_latents(number * count, seed)
        else:
            drawn = model.encode(given[rows.start * count : rows.stop * count])
        return make(drawn.reshape(number, count, -1), progress)

    return of_rows


_NAME = "NAME is a category, the id of a preset, or a folder that a training run wrote."
GENERATE = Command(
    name="generate",
    arguments=("NAME",),
    summary="make the shapes of latents: the same latents, the same shapes",
    description=(
        "Makes the shapes of latents from the prior: of a generator in one pass; of an annealed "
        "descriptor by chains from the noise that the latents are, without any other. --revise "
        f"has Langevin dynamics revise them. {_NAME}"
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
        "Makes the shapes on the way between two latents, a row for each path, and "
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
