"""The command `descnet3d finetune`: a preset of one's own shapes, begun from one that there is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
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
from descnet3d.models import preset_config
from descnet3d.zoo import presets

AUTO = "auto"
# The flags that are settings of a recipe, by the names that they have there.
_SETTINGS = {
    "steps": "matching_steps",
    "learning_rate": "matching_learning_rate",
    "layers": "layers",
    "mirror_axes": "mirror_axes",
    "seed": "seed",
}


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "from",
        AUTO,
        "The preset to begin with: a category, an id, a folder or an address; or auto, the one at "
        "hand whose energy fits the shapes best.",
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
        ["synthesis", "recovery", "super_resolution", "cooperative"],
        "What the new preset is for. If absent, what the old one is for; of a cooperative one the "
        "descriptor alone goes on, as synthesis. cooperative teaches a new generator after that, "
        "which takes several times as long.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "Iterations of eight shapes (sixteen where a generator is taught too, for which more "
        "follow); 4000, or 1800 for recovery and super-resolution, if absent.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Adam's largest learning rate; 1e-3, or 5e-4 for recovery and super-resolution, if absent.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "layers",
        None,
        "The layers that learn, by their names with commas between, * for any letters "
        "(code_*,refine_*); all if absent.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "mirror_axes",
        None,
        "The axes along which the shapes may be mirrored, such as 0 or 01.",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", None, "The seed.", lower_bound=0, flag_values=values)


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
        start = _nearest(archive.occupancy, out, values.seed or 0)
    changes: dict[str, Any] = {
        setting: values[flag].value
        for flag, setting in _SETTINGS.items()
        if values[flag].value is not None
    }
    name, recipe = finetuning.recipe_from(start, values.task, len(archive.occupancy), **changes)
    folder = train_preset(
        archive.occupancy,
        recipe,
        out,
        name=values.id,
        category=categories[0] if len(categories) == 1 else None,
        labels=archive.labels,
        classes=archive.classes,
        flags=finetuning.differences(name, recipe),
        sheet_every=values.sheet_every,
        terms=values.terms,
    )
    print(f"wrote {folder}: descnet3d synthesize {folder} --out=shapes.png")


def _nearest(shapes: Any, out: Path, seed: int) -> str:
    """The id of the preset to begin with, which a run that is resumed remembers."""
    from descnet3d.training import finetuning

    noted = out / "training" / "start.txt"
    if noted.exists():
        return noted.read_text(encoding="utf-8").strip()

    found = finetuning.nearest_presets(shapes, seed=seed, progress=sys.stderr.isatty())
    listed = ", ".join(f"{each.preset.id} {each.loss:.3g}" for each in found[:3])
    print(f"beginning with {found[0].preset.id}, which fits best (matching loss: {listed})")
    noted.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(noted) as temporary:
        temporary.write_text(found[0].preset.id + "\n", encoding="utf-8")
    return found[0].preset.id


COMMAND = Command(
    name="finetune",
    arguments=(),
    summary="make a preset of your own shapes from one that there is",
    description=(
        "Goes on training a preset with the shapes of an archive, of a folder of meshes or grids, "
        "or of a tfds data set, and writes a preset of them. Checkpoints, sheets and logs lie in "
        "its folder 'training', as those of train; a run that was killed goes on when the same "
        "command is given again. Without --from, the preset that fits the shapes best is taken."
    ),
    example="descnet3d finetune --from=chair --data=my_benches --out=my_preset",
    define_flags=_flags,
    run=_run,
)
