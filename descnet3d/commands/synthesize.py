"""The command `descnet3d synthesize`: new shapes of a pretrained model."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import define_seed_flag
from descnet3d.commands.outputs import start_keras
from descnet3d.numpy_files import parse_npy, read_bytes
from descnet3d.zoo import presets

if TYPE_CHECKING:
    import numpy as np

# The preset that refines what others make.
SURFACES = "refinement_modelnet10_32"


def _synthesize_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("num", 16, "How many shapes.", lower_bound=1, flag_values=values)
    define_seed_flag(values, "The same seed gives the same shapes.")
    outputs.define_flags(values)
    flags.DEFINE_integer(
        "steps",
        None,
        "Langevin steps, instead of the preset's own number.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "task",
        "synthesis",
        ["synthesis", "cooperative"],
        "Which preset of a category: one that starts from noise, or from a generator.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "size",
        None,
        "The side of the grid, the model's own doubled once or more: its shapes are refined by a "
        f"descriptor of surfaces, {SURFACES}.",
        lower_bound=1,
        flag_values=values,
    )
    _composition_flags(values)
    flags.DEFINE_boolean("labels", False, "Number the shapes of a sheet.", flag_values=values)


def _composition_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "category",
        None,
        "Which category of a model of several; or the weights of several, whose energies are "
        "summed: chair:0.5,sofa:0.5. A negative weight turns away from a category.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "where",
        None,
        "A .npy file that says of each voxel -1 (empty), 1 (occupied) or 0 (free): one grid, or "
        "one for each shape.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "strength",
        None,
        "By how much --where changes the log odds of a voxel; if absent, it is so without "
        "exception.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "guidance",
        None,
        "How far beyond what the category changes the odds are taken, instead of the preset's own.",
        lower_bound=0,
        flag_values=values,
    )


def _category_of(text: str) -> str | dict[str, float]:
    """A category, or the weights of several."""
    if ":" not in text and "," not in text:
        return text
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise UsageError(f"--category={text}: give {name} a finite weight, as in {name}:0.5")
        if name in weights:
            raise UsageError(f"--category={text} names {name} twice")
        weights[name] = weight
    return weights


def _composition_of(values: flags.FlagValues) -> dict[str, Any]:
    """What `synthesize` is to be told of a composition, of the flags that are given.

    Raises:
        UsageError: they say something that cannot be.
        ValueError: the file of `--where` cannot be read.
    """
    names = ("category", "where", "strength", "guidance")
    given: dict[str, Any] = {
        name: values[name].value for name in names if values[name].value is not None
    }
    if "strength" in given and "where" not in given:
        raise UsageError("--strength is of --where, which is missing")
    if "category" in given:
        given["category"] = _category_of(given["category"])
    if "where" in given:
        if Path(given["where"]).suffix.lower() != ".npy":
            raise UsageError(f"--where={given['where']} is no .npy file")
        content = read_bytes(given["where"])
        given["where"] = parse_npy(io.BytesIO(content), len(content), given["where"])
    return given


def _require_composed(model: Any, given: dict[str, Any], name: str) -> None:
    from descnet3d.models.composed import ComposedModel

    if given and not isinstance(model, ComposedModel):
        raise UsageError(
            f"--{next(iter(given))} is for models of several categories, such as modelnet10 and "
            f"those made of it, and {name} is a {type(model).__name__}"
        )


def _of_rows(given: dict[str, Any], rows: slice, count: int) -> dict[str, Any]:
    """The same for some of the shapes, of which each may have a grid of its own."""
    where: np.ndarray | None = given.get("where")
    if where is None or where.ndim != 4 or len(where) != count:
        return given
    return {**given, "where": where[rows]}


def _synthesize(arguments: Sequence[str], values: flags.FlagValues) -> None:
    if values.out is None:
        raise UsageError("--out missing: say where to write, as in --out=shapes.png")
    # What cannot be found or written is reported before the long work.
    from descnet3d.shapes import sheets

    if values.labels and Path(values.out).suffix.lower() not in sheets.IMAGE_ENDINGS:
        raise UsageError(f"--labels is for sheets ({', '.join(sheets.IMAGE_ENDINGS)})")
    numbers = [str(index) for index in range(values.num)] if values.labels else None
    write = outputs.writer(values.out, values.num, numbers, form=outputs.mesh_form(values))
    composition = _composition_of(values)
    folder = presets.find(arguments[0], values.task)

    started = time.perf_counter()
    start_keras()
    model = presets.load_descriptor(folder)
    _require_composed(model, composition, arguments[0])
    refined = _refining(model, values.size)

    def make(rows: slice, seed: int, progress: bool) -> np.ndarray:
        asked = _of_rows(composition, rows, values.num)
        how = {"seed": seed, "num_steps": values.steps, "progress": progress, **asked}
        return refined(model.synthesize(rows.stop - rows.start, **how), seed, progress)

    made = outputs.in_batches(values.num, values.seed, make)
    outputs.report([write(made)], values.num, started)


def _refining(model: Any, size: int | None) -> Callable[[np.ndarray, int, bool], np.ndarray]:
    """What brings a model's shapes to a grid of a side, given a seed; they stay where it is None.

    Raises:
        UsageError: there is no such grid.
    """
    if size is None:
        return lambda shapes, seed, progress: shapes
    surfaces = presets.load(SURFACES)
    try:
        surfaces.rounds_to(model.grid, size)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    return lambda shapes, seed, progress: surfaces.refine(
        shapes, size, seed=seed, progress=progress
    )


COMMAND = Command(
    name="synthesize",
    arguments=("NAME",),
    summary="make new shapes with a pretrained model",
    description=(
        "Makes new shapes with a pretrained model, by Langevin dynamics from noise (or from a "
        "generator's shapes, with --task=cooperative), and writes "
        "a picture of them, their voxels or their meshes. NAME is a category, the id of a "
        "preset (descnet3d presets lists both), or a folder that a training run wrote."
    ),
    example="descnet3d synthesize toilet --num=16 --out=toilets.png",
    define_flags=_synthesize_flags,
    run=_synthesize,
)
