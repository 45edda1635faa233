"""The command `descnet3d evaluate`: the figures of a preset, or the paper's tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from descnet3d import files
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import (
    define_data_flags,
    define_seed_flag,
    define_settings,
    given_settings,
    read_labelled_shapes,
)
from descnet3d.commands.outputs import start_keras
from descnet3d.energy.tasks import TASKS, condition_of
from descnet3d.zoo import presets

_CONDITIONS = {task.name: task.condition for task in TASKS.values() if task.condition is not None}


def _evaluate_flags(values: flags.FlagValues) -> None:
    define_data_flags(values)
    flags.DEFINE_string(
        "category",
        None,
        "What the shapes should be; the preset's own if absent.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "task",
        None,
        list(TASKS),
        "What the model is asked; what it was trained for if absent.",
        flag_values=values,
    )
    for name, condition in _CONDITIONS.items():
        define_settings(condition, values, where=f"Where --task={name}: ")
    flags.DEFINE_integer(
        "num", 64, "How many shapes to synthesise.", lower_bound=2, flag_values=values
    )
    define_seed_flag(values, "The seed.")
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
    from descnet3d.datasets import sources
    from descnet3d.datasets.archives import find_label
    from descnet3d.models import preset_config

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
    asked: dict[str, Any] = {}
    for condition in _CONDITIONS.values():
        asked |= given_settings(condition, values)
    if values.task is None and asked:
        raise UsageError(f"flags such as --{next(iter(asked))} are for --task")
    find = presets.find_generator if values.task == "cooperative" else presets.find
    folder = find(names[0])
    if values.write:
        files.check_folder_writable(folder)
    size = values.size
    if size is None and os.path.isdir(values.data):
        size = preset_config.read_config(folder)["size"][0]
    of = None
    if sources.holds_plain_grids(values.data):  # which are what they are said to be
        of = values.category or preset_config.read_config(folder).get("category")
    archive = read_labelled_shapes(values, category=of, size=size)
    if values.category is not None:
        find_label(values.category, archive.classes, values.data)
    start_keras()
    from descnet3d.evaluation.preset import evaluate_preset

    found = evaluate_preset(
        folder,
        archive,
        category=values.category,
        task=condition_of({"task": values.task, **asked}) if values.task else "own",
        num=values.num,
        seed=values.seed,
        write=values.write,
        progress=True,
    )
    print(found.printed)
    if values.json is not None:
        _write_json(values.json, {"preset": str(names[0]), **found.measured})


def _evaluate_as_the_paper(values: flags.FlagValues) -> None:
    for name in ("category", "task", "write", "size"):
        if values[name].present:
            raise UsageError(f"--{name} is for a preset, not for --paper")
    archive = read_labelled_shapes(values)
    start_keras()
    from descnet3d.evaluation import paper

    tables = paper.paper_tables(archive, num=values.num, seed=values.seed, progress=True)
    print(paper.as_markdown(tables))
    if values.json is not None:
        _write_json(values.json, {"tables": [table.as_dict() for table in tables]})


def _write_json(path: str, content: dict[str, Any]) -> None:
    from descnet3d.models.preset_config import as_json

    with files.replacing(Path(path)) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8")


COMMAND = Command(
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
    common=("data", "category", "task", "num", "seed", "write", "json", "paper"),
)
