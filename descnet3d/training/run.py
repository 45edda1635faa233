"""The one function that runs a training recipe, and goes on with one that was killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from descnet3d import json_files
from descnet3d.energy.together import Workers, processes
from descnet3d.files import replacing, telling_of_full_disks
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.saving import SavedModel
from descnet3d.models.shape_model import ShapeModel
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.training.checkpoints import (
    CheckpointError,
    Progress,
    TrainingCheckpoint,
    is_finite,
    restore,
    save,
)
from descnet3d.training.interruptions import Interruptions, TrainingStopped
from descnet3d.training.phases import (
    Phase,
    annealed_plan,
    classifier_plan,
    descriptor_plan,
    surface_plan,
)
from descnet3d.training.recipes import Recipe


class TrainingRun(NamedTuple):
    """What a finished run leaves.

    Attributes:
        model: the trained model.
        core_minutes: the processor time it took, of all threads and workers together.
        workers: who trained it.
    """

    model: SavedModel
    core_minutes: float
    workers: Workers


def train(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    network: keras.Model | None = None,
    start: AnnealedDescriptor | SurfaceDescriptor | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    callbacks: Callable[[str, int, int], list[keras.callbacks.Callback]] | None = None,
    checkpoint_every: float = 60.0,
) -> TrainingRun:
    """Train a model by a recipe, or go on with a run that was killed.

    Where processes of `torch.distributed` call it together, with the same arguments and a folder
    that all of them see, they share the shapes and the chains of each iteration.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        recipe: the run's settings.
        folder: where its checkpoints live: `recipe.json`, and one `.npz` a phase.
        network: f(Y; θ), instead of the one that the recipe names.
        start: the model to go on with, where an annealed descriptor or one of surfaces is trained.
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
        TrainingStopped: on Ctrl-C or SIGTERM, when what was learned is saved.
    """
    shapes = as_occupancy(shapes, "shapes")
    if network is None and len(set(shapes.shape[1:])) > 1:
        raise ValueError(f"shapes must be on a cubic grid, but it is {shapes.shape[1:]}.")
    together = processes()
    own = recipe.shared_by(together.count)
    # Every setting is checked here, before the folder is claimed and the long work begins.
    if recipe.task == "classification":
        model, phases = classifier_plan(shapes, own, labels, classes)
    elif recipe.task == "refinement":
        model, phases = surface_plan(shapes, own, start)
    elif recipe.denoising.steps or start is not None:
        assert not isinstance(start, SurfaceDescriptor)  # Recipe refuses it
        model, phases = annealed_plan(shapes, own, labels, classes, start)
    else:
        model, phases = descriptor_plan(shapes, own, network)
    folder = Path(folder)
    _claim(folder, recipe, shapes, labels)
    spent = 0.0
    for phase in phases:
        if phase.steps:
            spent = _go_through(
                phase, shapes, recipe, folder, spent, callbacks, checkpoint_every, together
            )
    if network is not None and recipe.layers:
        for layer in network.layers:
            layer.trainable = True
    return TrainingRun(model, together.count * spent / 60, together)


def _go_through(
    phase: Phase,
    shapes: np.ndarray,
    recipe: Recipe,
    folder: Path,
    spent: float,
    callbacks: Callable[[str, int, int], list[keras.callbacks.Callback]] | None,
    checkpoint_every: float,
    together: Workers,
) -> float:
    """A phase from its start or its checkpoint to its end; this worker's core seconds by then."""
    path = folder / f"{phase.name}.npz"
    # Shares of the same size, for which a few shapes may have to be in two.
    share = np.resize(
        np.arange(len(shapes)), math.ceil(len(shapes) / together.count) * together.count
    )
    share = share[together.rank :: together.count]
    batches = math.ceil(len(share) / phase.batch_size)
    epochs = math.ceil(phase.steps / batches)
    learner, done = phase.prepare(batches, epochs), 0.0
    if together.any(together.first and path.exists()):
        done, spent = restore(learner, path)
        if done == epochs:
            # A kill may have come between the last epoch and its averages.
            learner.finalize()
            save(learner, path, Progress(done, spent))
            return spent
    else:
        save(learner, path, Progress(done, spent))
    epoch = int(done)
    learner.resumed_at = (epoch, round((done - epoch) * batches))
    keeper = TrainingCheckpoint(path, checkpoint_every, spent)
    extra = callbacks(phase.name, epoch, epochs) if callbacks and together.first else []
    with (
        telling_of_full_disks(folder),  # the logs are Keras' own to write
        _saving_what_is_interrupted(learner, keeper, batches, together) as interruptions,
    ):
        learner.fit(
            *([shapes[share]] if phase.labels is None else [shapes[share], phase.labels[share]]),
            batch_size=phase.batch_size,
            mirror_axes=recipe.mirrored(),
            initial_epoch=epoch,
            epochs=epochs,
            callbacks=[interruptions, keeper, *extra],
            verbose=0 if extra or not together.first else "auto",
        )
    save(learner, path, Progress(epochs, keeper.core_seconds))
    return keeper.core_seconds


@contextlib.contextmanager
def _saving_what_is_interrupted(
    learner: ShapeModel, keeper: TrainingCheckpoint, batches: int, together: Workers
) -> Iterator[Interruptions]:
    """Keeps what training has come to when Ctrl-C or SIGTERM stops it, to the very batch."""
    interruptions = Interruptions(*learner.resumed_at, together)
    with interruptions, warnings.catch_warnings():
        # An epoch that was begun before has fewer batches than Keras counts on.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        try:
            yield interruptions
        except KeyboardInterrupt as interrupt:
            if interruptions.torn or not is_finite(learner):
                raise
            done = interruptions.epoch + interruptions.batch / batches
            save(learner, keeper.path, Progress(done, keeper.core_seconds))
            raise TrainingStopped(
                f"interrupted after {done:.2f} epochs, which {keeper.path} keeps: the same "
                "command, given again, goes on from there"
            ) from interrupt
        finally:
            learner.resumed_at = (0, 0)  # another fit begins anew


def _claim(folder: Path, recipe: Recipe, shapes: np.ndarray, labels: np.ndarray | None) -> None:
    """Make the folder this recipe's on these shapes, or see that it is."""
    path = folder / "recipe.json"
    digest = hashlib.sha256(np.packbits(shapes > 0.5).tobytes()).hexdigest()
    own = {**recipe.flat(), "shapes": list(shapes.shape), "shapes_sha256": digest}
    if labels is not None:
        own["labels_sha256"] = hashlib.sha256(np.int64(labels).tobytes()).hexdigest()
    if path.exists():
        try:
            theirs = json_files.read_object(path)
        except ValueError as error:
            raise CheckpointError(f"{error}: it is no run's recipe.") from None
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
