"""What a person watches while a model trains: the time left, sheets of shapes, logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from descnet3d.progress import SECONDS


class TrainingProgress(keras.callbacks.Callback):
    """One progress bar for a whole phase, with the time left and the metrics.

    Args:
        name: the phase's name, printed once above the bar.
        initial_epoch: the epoch that the phase goes on from.
        epochs: how many epochs it has in all.
    """

    def __init__(self, name: str, initial_epoch: int, epochs: int) -> None:
        super().__init__()
        self.name, self.initial_epoch, self.epochs = name, initial_epoch, epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """Say what begins, and where it goes on."""
        resumed = f", going on after epoch {self.initial_epoch}" if self.initial_epoch else ""
        print(f"{self.name}: {self.epochs} epochs{resumed}", flush=True)
        self._bar = keras.utils.Progbar(
            self.epochs - self.initial_epoch,
            unit_name="epoch",
            interval=0.05 if sys.stdout.isatty() else SECONDS,
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Advance the bar."""
        self._bar.stateful_metrics |= set(logs or {})  # means of an epoch, shown as they are
        self._bar.update(epoch + 1 - self.initial_epoch, list((logs or {}).items()))


class TrainingSheets(keras.callbacks.Callback):
    """Renders what the model, with its averaged weights, does while it trains.

    Args:
        folder: where the sheets go, one file an occasion.
        prefix: how their names begin.
        every_minutes: how often.
        draw: writes a sheet of the model to a path, under a title.
    """

    def __init__(
        self,
        folder: str | Path,
        prefix: str,
        every_minutes: float,
        draw: Callable[[Any, Path, str], Any],
    ) -> None:
        super().__init__()
        self.folder, self.prefix = Path(folder), prefix
        self.every_minutes, self.draw = every_minutes, draw
        self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Render a sheet, when its time has come."""
        if time.monotonic() - self._last < 60 * self.every_minutes:
            return
        variables = [moved for _, group in self.model.optimized.values() for moved in group]
        live = [keras.ops.convert_to_numpy(variable.value).copy() for variable in variables]
        try:
            self.model.finalize()
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self.prefix}_{epoch + 1:05d}.png"
            self.draw(self.model, path, f"{self.prefix}, epoch {epoch + 1}")
        finally:  # an interrupt has to find the live weights
            for variable, value in zip(variables, live, strict=True):
                variable.assign(value)
        self._last = time.monotonic()
