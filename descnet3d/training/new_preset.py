"""From shapes to a preset's folder: trained, described."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from descnet3d.energy.tasks import TASKS
from descnet3d.evaluation import classification
from descnet3d.evaluation.model_sheets import SHEET_COLUMNS, save_judged, save_model_sheet
from descnet3d.files import OutputError, replacing
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.models.saving import SavedModel
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.shapes.surfaces import open3d
from descnet3d.training import callbacks
from descnet3d.training.phases import require_labels
from descnet3d.training.recipes import Recipe, flags_of
from descnet3d.training.run import train
from descnet3d.zoo import cards, presets


def train_preset(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    name: str | None = None,
    category: str | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    base: str = "base",
    sheet_every: float = 5.0,
    terms: str | None = None,
) -> Path:
    """Train a model and write it as a preset, with its recipe, a sheet and a card.

    While it trains, `folder`/training holds checkpoints, `log.csv`, TensorBoard's logs and sheets;
    the checkpoints go when the preset is written. Of several processes of `torch.distributed` the
    first one writes it.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        recipe: how to train.
        folder: the preset's folder.
        name: the preset's id; `<task>_<category>_<side>` if absent. Where no category is given,
            what stands there in an id of this form is what the shapes are called.
        category: what the shapes are.
        labels: an index into `classes` for each shape; classifiers need them.
        classes: the names of the categories.
        base: the name of a recipe, of which the flags kept in `recipe.flags` make this one.
        sheet_every: minutes between sheets; 0 for none.
        terms: where the shapes come from and what their terms are, for the card.

    Returns:
        The folder.

    Raises:
        OutputError: when the folder holds a finished preset already.
        ValueError: as `run.train`, and where features have no labels to be judged by.
    """
    folder = Path(folder)
    refuse_finished(folder)
    if recipe.task == "features":
        require_labels(shapes, labels, classes)
    open3d()  # the sheets need it: better said now than after the training
    draw = _drawing(recipe, shapes, labels)
    work = folder / "training"
    model, core_minutes, together = train(
        shapes,
        recipe,
        work,
        **_start_of(recipe),
        labels=labels,
        classes=classes,
        callbacks=_watching(work, draw, sheet_every),
    )
    if not together.first:
        return folder
    if recipe.task == "features":
        assert isinstance(model, EnergyBasedModel) and labels is not None
        started = time.process_time()
        model = FeatureClassifier(model).fit(shapes, labels, classes, seed=recipe.seed)
        core_minutes += (time.process_time() - started) / 60
    task, side = TASKS[recipe.task], model.grid[0]
    in_form = re.fullmatch(rf"[a-z]+_(\w+)_{side}", name or "")
    kind = category or (in_form[1] if in_form else "shapes")
    called = [f"--category={category}"] if category else [f"--id={name}"] if name else []
    name = name or f"{task.prefix}_{kind}_{side}"
    model.save_preset(
        folder,
        id=name,
        task=task.name,
        category=kind,
        **_categories(model, labels, classes),
        description=task.description.format(
            category=kind.replace("_", " "), classes=", ".join(classes)
        ),
        training=_training(name, len(shapes), core_minutes, recipe, terms, together.count),
    )
    with replacing(folder / "recipe.flags") as path:
        path.write_text("\n".join([*flags_of(base, recipe), *called, ""]), encoding="utf-8")
    draw(model, folder / "sheet.png")
    cards.write(folder)
    for checkpoint in work.glob("*.npz"):
        checkpoint.unlink()
    return folder


def _training(
    name: str, count: int, core_minutes: float, recipe: Recipe, terms: str | None, workers: int
) -> dict[str, Any]:
    """What a config says of the training."""
    return {
        "command": f"descnet3d train --flagfile=recipe.flags --data=ARCHIVE --out={name}",
        "shapes": count,
        "core_minutes": round(core_minutes, 1),
        **({"workers": workers} if workers > 1 else {}),
        "machine": f"{platform.system()} {platform.machine()}",
        "software": f"Keras {keras.__version__} on {keras.backend.backend()}",
        "recipe": recipe.flat(),
        "terms": terms,
    }


def _start_of(recipe: Recipe) -> dict[str, Any]:
    """What `train` begins with: the network of the recipe's start, or all of an annealed one."""
    if recipe.start is None:
        return {}
    if recipe.task == "refinement":
        return {"start": _surfaces_start(recipe.start)}
    start = presets.load_descriptor(recipe.start)
    if recipe.denoising.steps and not isinstance(start, AnnealedDescriptor):
        raise ValueError(
            f"start={recipe.start!r} is no annealed descriptor, and denoising_steps train nothing "
            "else: give another start, or denoising_steps=0 and what its kind learns by."
        )
    if (start.voxel_mean, start.reference_std) != (recipe.voxel_mean, recipe.reference_std):
        raise ValueError(
            f"start={recipe.start!r} has voxel_mean {start.voxel_mean} and reference_std "
            f"{start.reference_std}; give the recipe the same."
        )
    return {"start": start} if isinstance(start, AnnealedDescriptor) else {"network": start.network}


