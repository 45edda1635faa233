"""What every Keras model that is trained on shapes shares: one door for them, one state to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.energy import backend
from descnet3d.models.batches import VoxelBatches
from descnet3d.models.fitting import DivergenceWatch, EpochSettings
from descnet3d.models.preset_config import CLASSES
from descnet3d.models.saving import SavedModel
from descnet3d.shapes.occupancy import as_occupancy

# An optimizer, and the variables that it moves.
Optimized = tuple[keras.optimizers.Optimizer, Sequence[keras.Variable]]


class ShapeModel(SavedModel, keras.Model):
    """A Keras model whose `fit` takes occupancy, and which goes on where a checkpoint left it.

    What it is made of, `parts` and `settings`, and what it learns by are a subclass's to say.

    Args:
        grid: the grid `(D, H, W)`.
        voxel_mean: what model space subtracts from occupancy.
        seed: seeds the noise of training.
        name: the model's name.

    Attributes:
        corruption: what hides voxels of the shapes of each batch; None for nothing.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int, int],
        voxel_mean: float,
        seed: int,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.grid = grid
        self.voxel_mean = voxel_mean
        self.seed = seed
        self.training_noise = keras.random.SeedGenerator(seed)
        self.trackers: dict[str, keras.metrics.Metric] = {}
        self.test_trackers: dict[str, keras.metrics.Metric] = {}
        self.corruption: str | None = None
        self.preset: dict[str, Any] = {}
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The networks and settings, for Keras' own saving."""
        networks = {
            name: keras.saving.serialize_keras_object(part) for name, part in self.parts.items()
        }
        return {**networks, **self.settings, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of a configuration that `get_config` gave."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in CLASSES[cls.preset_class].parts_in(config)
        }
        return cls.of_parts(parts, config)

    def to_model_space(self, occupancy: Any) -> Any:
        """Occupancy `[n, D, H, W]` as positions `[n, D, H, W, 1]`."""
        positions = ops.cast(occupancy, "float32") - self.voxel_mean
        return positions if len(positions.shape) == 5 else ops.expand_dims(positions, -1)

    def observed_of(self, occupancy: Any) -> Any:
        """A batch of occupancy, with or without a channel axis, in model space.

        Raises:
            ValueError: when it is on another grid.
        """
        grid = tuple(occupancy.shape[1:4])
        if grid != self.grid:
            raise ValueError(f"shapes must be on the model's grid {self.grid}, but come on {grid}.")
        return self.to_model_space(occupancy)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What training and evaluation measure; Keras resets them at the start of each epoch."""
        return [*self.trackers.values(), *self.test_trackers.values()]

    @property
    def optimized(self) -> dict[str, Optimized]:
        """The optimizers by name, each with the variables that it moves."""
        return {"optimizer": (self.optimizer, self.trainable_variables)}

    @property
    def state_groups(self) -> dict[str, Sequence[keras.Variable]]:
        """The variables that a resumed run needs, in groups by name."""
        optimizers = {name: optimizer.variables for name, (optimizer, _) in self.optimized.items()}
        networks = {name: part.variables for name, part in self.parts.items()}
        return {**networks, **optimizers, "noise": [self.training_noise.state]}

    @property
    def training_state(self) -> dict[str, keras.Variable]:
        """Every variable that a resumed run needs, by a name of its own."""
        return {
            f"{group}/{position}": variable
            for group, variables in self.state_groups.items()
            for position, variable in enumerate(variables)
        }

    def begin_fit(self) -> None:
        """Forget the figures of the preset that this model came from: they are not its own now."""
        for key in set(self.preset) - {"task", "category", "recipe"}:
            del self.preset[key]

    def begin_epoch(self, epoch: int) -> None:
        """Set what changes with the epoch."""

    def finalize(self) -> None:
        """Put the averaged weights, where an optimizer keeps any, in place of the live ones."""
        for optimizer, variables in self.optimized.values():
            optimizer.finalize_variable_values(variables)

    def fit(
        self,
        x: Any = None,
        *,
        batch_size: int = 8,
        initial_epoch: int = 0,
        mirror_axes: Any = (),
        callbacks: list[keras.callbacks.Callback] | None = None,
        **keras_arguments: Any,
    ) -> keras.callbacks.History:
        """Train on shapes: Keras' own `fit`, callbacks and all.

        Args:
            x: occupancy in [0, 1], `[n, D, H, W]`, or a dataset of such batches (whose values
                are not checked).
            batch_size: shapes a batch, where `x` is an array.
            initial_epoch: the epoch to go on from.
            mirror_axes: axes along which shapes are mirrored at random, where `x` is an array.
            callbacks: Keras callbacks; a `TrainingCheckpoint` makes
                the run one that `descnet3d.training.checkpoints.restore` goes on with.
            keras_arguments: passed on to `keras.Model.fit`; `validation_data` takes occupancy.

        Returns:
            The Keras history. A second `fit` goes on with the chains of the first; its epochs, and
            with them the order of the shapes, count from `initial_epoch` again.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
            DivergenceError: when training runs off; the last checkpoint is as it was.
        """
        backend.require_gradients("training")
        if getattr(self, "optimizer", None) is None:
            self.compile()
        if ops.is_tensor(x):
            x = ops.convert_to_numpy(x)
        if isinstance(x, np.ndarray | list):
            shapes = as_occupancy(x, "x", self.grid)
            x = self._batches(shapes, batch_size, mirror_axes)
            # Keras would shuffle the batches once more, by a state that no checkpoint holds.
            keras_arguments["shuffle"] = False
        elif mirror_axes:
            raise ValueError("mirror_axes needs x to be an array: mirror the dataset's own shapes.")
        held_out = keras_arguments.get("validation_data")
        if isinstance(held_out, np.ndarray | list):
            held_out = as_occupancy(held_out, "validation_data", self.grid)
            keras_arguments["validation_data"] = self._batches(held_out, batch_size)
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        self.begin_fit()
        callbacks = [EpochSettings(x), DivergenceWatch(), *(callbacks or [])]
        return super().fit(x, initial_epoch=initial_epoch, callbacks=callbacks, **keras_arguments)

    def _batches(
        self, shapes: np.ndarray, batch_size: int, mirror_axes: tuple[int, ...] = ()
    ) -> VoxelBatches:
        return VoxelBatches(
            shapes, batch_size, seed=self.seed, mirror_axes=mirror_axes, corruption=self.corruption
        )

    def _update_trackers(self, measured: dict[str, Any]) -> dict[str, Any]:
        for name, tracker in self.trackers.items():
            tracker.update_state(measured[name])
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def _in_batches(self, function: Any, shapes: Any, batch_size: int) -> np.ndarray:
        """What a function of positions gives for all shapes, so many at a time."""
        require_positive_integer("batch_size", batch_size)
        shapes = as_occupancy(shapes, "shapes", self.grid)
        parts = []
        for start in range(0, len(shapes), batch_size):
            part = function(self.to_model_space(shapes[start : start + batch_size]))
            parts.append(ops.convert_to_numpy(ops.stop_gradient(part)))
        return np.concatenate(parts)
