"""What a `fit` is made of beside its objective: its epochs, and its end when it diverges."""

from __future__ import annotations

import math
from typing import Any

import keras

from descnet3d.energy.sampling import DivergenceError
from descnet3d.models.batches import VoxelBatches

# Chains this many reference standard deviations away from 0 can only be running off.
PLAUSIBLE_RANGE = 40.0
# An epoch whose matching loss is so many times the lowest one has lost what was learned.
COLLAPSE_RATIO = 10.0


class Maximum(keras.metrics.Metric):
    """The largest value of an epoch."""

    def __init__(self, name: str = "maximum") -> None:
        super().__init__(name=name)
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_state(self, value: Any, sample_weight: Any = None) -> None:
        """Take one more value in, whatever it weighs."""
        self.largest.assign(keras.ops.maximum(self.largest, value))

    def result(self) -> Any:
        """The largest so far."""
        return keras.ops.convert_to_tensor(self.largest)


class EpochSettings(keras.callbacks.Callback):
    """Tells a model of each epoch, and its batches which order theirs is, and sees to its end."""

    def __init__(self, data: Any) -> None:
        """Take the data of the fit, whose order is set where it is a `VoxelBatches`."""
        super().__init__()
        self.data = data
        self._left: dict[str, Any] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set them."""
        if isinstance(self.data, VoxelBatches):
            self.data.epoch = epoch
            first, batch = self.model.resumed_at
            self.data.skipped = batch if epoch == first else 0
        self.model.begin_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note what the last batch of an epoch leaves that was begun before.

        Keras counts on as many batches as any epoch has. TensorFlow finds that there is no other in
        the midst of a step, in which noise was drawn, chains were run and iterations were counted.
        """
        skipped = isinstance(self.data, VoxelBatches) and self.data.skipped
        if skipped and batch + 1 >= len(self.data):
            state = self.model.training_state.items()
            self._left = {name: keras.ops.convert_to_numpy(each.value) for name, each in state}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put it back, before anything is made of it."""
        for name, value in self._left.items():
            self.model.training_state[name].assign(value)
        self._left = {}

    def on_train_end(self, logs: Any = None) -> None:
        """See to the averaged weights of every optimizer; Keras sees to those of one."""
        self.model.finalize()


class DivergenceWatch(keras.callbacks.Callback):
    """Stops training as soon as its numbers mean nothing any more."""

    def __init__(self) -> None:
        super().__init__()
        self._lowest_loss = math.inf

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the metrics of the batch."""
        logs = {name: float(value) for name, value in (logs or {}).items()}
        broken = [name for name, value in logs.items() if not math.isfinite(value)]
        if broken:
            self._stop(f"{', '.join(broken)} is no longer finite")
        if "chain_range" in logs:  # of a model that has chains, and with them a reference
            reached, limit = logs["chain_range"], PLAUSIBLE_RANGE * self.model.reference_std
            if reached > limit:
                self._stop(f"a chain reached {reached:.3g}, beyond any shape ({limit:.3g})")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the epoch's matching loss, before any checkpoint of it is written."""
        loss = float((logs or {}).get("matching_loss", math.nan))
        if loss > COLLAPSE_RATIO * self._lowest_loss:
            self._stop(f"the matching loss rose from {self._lowest_loss:.3g} to {loss:.3g}")
        self._lowest_loss = min(self._lowest_loss, loss) if loss == loss else self._lowest_loss

    def _stop(self, found: str) -> None:
        raise DivergenceError(
            f"Training diverged: {found}. Go on from the last checkpoint with a smaller learning "
            "rate (a tenth, say), a smaller clip norm, a smaller Langevin step_size, or chains "
            "that restart more often."
        )