def _surfaces_start(name: str) -> AnnealedDescriptor | SurfaceDescriptor:
    start: Any = presets.load(name)
    if not isinstance(start, AnnealedDescriptor | SurfaceDescriptor):
        raise ValueError(
            f"start={name!r} is a {type(start).__name__}: surfaces begin with an annealed "
            "descriptor, or with one of surfaces."
        )
    return start


def _drawing(recipe: Recipe, shapes: np.ndarray, labels: np.ndarray | None) -> Callable[..., None]:
    """What draws the sheet of a model to a path, under a title if there is one."""
    condition, shown = recipe.condition, shapes[:SHEET_COLUMNS]

    def draw(model: SavedModel, path: Path, title: str | None = None) -> None:
        if isinstance(model, classification.Classifier):
            assert labels is not None  # train and require_labels see to it
            save_judged(model, shapes, labels, path)
        elif isinstance(model, EnergyBasedModel | SurfaceDescriptor):
            save_model_sheet(model, condition, shown, path, title)

    return draw


def _watching(
    work: Path, draw: Callable[..., None], sheet_every: float
) -> Callable[[str, int, int], list[keras.callbacks.Callback]]:
    """What makes the callbacks of a phase: progress, logs, and sheets every so many minutes."""

    def watching(phase: str, done: int, epochs: int) -> list[keras.callbacks.Callback]:
        work.mkdir(parents=True, exist_ok=True)
        chosen: list[keras.callbacks.Callback] = [
            callbacks.TrainingProgress(phase, done, epochs),
            keras.callbacks.CSVLogger(str(work / f"{phase}.csv"), append=bool(done)),
            keras.callbacks.TensorBoard(str(work / "tensorboard" / phase), write_graph=False),
        ]
        # An autoencoder cannot synthesise, and a classifier makes no shapes.
        if sheet_every and phase not in ("generator", "classifier"):
            chosen.append(callbacks.TrainingSheets(work / "sheets", phase, sheet_every, draw))
        return chosen

    return watching


def _categories(
    model: SavedModel, labels: np.ndarray | None, classes: Sequence[str]
) -> dict[str, Any]:
    """What a config says of the categories, where there are several, and of their regression."""
    present = [] if labels is None else [classes[label] for label in np.unique(labels)]
    several = {"categories": present} if len(present) > 1 else {}
    validated = {"validation": model.validation} if isinstance(model, FeatureClassifier) else {}
    return {**several, **validated}


def refuse_finished(folder: Path) -> None:
    """Raise an `OutputError` where a folder holds a finished preset already."""
    if (folder / "card.md").exists():  # the last file that a run writes
        raise OutputError(f"{folder} holds a finished preset: give another folder, or remove it.")
