"""What every Keras model that is trained on shapes shares: one door for them, one state to keep."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.energy import backend, together
from descnet3d.models.batches import VoxelBatches, as_numpy, is_array, split
from descnet3d.models.fitting import DivergenceWatch, EpochSettings
from descnet3d.models.keras_model import KerasModel
from descnet3d.shapes.occupancy import as_occupancy

_WEIGHED = (
    "{} must be None: every shape counts the same here. Repeat shapes that should count more, or "
    "leave others out."
)


class ShapeModel(KerasModel):
    """A Keras model whose `fit` takes occupancy, and which goes on where a checkpoint left it.

    What it is made of, `parts` and `settings`, and what it learns by are a subclass's to say.

    Args:
        grid: the grid `(D, H, W)`.
        voxel_mean: what model space subtracts from occupancy.
        seed: seeds the noise of training.
        name: the model's name.

    Attributes:
        batch_size: the shapes of a batch, where `fit` is not told.
        corruption: what hides voxels of the shapes of each batch; None for nothing.
        resumed_at: the epoch, and the batch of it, that a run which was stopped goes on with.
    """

    batch_size = 8

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
        self.resumed_at: tuple[int, int] = (0, 0)
        self.preset: dict[str, Any] = {}
        self.built = True

    def to_model_space(self, occupancy: Any) -> Any:
        """Occupancy `[n, D, H, W]` as positions `[n, D, H, W, 1]`."""
        positions = ops.cast(occupancy, "float32") - self.voxel_mean
        return positions if len(positions.shape) == 5 else ops.expand_dims(positions, -1)

    def observed_of(self, occupancy: Any) -> Any:
        """A batch of occupancy, with or without a channel axis, in model space.

        Raises:
            ValueError: when it is on another grid.
        """
        occupancy = backend.with_known_shape(occupancy, self.grid)
        grid = tuple(occupancy.shape[1:4])
        if grid != self.grid:
            raise ValueError(f"shapes must be on the model's grid {self.grid}, but come on {grid}.")
        return self.to_model_space(occupancy)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What training and evaluation measure; Keras resets them at the start of each epoch."""
        return [*self.trackers.values(), *self.test_trackers.values()]

    def compile(self, optimizer: Any = "rmsprop", **keras_arguments: Any) -> None:
        """Compile with an optimizer.

        Args:
            optimizer: a Keras optimizer, or the name of one.
            keras_arguments: passed on to `keras.Model.compile`.

        Raises:
            ValueError: when a loss or metrics of Keras are given.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if keras_arguments.get(name) is not None:
                raise ValueError(
                    f"{name} must be None: a {type(self).__name__} has an objective and metrics of "
                    "its own, which compile's other arguments choose."
                )
        super().compile(optimizer=self._scaling(optimizer), **keras_arguments)
        self.optimizer.build(self.trainable_variables)

    def _scaling(self, optimizer: Any) -> keras.optimizers.Optimizer:
        """The optimizer, with a loss scale where a network of the model computes in float16."""
        optimizer = keras.optimizers.get(optimizer)
        layers = [layer for part in self.parts.values() for layer in part.layers]
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if scales or not any(layer.compute_dtype == "float16" for layer in layers):
            return optimizer
        return keras.optimizers.LossScaleOptimizer(optimizer)

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
        y: Any = None,
        *,
        batch_size: int | None = None,
        initial_epoch: int = 0,
        mirror_axes: Any = (),
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        validation_batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        **keras_arguments: Any,
    ) -> keras.callbacks.History:
        """Train on shapes: Keras' own `fit`, callbacks and all.

        Args:
            x: occupancy in [0, 1], `[n, D, H, W]`; or batches of it, whose values are not checked:
                a `tf.data.Dataset`, a `DataLoader`, a `PyDataset`, a generator.
            y: integers `[n]`, an index into `classes` for each shape of an array, where the model
                tells categories; an energy learns from the shapes alone.
            batch_size: shapes a batch, where `x` is an array; the model's own one by default.
            initial_epoch: the epoch to go on from.
            mirror_axes: axes along which shapes are mirrored at random, where `x` is an array.
            callbacks: Keras callbacks; a `TrainingCheckpoint` makes
                the run one that `descnet3d.training.checkpoints.restore` goes on with.
            validation_split: the share of an array, from its end, that is held out.
            validation_data: what is held out: an array, a tuple of it and its labels, or batches.
            validation_batch_size: shapes a batch of it.
            steps_per_epoch: batches an epoch; with an array, the next epoch goes on where the last
                one ended.
            shuffle: whether the shapes of an array come in another order in each pass.
            keras_arguments: passed on to `keras.Model.fit`.

        Returns:
            The Keras history. A second `fit` goes on with the chains of the first; its epochs, and
            with them the order of the shapes, count from `initial_epoch` again.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, labels are missing or
                not theirs, or shapes are weighed.
            DivergenceError: when training runs off; the last checkpoint is as it was.
        """
        backend.require_gradients("training")
        if not self.compiled:
            self.compile()
        for name in ("sample_weight", "class_weight"):
            if keras_arguments.get(name) is not None:
                raise ValueError(_WEIGHED.format(name))
        told: dict[str, Any] = {"shuffle": shuffle, "steps_per_epoch": steps_per_epoch}
        if is_array(x):
            if validation_split and validation_data is None:
                (x, y), validation_data = split(x, y, validation_split)
            varied = self._varied(mirror_axes)
            order: dict[str, Any] = {"shuffled": shuffle, "steps": steps_per_epoch}
            x, y = self._batches("x", x, y, batch_size, **order, **varied), None
            # Keras would shuffle the batches once more, by a state that no checkpoint holds.
            told = {"shuffle": False}
        elif mirror_axes:
            raise ValueError("mirror_axes needs x to be an array: mirror the dataset's own shapes.")
        else:
            told |= {"validation_split": validation_split}
            told |= {"batch_size": batch_size or self.batch_size} if isinstance(x, dict) else {}
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        self.begin_fit()
        self.begin_together()
        return super().fit(
            x,
            y,
            initial_epoch=initial_epoch,
            validation_data=self._held_out(validation_data, validation_batch_size or batch_size),
            callbacks=[EpochSettings(x), DivergenceWatch(), *(callbacks or [])],
            **told,
            **keras_arguments,
        )

    def evaluate(
        self, x: Any = None, y: Any = None, *, batch_size: int | None = None, **keras_arguments: Any
    ) -> Any:
        """Measure shapes: Keras' own `evaluate`.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: as in `fit`.
            keras_arguments: passed on to `keras.Model.evaluate`.

        Raises:
            ValueError: as `fit`.
        """
        if not self.compiled:
            self.compile()
        if keras_arguments.get("sample_weight") is not None:
            raise ValueError(_WEIGHED.format("sample_weight"))
        if is_array(x):
            x, y = self._batches("x", x, y, batch_size), None
        return super().evaluate(x, y, **keras_arguments)

    def export(self, filepath: Any, format: str = "tf_saved_model", **keras_arguments: Any) -> None:
        """Write what a call of the model gives, for programs without this package.

        Keras' own `export`: a function from occupancy, float32 `[n, D, H, W]`, to the energy `[n]`
        or the logits `[n, k]`. With PyTorch n is 1, as Keras' exporter leaves no size open there.
        A generator is a Keras model of its own: `model.generator.export`.

        Args:
            filepath: a folder (SavedModel) or a file.
            format: "tf_saved_model" or "onnx", or another that Keras knows.
            keras_arguments: passed on to `keras.Model.export`.

        Raises:
            ValueError: when a call of the model gives nothing.
        """
        if type(self).call is keras.Model.call:
            raise ValueError(
                f"a {type(self).__name__} has no output to export: export one of its networks, "
                f"model.{' or model.'.join(self.parts)}."
            )
        count = 1 if keras.backend.backend() == "torch" else None
        batch = keras.InputSpec(shape=(count, *self.grid), dtype="float32", name="occupancy")
        arguments = {"input_signature": [batch], **keras_arguments}
        super().export(filepath, format=format, **arguments)

    def _batches(
        self,
        name: str,
        x: Any,
        y: Any,
        batch_size: int | None,
        *,
        shuffled: bool = False,
        **options: Any,
    ) -> VoxelBatches:
        """Batches of an array of occupancy, with its labels where the model tells categories."""
        shapes = as_occupancy(as_numpy(x), name, self.grid)
        return VoxelBatches(
            shapes,
            self.batch_size if batch_size is None else batch_size,
            seed=self.seed + (together.processes().rank << 32),
            corruption=self.corruption,
            labels=self._labels_of(as_numpy(y), len(shapes)),
            shuffled=shuffled,
            **options,
        )

    def _held_out(self, data: Any, batch_size: int | None) -> Any:
        """Batches of the held-out shapes, where they come as an array, alone or with labels."""
        shapes, labels = self.unpacked(data if isinstance(data, tuple) else (data,))
        return (
            self._batches("validation_data", shapes, labels, batch_size)
            if is_array(shapes)
            else data
        )

    def _varied(self, mirror_axes: Any) -> dict[str, Any]:
        """How the shapes that the model is trained on are varied, as `VoxelBatches` takes it."""
        return {"mirror_axes": mirror_axes}

    def _labels_of(self, y: Any, count: int) -> np.ndarray | None:
        """The labels that the model learns from, checked; None where it learns from shapes."""
        return None

    def unpacked(self, data: Any) -> tuple[Any, Any]:
        """The shapes of a batch, and what came beside them.

        Raises:
            ValueError: when shapes are weighed.
        """
        shapes, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise ValueError(_WEIGHED.format("sample_weight"))
        return shapes, labels

    def _track(
        self,
        measured: dict[str, Any],
        batch: Any,
        trackers: dict[str, keras.metrics.Metric] | None = None,
    ) -> dict[str, Any]:
        """Take what a batch gave into the means of an epoch, in which every shape counts once."""
        trackers = self.trackers if trackers is None else trackers
        count = ops.cast(ops.shape(batch)[0], "float32")
        values = together.averaged([ops.stop_gradient(measured[name]) for name in trackers])
        for tracker, value in zip(trackers.values(), values, strict=True):
            tracker.update_state(value, sample_weight=count)
        results = {name: tracker.result() for name, tracker in trackers.items()}
        if together.workers_of(self).across:
            # Keras averages over an axis that it takes every result to have (its #20585).
            return {name: ops.reshape(result, (1,)) for name, result in results.items()}
        return results

    def _in_batches(self, function: Any, shapes: Any, batch_size: int) -> np.ndarray:
        """What a function of positions gives for all shapes, so many at a time."""
        require_positive_integer("batch_size", batch_size)
        shapes = as_occupancy(shapes, "shapes", self.grid)
        parts = []
        for start in range(0, len(shapes), batch_size):
            part = function(self.to_model_space(shapes[start : start + batch_size]))
            parts.append(ops.convert_to_numpy(ops.cast(ops.stop_gradient(part), "float32")))
        return np.concatenate(parts)
