"""The command `descnet3d train`: a preset of an archive, a folder or a tfds data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from descnet3d import files
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import (
    define_data_flags,
    define_new_preset_flags,
    read_labelled_shapes,
)
from descnet3d.commands.outputs import start_keras


def _train_flags(values: flags.FlagValues) -> None:
    define_data_flags(values)
    flags.DEFINE_string(
        "category", None, "Train on the shapes of this category.", flag_values=values
    )
    define_new_preset_flags(values)
    from descnet3d.training import recipes

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
    from descnet3d.training import recipes

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
    archive = read_labelled_shapes(
        values,
        category=values.category,
        split="train",
        size=values.size,
        keep_in=Path(values.out) / "training",
    )
    start_keras()
    from descnet3d.training.new_preset import train_preset

    words = [f"--recipe={values.recipe}"]
    words += [f"--{name}={value}" for name, value in changed.items()]
    folder = train_preset(
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


COMMAND = Command(
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
)
