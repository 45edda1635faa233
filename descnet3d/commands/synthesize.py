"""The command `descnet3d synthesize`: new shapes of a pretrained model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import define_seed_flag
from descnet3d.commands.outputs import start_keras
from descnet3d.zoo import presets


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
    flags.DEFINE_boolean("labels", False, "Number the shapes of a sheet.", flag_values=values)


def _synthesize(arguments: Sequence[str], values: flags.FlagValues) -> None:
    if values.out is None:
        raise UsageError("--out missing: say where to write, as in --out=shapes.png")
    # What cannot be found or written is reported before the long work.
    from descnet3d.shapes import sheets

    if values.labels and Path(values.out).suffix.lower() not in sheets.IMAGE_ENDINGS:
        raise UsageError(f"--labels is for sheets ({', '.join(sheets.IMAGE_ENDINGS)})")
    numbers = [str(index) for index in range(values.num)] if values.labels else None
    write = outputs.writer(values.out, values.num, numbers, form=outputs.mesh_form(values))
    folder = presets.find(arguments[0], values.task)

    started = time.perf_counter()
    start_keras()
    model = presets.load_descriptor(folder)
    made = outputs.in_batches(
        values.num,
        values.seed,
        lambda rows, seed, progress: model.synthesize(
            rows.stop - rows.start, seed=seed, num_steps=values.steps, progress=progress
        ),
    )
    outputs.report([write(made)], values.num, started)


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
