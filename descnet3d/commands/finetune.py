"""The command `descnet3d finetune`: a preset of one's own shapes, begun from an existing one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from descnet3d.energy.tasks import TASKS, TUNABLE, TUNABLE_ANNEALED
from descnet3d.models import preset_config
from descnet3d.training.recipes import Recipe
from descnet3d.zoo import presets

if TYPE_CHECKING:
    from descnet3d.energy.together import Workers

AUTO = "auto"
# The settings of a recipe that are flags under their own names.
_SETTINGS = ("layers", "mirror_axes", "seed", "denoising_native")


def _by_task(setting: str) -> str:
    return ", ".join(f"{changes[setting]} for {task}" for task, changes in TUNABLE.items())


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "from",
        AUTO,
        "The preset to begin with: a category, an id, a folder or an address; or auto, the one at "
        "hand that fits the shapes best.",
        flag_values=values,
    )
    define_data_flags(values)
    flags.DEFINE_string(
        "category",
        None,
        "Train on the shapes of this category; the only one if absent.",
        flag_values=values,
    )
    define_new_preset_flags(values)
    flags.DEFINE_enum(
        "task",
        None,
        list(TUNABLE),
        "What the new preset is for. If absent, what the old one is for; of a cooperative one the "
        "descriptor alone goes on, as synthesis. cooperative teaches a new generator after that, "
        "which takes several times as long.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "Iterations of eight shapes; if absent, "
        f"{TUNABLE_ANNEALED['denoising_steps']} from an annealed preset, as nearly all are, and of "
        f"others {_by_task('matching_steps')}. Where an annealed one synthesises, half as many "
        "follow, in which the energy is fitted; where a generator is taught, which takes sixteen "
        "shapes an iteration, more follow.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Adam's largest learning rate; if absent, "
        f"{TUNABLE_ANNEALED['denoising_learning_rate']} from an annealed preset, and of others "
        f"{_by_task('matching_learning_rate')}.",
        lower_bound=0,
        flag_values=values,
    )
    define_settings(Recipe, values, _SETTINGS)


def _run(arguments: Sequence[str], values: flags.FlagValues) -> None:
    for name in ("data", "out"):
        if values[name].value is None:
            raise UsageError(f"--{name} missing")
    start = str(values["from"].value)
    out = Path(values.out)
    # What cannot be written or found is reported before the long work.
    files.check_folder_writable(out)
    size = values.size
    if start != AUTO and size is None and os.path.isdir(values.data):
        config = preset_config.read_config(presets.find(start, values.task or "synthesis"))
        size = config["size"][0]
    with torchrun.joined() as workers:
        folder = _finetuned(values, start, out, size, workers)
    if workers is None or workers.first:
        task = preset_config.read_config(folder)["task"]
        print(f"wrote {folder}: descnet3d {TASKS[task].command.format(id=folder)}")


def _finetuned(
    values: flags.FlagValues, start: str, out: Path, size: int | None, workers: Workers | None
) -> Path:
    with torchrun.first_before_others(workers):
        archive = read_labelled_shapes(
            values, category=values.category, split="train", size=size, keep_in=out / "training"
        )
    categories = sorted({archive.classes[label] for label in archive.labels})
    if len(categories) > 1 and values.id is None:
        raise UsageError(
            f"{values.data} holds {', '.join(categories)}: give --category, or --id for all"
        )
    start_keras()
    from descnet3d.training import finetuning
    from descnet3d.training.new_preset import refuse_finished, train_preset

    refuse_finished(out)
    if start == AUTO:
        with torchrun.first_before_others(workers):
            start = _nearest(archive.occupancy, out, values.seed or 0)
    pretraining = {"steps": "matching_steps", "learning_rate": "matching_learning_rate"}
    changes = {key: values[flag].value for flag, key in pretraining.items() if values[flag].present}
    changes |= given_settings(Recipe, values, _SETTINGS)
    name, recipe = finetuning.recipe_from(start, values.task, len(archive.occupancy), **changes)
    return train_preset(
        archive.occupancy,
        recipe,
        out,
        name=values.id,
        category=categories[0] if len(categories) == 1 else None,
        labels=archive.labels,
        classes=archive.classes,
        base=name,
        sheet_every=values.sheet_every,
        terms=values.terms,
    )


def _nearest(shapes: Any, out: Path, seed: int) -> str:
    """The id of the preset to begin with, which a run that is resumed remembers."""
    from descnet3d.training import finetuning

    noted = out / "training" / "start.txt"
    if noted.exists():
        return noted.read_text(encoding="utf-8").strip()

    found = finetuning.nearest_presets(shapes, seed=seed, progress=True)
    listed = ", ".join(f"{each.preset.id} {each.loss:.3g}" for each in found[:3])
    print(f"beginning with {found[0].preset.id}, which fits best (denoising loss: {listed})")
    noted.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(noted) as temporary:
        temporary.write_text(found[0].preset.id + "\n", encoding="utf-8")
    return found[0].preset.id


COMMAND = Command(
    name="finetune",
    arguments=(),
    summary="make a preset of your own shapes from an existing one",
    description=(
        "Goes on training a preset with the shapes of an archive, of a folder of meshes or grids, "
        "or of a tfds data set, and writes a preset of them. Checkpoints, sheets and logs lie in "
        "its folder 'training', as those of train; a run that was killed goes on when the same "
        "command is given again. Without --from, the preset that fits the shapes best is taken."
    ),
    example="descnet3d finetune --from=chair --data=my_benches --out=my_preset",
    define_flags=_flags,
    run=_run,
    common=(
        "from",
        "data",
        "category",
        "out",
        "task",
        "steps",
        "learning_rate",
        "mirror_axes",
        "id",
    ),
)
