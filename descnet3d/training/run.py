"""The one function that runs a training recipe, and goes on with one that was killed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from descnet3d.files import replacing
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.saving import SavedModel
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.training.checkpoints import (
    CheckpointError,
    Progress,
    TrainingCheckpoint,
    restore,
    save,
)
from descnet3d.training.phases import _classifier_plan, _descriptor_plan, annealed_plan
from descnet3d.training.recipes import Recipe


class TrainingRun(NamedTuple):
    """What a finished run leaves.

    Attributes:
        model: the trained model.
        core_minutes: the processor time it took, of all threads together.
    """

    model: SavedModel
    core_minutes: float


def train(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    network: keras.Model | None = None,
    start: AnnealedDescriptor | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    callbacks: Callable[[str, int, int], list[keras.callbacks.Callback]] | None = None,
    checkpoint_every: float = 60.0,
) -> TrainingRun:
    """Train a model by a recipe, or go on with a run that was killed.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        recipe: the run's settings.
        folder: where its checkpoints live: `recipe.json`, and one `.npz` a phase.
        network: f(Y; θ), instead of the one that the recipe names.
        start: the model to go on with, where an annealed descriptor is trained.
        labels: where a classifier or an annealed descriptor is trained, integers `[n]`, an index
            into `classes` for each.
        classes: the names of the categories, likewise.
        callbacks: makes the Keras callbacks of a phase from its name, the epoch that it starts at
            and its number of epochs.
        checkpoint_every: seconds between checkpoints.

    Returns:
        The model, and what it took.

    Raises:
        ValueError: when the shapes are no occupancy, or labels are needed and missing.
        CheckpointError: when the folder holds a run with other settings.
        DivergenceError: when training runs off.
    """
    shapes = as_occupancy(shapes, "shapes")
    if network is None and len(set(shapes.shape[1:])) > 1:
        raise ValueError(f"shapes must be on a cubic grid, but it is {shapes.shape[1:]}.")
    # Every setting is checked here, before the folder is claimed and the long work begins.
    if recipe.task == "classification":
        model, phases = _classifier_plan(shapes, recipe, labels, classes)
    elif recipe.denoising_steps:
        model, phases = annealed_plan(shapes, recipe, labels, classes, start)
    else:
        model, phases = _descriptor_plan(shapes, recipe, network)
    folder = Path(folder)
    _claim(folder, recipe, shapes, labels)
    spent = 0.0
    for phase in phases:
        if not phase.steps:
            continue
        path = folder / f"{phase.name}.npz"
        batches = math.ceil(len(shapes) / phase.batch_size)
        epochs = math.ceil(phase.steps / batches)
        learner = phase.prepare(batches, epochs)
        if path.exists():
            done, spent = restore(learner, path)
            if done == epochs:
                learner.finalize()  # a kill may have come between the last epoch and its averages
                continue
        else:
            done = 0
            save(learner, path, Progress(0, spent))
        keeper = TrainingCheckpoint(path, checkpoint_every, spent)
        extra = callbacks(phase.name, done, epochs) if callbacks else []
        learner.fit(
            *([shapes] if phase.labels is None else [shapes, phase.labels]),
            batch_size=phase.batch_size,
            mirror_axes=recipe.mirrored(),
            initial_epoch=done,
            epochs=epochs,
            callbacks=[keeper, *extra],
            verbose=0 if extra else "auto",
        )
        spent = keeper.core_seconds
        save(learner, path, Progress(epochs, spent))
    if network is not None and recipe.layers:
        for layer in network.layers:
            layer.trainable = True
    return TrainingRun(model, spent / 60)


def _claim(folder: Path, recipe: Recipe, shapes: np.ndarray, labels: np.ndarray | None) -> None:
    """Make the folder this recipe's on these shapes, or see that it is."""
    path = folder / "recipe.json"
    digest = hashlib.sha256(np.packbits(shapes > 0.5).tobytes()).hexdigest()
    own = {**asdict(recipe), "shapes": list(shapes.shape), "shapes_sha256": digest}
    if labels is not None:
        own["labels_sha256"] = hashlib.sha256(np.int64(labels).tobytes()).hexdigest()
    if path.exists():
        try:
            theirs = dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} can't be read as a run's recipe: {error}.") from None
        differing = sorted(key for key in {*own, *theirs} if own.get(key) != theirs.get(key))
        if differing:
            key = differing[0]
            raise CheckpointError(
                f"{folder} holds a run with {key}={theirs.get(key)!r}, and this one has "
                f"{own.get(key)!r}: resume with the same settings, or give another folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(own, indent=1) + "\n")
