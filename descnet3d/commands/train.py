"""The command `descnet3d train`: a preset of an archive, a folder or a tfds data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from descnet3d import files
from descnet3d.commands import torchrun
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import (
    define_data_flags,
    define_new_preset_flags,
    define_settings,
    given_settings,
    read_labelled_shapes,
)
from descnet3d.commands.outputs import start_keras
from descnet3d.energy.tasks import TASKS

if TYPE_CHECKING:
    from descnet3d.training.recipes import Recipe


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
    define_settings(recipes.Recipe, values)


def recipe_of(values: flags.FlagValues) -> Recipe:
    """The recipe that the flags give."""
    from descnet3d.training import recipes

    changes = given_settings(recipes.Recipe, values)
    return recipes.RECIPES[values.recipe].changed(**changes)


def _train(arguments: Sequence[str], values: flags.FlagValues) -> None:
    for name in ("data", "out"):
        if values[name].value is None:
            raise UsageError(f"--{name} missing")
    recipe = recipe_of(values)
    # What cannot be written or found is reported before the long work.
    files.check_folder_writable(values.out)
    with torchrun.joined() as workers:
        with torchrun.first_before_others(workers):
            archive = read_labelled_shapes(
                values,
                category=values.category,
                split="train",
                size=values.size,
                keep_in=Path(values.out) / "training",
            )
        start_keras()
        from descnet3d.training.new_preset import train_preset

        folder = train_preset(
            archive.occupancy,
            recipe,
            values.out,
            name=values.id,
            category=values.category,
            labels=archive.labels,
            classes=archive.classes,
            base=values.recipe,
            sheet_every=values.sheet_every,
            terms=values.terms,
        )
    if workers is not None and not workers.first:
        return
    then = TASKS[recipe.task].command.format(id=folder).replace("ARCHIVE", str(values.data))
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
        "checkpoint when the same command is given again. torchrun starts it in several processes, "
        "with KERAS_BACKEND=torch, and they share the shapes of each iteration."
    ),
    example=("descnet3d train --data=modelnet10_32.npz --category=toilet --out=my_toilets"),
    define_flags=_train_flags,
    run=_train,
    common=(
        "data",
        "category",
        "out",
        "recipe",
        "batch_size",
        "matching_steps",
        "likelihood_steps",
        "mirror_axes",
        "seed",
        "id",
        "sheet_every",
    ),
)
