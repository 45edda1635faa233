"""What a preset does, measured by the task that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from descnet3d.datasets.archives import VoxelArchive
from descnet3d.energy.tasks import Condition, Refinement, condition_of, task_of
from descnet3d.evaluation import classification, reconstruction
from descnet3d.evaluation.cooperation import evaluate_cooperation
from descnet3d.evaluation.model_sheets import SHEET_COLUMNS, save_judged, save_model_sheet
from descnet3d.evaluation.synthesis import Reference, evaluate_synthesis
from descnet3d.files import replacing
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.preset_config import CONFIG, as_json, read_config
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.tables import scores_table
from descnet3d.zoo import cards, presets


def evaluate_preset(
    folder: str | Path,
    archive: VoxelArchive,
    *,
    category: str | None = None,
    task: Condition | str | None = "own",
    num: int = 64,
    seed: int = 0,
    write: bool = False,
    progress: bool = False,
) -> Finding:
    """Measure what a preset does.

    Args:
        folder: the preset.
        archive: shapes of all categories, with their official split.
        category: what its shapes should be; the preset's own if absent.
        task: what it is asked: the task that it was trained for ("own"), None for synthesis, or
            what is known of shapes.
        num: how many shapes to synthesise.
        seed: the seed of what it synthesises and of the hidden voxels.
        write: whether to write scores, sheet and card into the folder.
        progress: whether to show a progress bar.

    Returns:
        Synthesised shapes' figures beside those of the real test shapes; the errors of recovered
        or super-resolved test shapes beside those of simple baselines; the accuracy of a
        classifier.

    Raises:
        ValueError: when `write` is asked for with another task than the preset's own.
    """
    folder = Path(folder)
    model = presets.load(folder)
    if isinstance(model, classification.Classifier):
        if not isinstance(task, str):
            raise ValueError(f"{folder} holds a classifier, which cannot be asked anything else.")
        found = _judge(model, archive)
    else:
        own = condition_of(model.preset.get("recipe") or {})
        condition = own if isinstance(task, str) else task
        if write and condition != own:
            raise ValueError(
                f"write needs the preset's own task, {own or 'synthesis'}, not {condition}."
            )
        found = _ask(model, archive, category, condition, num, seed, progress)
    if write:
        config = {**read_config(folder), **found.measured}
        command = f"descnet3d evaluate {config.get('id', folder)} --data=ARCHIVE"
        of = [f"--category={category}"] if category else []
        config["evaluation_command"] = " ".join([command, *of, *found.words])
        with replacing(folder / CONFIG) as path:
            path.write_text(as_json(config), encoding="utf-8")
        found.draw(folder / "sheet.png")
        cards.write(folder)
    return found


class Finding(NamedTuple):
    """What an evaluation found.

    Attributes:
        measured: what it puts into a preset's config.
        words: the flags that repeat it.
        printed: Markdown tables of it.
        draw: renders the sheet that goes with it.
    """

    measured: dict[str, Any]
    words: list[str]
    printed: str
    draw: Callable[[Path], None]


def _judge(model: classification.Classifier, archive: VoxelArchive) -> Finding:
    """How a classifier does on the test shapes."""
    scores = classification.evaluate_classifier(model, archive)
    test = archive.occupancy[archive.is_test], archive.labels[archive.is_test]
    return Finding(
        {"scores": asdict(scores)},
        [],
        scores_table({"": asdict(scores)}, corner="test shapes"),
        lambda path: save_judged(model, *test, path),
    )


def _ask(
    model: EnergyBasedModel | SurfaceDescriptor,
    archive: VoxelArchive,
    category: str | None,
    condition: Condition | None,
    num: int,
    seed: int,
    progress: bool,
) -> Finding:
    """What an energy does on a condition, or without any."""
    if isinstance(model, SurfaceDescriptor) != isinstance(condition, Refinement):
        asked = "synthesis" if condition is None else task_of(condition).name
        raise ValueError(
            f"{type(model).__name__} cannot be asked for {asked}: refinement, and "
            "nothing else, is what SurfaceDescriptor does."
        )
    category = category or str(model.preset.get("category", ""))
    of_all = category == model.preset.get("category") and model.preset.get("categories")
    if condition is not None:
        of = None if of_all else category
        return _reconstruct(model, condition, archive, of, seed, progress)
    assert not isinstance(model, SurfaceDescriptor)
    classifier = presets.reference_classifier(archive.classes, model.grid)
    reference = Reference(archive, None if of_all else category, classifier)
    if isinstance(model, CooperativeNet):
        columns, latents = evaluate_cooperation(
            model, reference, num=num, seed=seed, progress=progress
        )
        names: tuple[str, ...] = ("scores", "generator_scores", "real_scores")
        more = {"latent_scores": asdict(latents)}
    else:
        found = evaluate_synthesis(model, reference, num=num, seed=seed, progress=progress)
        columns = dict(zip(("synthesised", "real test shapes"), found, strict=True))
        names, more = ("scores", "real_scores"), {}
    sets = {name: scores.as_dict() for name, scores in columns.items()}
    tables = [scores_table(sets, ratio=True)]
    tables += [scores_table({"": scores}, corner="latents") for scores in more.values()]
    return Finding(
        {**dict(zip(names, sets.values(), strict=True)), **more},
        [f"--num={num}", f"--seed={seed}"],
        "\n\n".join(tables),
        lambda path: save_model_sheet(model, None, archive.occupancy[:0], path),
    )


def _reconstruct(
    model: EnergyBasedModel | SurfaceDescriptor,
    condition: Condition,
    archive: VoxelArchive,
    category: str | None,
    seed: int,
    progress: bool,
) -> Finding:
    """How far from the truth test shapes are that were found from what is known of them."""
    rows = reconstruction.evaluate_reconstruction(
        model, condition, archive, category, seed=seed, progress=progress
    )
    figures = {name: asdict(row) for name, row in rows.items()}
    shapes, labels = archive.occupancy[archive.is_test], archive.labels[archive.is_test]
    if category is None:
        shown = shapes[np.unique(labels, return_index=True)[1]]  # one of each
    else:
        shown = shapes[labels == archive.classes.index(category)]
    return Finding(
        {"scores": figures.pop("this model"), "baselines": figures},
        [f"--seed={seed}"],
        reconstruction.scores_by_name(rows),
        lambda path: save_model_sheet(model, condition, shown[:SHEET_COLUMNS], path),
    )
