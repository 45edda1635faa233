"""A supervised classifier of shapes: the reference that generated shapes are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from descnet3d.energy import backend
from descnet3d.models.shape_model import ShapeModel
from descnet3d.shapes.occupancy import as_labels

EMBEDDING = "embedding"


@keras.saving.register_keras_serializable("descnet3d")
class SupervisedClassifier(ShapeModel):
    """A network that tells the category of a shape, trained with labels.

    Its probabilities give the inception score and the softmax class probability of generated
    shapes, and its embedding, the responses before the last layer, their Fréchet distance.

    Args:
        network: a Keras model that maps `[n, D, H, W, 1]` to one logit a category, `[n, k]`,
            and has a layer named "embedding".
        classes: the names of the categories.
        voxel_mean: what is subtracted from occupancy.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the network has not one logit a category, or no embedding.
    """

    preset_class = "ShapeClassifier"
    batch_size = 32

    def __init__(
        self,
        network: keras.Model,
        classes: Sequence[str],
        *,
        voxel_mean: float = 0.0,
        seed: int = 0,
    ) -> None:
        classes = tuple(classes)
        if tuple(network.output_shape)[1:] != (len(classes),):
            raise ValueError(
                f"network must give one logit for each of the {len(classes)} classes, but it gives "
                f"{list(network.output_shape)}."
            )
        if EMBEDDING not in [layer.name for layer in network.layers]:
            raise ValueError(f'network must have a layer named "{EMBEDDING}", before its logits.')
        super().__init__(
            grid=tuple(network.input_shape)[1:4],
            voxel_mean=float(voxel_mean),
            seed=seed,
            name="supervised_classifier",
        )
        self.network = network
        self.classes = classes
        probed = keras.Model(
            network.inputs, [network.outputs[0], network.get_layer(EMBEDDING).output]
        )
        self._compiled_logits = backend.compiled(lambda positions: probed(positions)[0])
        self._compiled_embedding = backend.compiled(lambda positions: probed(positions)[1])

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The network, by the name that a preset gives it."""
        return {"network": self.network}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its network."""
        return {"classes": list(self.classes), "voxel_mean": self.voxel_mean}

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The classifier of this network and these settings."""
        return cls(
            parts["network"],
            settings["classes"],
            voxel_mean=settings["voxel_mean"],
            seed=settings.get("seed", 0),
        )

    # --- Training ----------------------------------------------------------------------------

    def compile(self, optimizer: Any = None, **keras_arguments: Any) -> None:
        """Choose the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3) with averaged weights.
            keras_arguments: passed on to `keras.Model.compile`.
        """
        optimizer = optimizer or keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.99)
        super().compile(optimizer, **keras_arguments)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("loss", "accuracy")}

    def _labels_of(self, y: Any, count: int) -> np.ndarray:
        if y is None:
            raise ValueError("y missing: give one label a shape, an index into model.classes.")
        return as_labels(y, count, len(self.classes), "y")

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of descent on the cross-entropy of a batch."""
        positions, labels = self._labelled(data)

        def objective() -> tuple[Any, dict[str, Any]]:
            loss, accuracy = _judged(self.network(positions, training=True), labels)
            return loss, {"loss": loss, "accuracy": accuracy}

        measured = backend.descend(objective, self.optimizer, self.trainable_variables)
        return self._track(measured, positions)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The cross-entropy and the accuracy of held-out shapes."""
        positions, labels = self._labelled(data)
        loss, accuracy = _judged(self.network(positions, training=False), labels)
        return self._track({"loss": loss, "accuracy": accuracy}, positions)

    def _labelled(self, data: Any) -> tuple[Any, Any]:
        occupancy, labels = self.unpacked(data)
        return self.observed_of(occupancy), labels

    # --- What users ask of it ----------------------------------------------------------------

    def call(self, occupancy: Any) -> Any:
        """The logits of occupancy `[n, D, H, W]`, as a tensor `[n, k]`."""
        return self.network(self.to_model_space(occupancy))

    def probabilities(self, shapes: Any, batch_size: int = 64) -> np.ndarray:
        """p(category | Y) of each shape, by a softmax of the network's logits.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.

        Returns:
            A float64 array `[n, k]`, in the order of `classes`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        logits = self._in_batches(self._compiled_logits, shapes, batch_size).astype(np.float64)
        return softmax(logits, axis=1)

    def embedding(self, shapes: Any, batch_size: int = 64) -> np.ndarray:
        """The responses of the layer before the logits, float32 `[n, d]`.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        return self._in_batches(self._compiled_embedding, shapes, batch_size)

    def accuracy(self, shapes: Any, labels: Any) -> float:
        """The share of shapes whose likeliest category is their own.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            labels: integers `[n]`, an index into `classes` for each.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, or the labels not
                theirs.
        """
        found = self.probabilities(shapes).argmax(axis=1)
        return float((found == as_labels(labels, len(found), len(self.classes), "labels")).mean())


def _judged(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Mean cross-entropy and accuracy."""
    logits, labels = ops.cast(logits, "float32"), ops.cast(labels, "int32")
    loss = ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    hits = ops.equal(ops.cast(ops.argmax(logits, axis=1), "int32"), labels)
    return loss, ops.mean(ops.cast(hits, "float32"))
