"""From shapes to a preset's folder: trained, described."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from descnet3d.energy.conditions import task_of
from descnet3d.evaluation import (
    classification,
)
from descnet3d.evaluation.model_sheets import SHEET_COLUMNS, save_judged, save_model_sheet
from descnet3d.files import OutputError, replacing
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.models.saving import SavedModel
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.shapes.surfaces import open3d
from descnet3d.training import callbacks
from descnet3d.training.phases import require_labels
from descnet3d.training.recipes import Recipe
from descnet3d.training.run import train
from descnet3d.zoo import cards, presets

# How presets of each task are called, and what their cards say that they do.
NAMES = {
    "synthesis": "synthesis",
    "recovery": "recovery",
    "super_resolution": "superres",
    "cooperative": "cooperative",
    "features": "features",
    "classification": "classifier",
}
DEEDS = {
    "synthesis": "synthesises",
    "recovery": "recovers hidden voxels",
    "super_resolution": "refines coarse shapes",
    "cooperative": "synthesises with a generator that it has taught",
}
SUPERVISED = "A supervised 3D CNN, by which generated shapes are judged; its categories: {}."
UNSUPERVISED = (
    "A logistic regression on what a 3D DescriptorNet, trained without labels, sees in shapes; "
    "its categories: {}."
)


def train_preset(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    name: str | None = None,
    category: str | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    flags: list[str] | None = None,
    sheet_every: float = 5.0,
    terms: str | None = None,
) -> Path:
    """Train a model and write it as a preset, with its recipe, a sheet and a card.

    While it trains, `folder`/training holds checkpoints, `log.csv`, TensorBoard's logs and sheets;
    the checkpoints go when the preset is written.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        recipe: how to train.
        folder: the preset's folder.
        name: the preset's id; `<task>_<category>_<side>` if absent. Where no category is given,
            what stands there in an id of this form is what the shapes are called.
        category: what the shapes are.
        labels: an index into `classes` for each shape; classifiers need them.
        classes: the names of the categories.
        flags: the command-line flags that make this recipe, kept in `recipe.flags`.
        sheet_every: minutes between sheets; 0 for none.
        terms: where the shapes come from and what their terms are, for the card.

    Returns:
        The folder.

    Raises:
        OutputError: when the folder holds a finished preset already.
        ValueError: as `training.train`, and where features have no labels to be judged by.
    """
    folder = Path(folder)
    refuse_finished(folder)
    if recipe.task == "features":
        require_labels(shapes, labels, classes)
    open3d()  # the sheets need it: better said now than after the training
    work = folder / "training"

    task = task_of(asdict(recipe))
    shown = shapes[:SHEET_COLUMNS]

    def draw(model: SavedModel, path: Path, title: str | None = None) -> None:
        if isinstance(model, classification.Classifier):
            assert labels is not None  # train and require_labels see to it
            save_judged(model, shapes, labels, path)
        elif isinstance(model, EnergyBasedModel):
            save_model_sheet(model, task, shown, path, title)

    def watching(phase: str, done: int, epochs: int) -> list[keras.callbacks.Callback]:
        work.mkdir(parents=True, exist_ok=True)
        chosen: list[keras.callbacks.Callback] = [
            callbacks.TrainingProgress(phase, done, epochs),
            keras.callbacks.CSVLogger(str(work / f"{phase}.csv"), append=bool(done)),
            keras.callbacks.TensorBoard(str(work / "tensorboard" / phase), write_graph=False),
        ]
        # An autoencoder cannot synthesise, and a classifier makes no shapes.
        if sheet_every and phase not in ("generator", "classifier"):
            sheets = callbacks.TrainingSheets(work / "sheets", phase, sheet_every, draw)
            chosen.append(sheets)
        return chosen

    network, model_to_go_on_with = None, None
    if recipe.start:
        start = presets.load_descriptor(recipe.start)
        if (start.voxel_mean, start.reference_std) != (recipe.voxel_mean, recipe.reference_std):
            raise ValueError(
                f"start={recipe.start!r} has voxel_mean {start.voxel_mean} and reference_std "
                f"{start.reference_std}; give the recipe the same."
            )
        if isinstance(start, AnnealedDescriptor):
            model_to_go_on_with = start
        else:
            network = start.network
    trained, core_minutes = train(
        shapes,
        recipe,
        work,
        network=network,
        start=model_to_go_on_with,
        labels=labels,
        classes=classes,
        callbacks=watching,
    )
    model: SavedModel = trained
    if recipe.task == "features" and isinstance(trained, DescriptorNet):
        started = time.process_time()
        model = FeatureClassifier(trained).fit(shapes, labels, classes, seed=recipe.seed)
        core_minutes += (time.process_time() - started) / 60
    words = [*(flags or []), *([f"--category={category}"] if category else [])]
    if name and not category:
        words.append(f"--id={name}")
    in_form = re.fullmatch(rf"[a-z]+_(\w+)_{model.grid[0]}", name or "")
    kind = category or (in_form[1] if in_form else "shapes")
    name = name or f"{NAMES[recipe.task]}_{kind}_{model.grid[0]}"
    several = [] if labels is None else [classes[label] for label in np.unique(labels)]
    more: dict[str, Any] = {"categories": several} if len(several) > 1 else {}
    if isinstance(model, FeatureClassifier):
        more["validation"] = model.validation
    what = f"A 3D DescriptorNet that {DEEDS.get(recipe.task)}: {kind.replace('_', ' ')}."
    if isinstance(model, classification.Classifier):
        said = SUPERVISED if isinstance(model, SupervisedClassifier) else UNSUPERVISED
        what = said.format(", ".join(classes))
    model.save_preset(
        folder,
        id=name,
        task=recipe.task,
        category=kind,
        **more,
        description=what,
        training={
            "command": f"descnet3d train --flagfile=recipe.flags --data=ARCHIVE --out={name}",
            "shapes": len(shapes),
            "core_minutes": round(core_minutes, 1),
            "machine": f"{platform.system()} {platform.machine()}",
            "software": f"Keras {keras.__version__} on {keras.backend.backend()}",
            "recipe": asdict(recipe),
            "terms": terms,
        },
    )
    with replacing(folder / "recipe.flags") as path:
        path.write_text("\n".join(words) + "\n", encoding="utf-8")
    draw(model, folder / "sheet.png")
    cards.write(folder)
    for checkpoint in work.glob("*.npz"):
        checkpoint.unlink()
    return folder


def refuse_finished(folder: Path) -> None:
    """Raise an `OutputError` where a folder holds a finished preset already."""
    if (folder / "card.md").exists():  # the last file that a run writes
        raise OutputError(f"{folder} holds a finished preset: give another folder, or remove it.")
