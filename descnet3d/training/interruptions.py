"""Training that Ctrl-C or SIGTERM stops between two steps, so that nothing of it is lost."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any, Self

import keras

from descnet3d.energy.together import Workers


class TrainingStopped(KeyboardInterrupt):
    """Training was interrupted and saved; the message says where, and how to go on."""


class Interruptions(keras.callbacks.Callback):
    """Takes Ctrl-C and SIGTERM while a model trains, and puts them off to the end of a step.

    What comes between two steps stops at once, in the middle of a sheet too. A second interrupt
    within one step does not wait for its end; what the step has come to is then not to be saved.
    Several workers stop after the same step, whichever of them is interrupted, and whenever.

    Args:
        epoch: the epoch that training begins in.
        batch: the batches of it that were seen before.
        workers: those that train together.

    Attributes:
        epoch: the epoch that training is in.
        batch: the batches of it that the model has seen.
        torn: whether a step was broken off.
    """

    def __init__(self, epoch: int, batch: int, workers: Workers | None = None) -> None:
        super().__init__()
        self.workers = workers or Workers()
        self.epoch, self.batch, self.torn = epoch, batch, False
        self._first = (epoch, batch)
        self._in_step = False
        self._pending: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals; outside the main thread there are none to take."""
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is signal.SIG_IGN:  # as shells have it in background
                    continue
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        """Give them back, and stop now where no step came any more to stop after."""
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is None and self._pending is not None:
            self._pending()

    def _take(self, number: int, frame: Any) -> None:
        def stop() -> None:
            if callable(before := self._before.get(number)):
                before(number, frame)  # whoever waited for it before is told
            raise KeyboardInterrupt

        if self.workers.count > 1 or (self._in_step and self._pending is None):
            self._pending = stop
            return
        self.torn = self._in_step
        stop()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note where training is."""
        self.epoch = epoch
        self.batch = self._first[1] if epoch == self._first[0] else 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """From here on the model changes."""
        self._in_step = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """The model is whole again; stop, where that was asked for meanwhile."""
        self.batch += 1
        self.on_epoch_end(self.epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """As after a step: the last of an epoch that was begun before finds no batch."""
        self._in_step = False
        if self.workers.any(self._pending is not None):
            if self._pending is None:  # another worker was interrupted
                self._take(signal.SIGTERM, None)
            assert self._pending is not None
            self._pending()
