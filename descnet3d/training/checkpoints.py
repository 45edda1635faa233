"""Checkpoints from which a killed training run goes on as if nothing had happened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d.energy import together
from descnet3d.files import replacing
from descnet3d.models.saving import wanted_of
from descnet3d.numpy_files import OpenArchive, Wanted, read_arrays

PROGRESS = "progress"


class CheckpointError(ValueError):
    """A checkpoint that can't be read, or is another run's."""


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        epochs: how many epochs are done; where the last was broken off, the share of its batches
            counts.
        core_seconds: the processor time that they took, of all threads together.
    """

    epochs: float
    core_seconds: float


class TrainingCheckpoint(keras.callbacks.Callback):
    """Keeps the whole training state in one file: weights, optimizer, chains and random state.

    It is written at the end of an epoch, by an atomic rename, so that a run killed at any moment
    leaves a whole checkpoint, and never from numbers that are no longer finite, so that a run that
    diverged leaves its last good one. Where several workers train, it holds the chains and the
    random states of each, and the first process writes it.

    Args:
        path: the file, an `.npz`.
        every_seconds: how old the last checkpoint must be before a new one is written.
        core_seconds: the processor time spent before, in runs that this one goes on from.
    """

    def __init__(
        self, path: str | Path, every_seconds: float = 60.0, core_seconds: float = 0.0
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.every_seconds = every_seconds
        self._started = time.process_time() - core_seconds
        self._written = -np.inf

    @property
    def core_seconds(self) -> float:
        """The processor time spent so far, in seconds."""
        return time.process_time() - self._started

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a checkpoint, unless the last one is young."""
        workers = together.workers_of(self.model)
        old_enough = time.monotonic() - self._written >= self.every_seconds
        if workers.any(workers.first and old_enough) and is_finite(self.model):
            save(self.model, self.path, Progress(epoch + 1, self.core_seconds))
            self._written = time.monotonic()


def is_finite(model: Any) -> bool:
    """Whether every number of a model's training state is finite, on every worker."""
    return all(np.isfinite(values).all() for values in _state(model).values())


def save(model: Any, path: Path, progress: Progress) -> None:
    """Write a model's training state; where several workers train it, theirs all in one file.

    Args:
        model: a compiled model with a `training_state`. Every process of several has to save, and
            the first one writes.
        path: the file.
        progress: how far the run has come.
    """
    model.begin_together()
    arrays = {**_state(model), PROGRESS: np.array(progress, np.float64)}
    if together.workers_of(model).first:
        with replacing(path) as temporary:
            np.savez(temporary, **arrays)


def _state(model: Any) -> dict[str, Any]:
    """The training state as arrays; what each worker has of its own, with an axis of workers."""
    workers, state, own = together.workers_of(model), model.training_state, model.own_state
    rows = workers.gathered([state[name] for name in sorted(own)])
    shared = {
        name: keras.ops.convert_to_numpy(variable.value)
        for name, variable in state.items()
        if name not in own
    }
    several = workers.count > 1
    return shared | {
        name: each if several else each[0] for name, each in zip(sorted(own), rows, strict=True)
    }


def restore(model: Any, path: Path) -> Progress:
    """Put a model back into the state of a checkpoint.

    Args:
        model: a model compiled as the one that was saved, with as many workers. Every process of
            several has to restore, from the same file.
        path: the file.

    Returns:
        How far the run had come: `fit` goes on with `initial_epoch` set to its whole epochs.

    Raises:
        CheckpointError: when the file is damaged or belongs to a model compiled otherwise, or to
            one of another number of workers.
    """
    model.begin_together()
    workers, state = together.workers_of(model), model.training_state
    own = sorted(model.own_state)
    wanted = {name: wanted_of(variable) for name, variable in state.items()}
    if workers.count > 1:
        for name in own:
            wanted[name] = wanted[name]._replace(shape=(workers.count, *wanted[name].shape))
    _require_workers(path, workers.count)
    try:
        arrays = read_arrays(path, {**wanted, PROGRESS: Wanted((len(Progress._fields),), "f")})
    except ValueError as error:
        raise CheckpointError(
            f"{error}: it is damaged, or the checkpoint of a run with other settings. Resume with "
            "the settings that it was begun with, or give another output folder."
        ) from None
    epochs, core_seconds = arrays[PROGRESS]
    for name, variable in state.items():
        if name not in own:
            variable.assign(arrays[name])
    rows = [arrays[name] if workers.count > 1 else arrays[name][None] for name in own]
    workers.give([state[name] for name in own], rows)
    return Progress(float(epochs), float(core_seconds))


def _require_workers(path: Path, count: int) -> None:
    """Raises a CheckpointError where a checkpoint is that of another number of workers."""
    try:
        with OpenArchive(path) as archive:
            shape = archive.shape("noise/0")
    except ValueError:
        return  # what is wrong with it is said where it is read
    saved = {1: 1, 2: shape[0]}.get(len(shape)) if shape else None
    if saved is not None and saved != count:
        raise CheckpointError(
            f"{path} is the checkpoint of {saved} worker{'s' * (saved > 1)}, each with chains and "
            f"noise of its own, and there {'are' if count > 1 else 'is'} {count} now: resume with "
            f"{saved}, or give another output folder."
        )
