"""What a preset does, measured by the task that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from descnet3d.datasets.archives import VoxelArchive
from descnet3d.energy.conditions import Task, task_of
from descnet3d.evaluation import classification, reconstruction
from descnet3d.evaluation.cooperation import evaluate_cooperation, latent_table
from descnet3d.evaluation.model_sheets import SHEET_COLUMNS, save_judged, save_model_sheet
from descnet3d.evaluation.synthesis import Reference, evaluate_synthesis, table
from descnet3d.files import replacing
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.preset_config import CONFIG, as_json, read_config
from descnet3d.zoo import cards, presets


def evaluate_preset(
    folder: str | Path,
    archive: VoxelArchive,
    *,
    category: str | None = None,
    task: Task | str | None = "own",
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
            another one.
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
        found = _ask(model, archive, category, task, num, seed, write, progress)
    if write:
        config = {**read_config(folder), **found.measured}
        command = f"descnet3d evaluate {config.get('id', folder)} --data=ARCHIVE"
        config["evaluation_command"] = " ".join([command, *found.words])
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
        classification.table(scores),
        lambda path: save_judged(model, *test, path),
    )


def _ask(
    model: EnergyBasedModel,
    archive: VoxelArchive,
    category: str | None,
    task: Task | str | None,
    num: int,
    seed: int,
    write: bool,
    progress: bool,
) -> Finding:
    """What a descriptor does when it is asked a task."""
    words = [f"--category={category}"] if category else []
    category = category or model.preset.get("category", "")
    own = task_of(model.preset.get("recipe") or {})
    task = own if isinstance(task, str) else task
    if write and task != own:
        raise ValueError(f"write needs the preset's own task, {own or 'synthesis'}, not {task}.")
    measured: dict[str, Any] = {}
    of_several = category == model.preset.get("category") and model.preset.get("categories")
    if task is None:
        classifier = presets.reference_classifier(archive.classes, model.grid)
        reference = Reference(archive, None if of_several else category, classifier)
    if task is None and isinstance(model, CooperativeNet):
        columns, latents = evaluate_cooperation(
            model, reference, num=num, seed=seed, progress=progress
        )
        synthesized, generated, real = (scores.as_dict() for scores in columns.values())
        measured = {
            "scores": synthesized,
            "generator_scores": generated,
            "real_scores": real,
            "latent_scores": asdict(latents),
        }
        words.append(f"--num={num}")
        printed = f"{table(columns)}\n\n{latent_table(latents)}"
    elif task is None:
        scores, tests = evaluate_synthesis(model, reference, num=num, seed=seed, progress=progress)
        measured = {"scores": scores.as_dict(), "real_scores": tests.as_dict()}
        words.append(f"--num={num}")
        printed = table({"synthesised": scores, "real test shapes": tests})
    else:
        rows = reconstruction.evaluate_reconstruction(
            model, task, archive, category, seed=seed, progress=progress
        )
        printed = reconstruction.table(rows)
        figures = {name: asdict(row) for name, row in rows.items()}
        measured = {"scores": figures.pop("this model"), "baselines": figures}
    asked, shown = task, archive.occupancy[:0]
    if task is not None:
        own_shapes = archive.labels == archive.classes.index(category)
        shown = archive.occupancy[archive.is_test & own_shapes][:SHEET_COLUMNS]
    return Finding(
        measured,
        [*words, f"--seed={seed}"],
        printed,
        lambda path: save_model_sheet(model, asked, shown, path),
    )
