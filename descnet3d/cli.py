"""The command line: `descnet3d COMMAND [ARGUMENTS] [--flags]`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from descnet3d import console, data_flags, files, outputs, presets
from descnet3d.console import Command, UsageError
from descnet3d.finetune_command import COMMAND as FINETUNE
from descnet3d.latent_commands import ARITHMETIC, GENERATE, INTERPOLATE
from descnet3d.outputs import start_keras
from descnet3d.presets_command import COMMAND as PRESETS
from descnet3d.reconstruction_commands import RECOVER, UPSCALE
from descnet3d.voxelize_command import COMMAND as VOXELIZE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: what follows `descnet3d` on the command line; `sys.argv` where None.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    try:
        status = console.run(COMMANDS, sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output (head, say) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return console.DONE
    return status


# --- synthesize -----------------------------------------------------------------------------------


def _synthesize_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("num", 16, "How many shapes.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer(
        "seed",
        0,
        "The same seed gives the same shapes.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        outputs.MEANING,
        flag_values=values,
    )
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
    from descnet3d import view

    if values.labels and Path(values.out).suffix.lower() not in view.IMAGE_ENDINGS:
        raise UsageError(f"--labels is for sheets ({', '.join(view.IMAGE_ENDINGS)})")
    numbers = [str(index) for index in range(values.num)] if values.labels else None
    write = outputs.writer(values.out, values.num, numbers)
    folder = presets.find(arguments[0], values.task)

    started = time.perf_counter()
    start_keras()
    model = presets.load_descriptor(folder)
    shapes = model.synthesize(
        values.num, seed=values.seed, num_steps=values.steps, progress=sys.stdout.isatty()
    )
    outputs.report([write(shapes)], len(shapes), started)


# --- train ----------------------------------------------------------------------------------------


def _train_flags(values: flags.FlagValues) -> None:
    data_flags.define(values)
    flags.DEFINE_string(
        "category", None, "Train on the shapes of this category.", flag_values=values
    )
    data_flags.define_new_preset(values)
    from descnet3d import recipes

    flags.DEFINE_enum(
        "recipe",
        "base",
        list(recipes.RECIPES),
        "The recipe to start from; the flags below change single settings.",
        flag_values=values,
    )
    define: dict[str, Callable[..., Any]] = {
        "int": flags.DEFINE_integer,
        "float": flags.DEFINE_float,
        "str": flags.DEFINE_string,
        "bool": flags.DEFINE_boolean,
    }
    for name, kind, meaning in recipes.described():
        define[kind](name, None, meaning, flag_values=values)


def _train(arguments: Sequence[str], values: flags.FlagValues) -> None:
    from descnet3d import recipes

    for name in ("data", "out"):
        if values[name].value is None:
            raise UsageError(f"--{name} missing")
    changed: dict[str, Any] = {
        name: values[name].value
        for name, _, _ in recipes.described()
        if values[name].value is not None
    }
    recipe = replace(recipes.RECIPES[values.recipe], **changed)
    # What cannot be written or found is reported before the long work.
    files.check_folder_writable(values.out)
    archive = data_flags.read(
        values,
        category=values.category,
        split="train",
        size=values.size,
        keep_in=Path(values.out) / "training",
    )
    start_keras()
    from descnet3d import landing

    words = [f"--recipe={values.recipe}"]
    words += [f"--{name}={value}" for name, value in changed.items()]
    folder = landing.train_preset(
        archive.occupancy,
        recipe,
        values.out,
        name=values.id,
        category=values.category,
        labels=archive.labels,
        classes=archive.classes,
        flags=words,
        sheet_every=values.sheet_every,
        terms=values.terms,
    )
    judges = recipe.task in ("features", "classification")
    then = (
        f"evaluate {folder} --data={values.data}"
        if judges
        else f"synthesize {folder} --out=shapes.png"
    )
    print(f"wrote {folder}: descnet3d {then}")


# --- evaluate -------------------------------------------------------------------------------------


def _evaluate_flags(values: flags.FlagValues) -> None:
    from descnet3d import recipes

    data_flags.define(values)
    flags.DEFINE_string(
        "category",
        None,
        "What the shapes should be; the preset's own if absent.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "task",
        None,
        list(recipes.TASKS),
        "What the model is asked; what it was trained for if absent.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "corruption",
        "voxels:0.7",
        "What hides voxels where --task=recovery: voxels, half, block or scan, and the share.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "ratio", 4, "The side of a block where --task=super_resolution.", 2, flag_values=values
    )
    flags.DEFINE_integer(
        "num", 64, "How many shapes to synthesise.", lower_bound=2, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "The seed.", lower_bound=0, flag_values=values)
    flags.DEFINE_string("preset", None, "NAME, as a flag.", flag_values=values)
    flags.DEFINE_boolean(
        "write",
        False,
        "Write scores, card and sheet into the preset's folder.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json", None, "A file to write the figures to, as JSON, as well.", flag_values=values
    )
    flags.DEFINE_boolean(
        "paper",
        False,
        "Print the paper's tables instead (classification, inception score, softmax class "
        "probability, recovery error), the shipped presets' figures beside the paper's. The data "
        "are ModelNet10's, with the official split.",
        flag_values=values,
    )


def _evaluate(arguments: Sequence[str], values: flags.FlagValues) -> None:
    from descnet3d import preset_config, voxels

    if values.data is None:
        raise UsageError("--data missing")
    names = [*arguments, *([values.preset] if values.preset else [])]
    if len(names) != (0 if values.paper else 1):
        wanted = "--paper takes none" if values.paper else "one is needed, as NAME or --preset"
        raise UsageError(f"{len(names)} presets given, and {wanted}")
    if values.json is not None:
        files.check_writable(values.json)
    if values.paper:
        _evaluate_as_the_paper(values)
        return
    if values.task is None and (values["corruption"].present or values["ratio"].present):
        raise UsageError("--corruption and --ratio are for --task")
    find = presets.find_generator if values.task == "cooperative" else presets.find
    folder = find(names[0])
    if values.write:
        files.check_folder_writable(folder)
    size = values.size
    if size is None and os.path.isdir(values.data):
        size = preset_config.read_config(folder)["size"][0]
    archive = data_flags.read(values, size=size)
    if values.category is not None:
        voxels.find_label(values.category, archive.classes, values.data)
    start_keras()
    from descnet3d import landing, tasks

    found = landing.evaluate_preset(
        folder,
        archive,
        category=values.category,
        task=tasks.task_of(values.flag_values_dict()) if values.task else "own",
        num=values.num,
        seed=values.seed,
        write=values.write,
        progress=sys.stdout.isatty(),
    )
    print(found.printed)
    if values.json is not None:
        _write_json(values.json, {"preset": str(names[0]), **found.measured})


def _evaluate_as_the_paper(values: flags.FlagValues) -> None:
    for name in ("category", "task", "write", "size"):
        if values[name].present:
            raise UsageError(f"--{name} is for a preset, not for --paper")
    archive = data_flags.read(values)
    start_keras()
    from descnet3d import paper_tables

    tables = paper_tables.paper_tables(
        archive, num=values.num, seed=values.seed, progress=sys.stderr.isatty()
    )
    print(paper_tables.as_markdown(tables))
    if values.json is not None:
        _write_json(values.json, {"tables": [table.as_dict() for table in tables]})


def _write_json(path: str, content: dict[str, Any]) -> None:
    from descnet3d.preset_config import as_json

    with files.replacing(Path(path)) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8")


COMMANDS = (
    Command(
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
    ),
    RECOVER,
    UPSCALE,
    GENERATE,
    INTERPOLATE,
    ARITHMETIC,
    PRESETS,
    Command(
        name="train",
        arguments=(),
        summary="train a model of a category",
        description=(
            "Trains a descriptor (with --recipe=cooperative, a generator too) on the training "
            "shapes of an archive, of a folder or of a tfds data set, by a recipe, and writes a "
            "preset that descnet3d.load reads. Checkpoints, sheets and logs (TensorBoard reads "
            "them) lie in its folder 'training'; a run that was killed goes on from its last "
            "checkpoint when the same command is given again."
        ),
        example=("descnet3d train --data=modelnet10_32.npz --category=toilet --out=my_toilets"),
        define_flags=_train_flags,
        run=_train,
    ),
    FINETUNE,
    Command(
        name="evaluate",
        arguments=("[NAME]",),
        summary="measure what a model does",
        description=(
            "Synthesises shapes from fresh noise and prints their figures beside those of the "
            "real test shapes: the share whose nearest training shape is of the right category, "
            "the IoU to it, occupancy, copies, and diversity. A model of recovery or "
            "super-resolution gets the test shapes with hidden voxels, or coarse, and its errors "
            "are printed beside those of simple baselines; a classifier, its accuracy."
        ),
        example="descnet3d evaluate toilet --data=modelnet10_32.npz",
        define_flags=_evaluate_flags,
        run=_evaluate,
    ),
    VOXELIZE,
)

if __name__ == "__main__":
    sys.exit(main())
