"""Checkpoints from which a killed training run goes on as if nothing had happened."""

from __future__ import annotations

import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d.files import replacing

PROGRESS = "progress"


class CheckpointError(ValueError):
    """A checkpoint that can't be read, or is another run's."""


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        epochs: how many epochs are done.
        core_seconds: the processor time that they took, of all threads together.
    """

    epochs: int
    core_seconds: float


class TrainingCheckpoint(keras.callbacks.Callback):
    """Keeps the whole training state in one file: weights, optimizer, chains and random state.

    It is written at the end of an epoch, by an atomic rename, so that a run killed at any moment
    leaves a whole checkpoint, and never from numbers that are no longer finite, so that a run that
    diverged leaves its last good one.

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
        old_enough = time.monotonic() - self._written >= self.every_seconds
        if old_enough and _is_finite(self.model):
            save(self.model, self.path, Progress(epoch + 1, self.core_seconds))
            self._written = time.monotonic()


def _is_finite(model: Any) -> bool:
    return all(
        bool(keras.ops.all(keras.ops.isfinite(keras.ops.cast(variable.value, "float32"))))
        for variable in model.training_state.values()
    )


def save(model: Any, path: Path, progress: Progress) -> None:
    """Write a model's training state.

    Args:
        model: a compiled model with a `training_state`.
        path: the file.
        progress: how far the run has come.
    """
    arrays: dict[str, Any] = {
        name: keras.ops.convert_to_numpy(variable.value)
        for name, variable in model.training_state.items()
    }
    arrays[PROGRESS] = np.array(progress, np.float64)
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)


def restore(model: Any, path: Path) -> Progress:
    """Put a model back into the state of a checkpoint.

    Args:
        model: a model compiled as the one that was saved.
        path: the file.

    Returns:
        How far the run had come: `fit` goes on with `initial_epoch` set to its epochs.

    Raises:
        CheckpointError: when the file is damaged or belongs to a model compiled otherwise.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} can't be read as a checkpoint: {error}.") from None
    state = model.training_state
    epochs, core_seconds = arrays.pop(PROGRESS, (-1, 0.0))
    wrong = sorted(set(arrays) ^ set(state)) or [
        name for name in state if tuple(state[name].shape) != arrays[name].shape
    ]
    if epochs < 0:
        wrong = [PROGRESS]
    if wrong:
        raise CheckpointError(
            f"{path} is the checkpoint of a run with other settings (they differ at {wrong[0]}): "
            "resume with the settings it was begun with, or give another output folder."
        )
    for name, variable in state.items():
        variable.assign(arrays[name])
    return Progress(int(epochs), float(core_seconds))
