"""A generator's first lesson: the shapes themselves, as the decoder of an autoencoder.

Cooperative training needs a generator whose shapes Langevin dynamics can revise; taught by the data
alone, this is also what it has to surpass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.models import generators
from descnet3d.models.shape_model import ShapeModel


@keras.saving.register_keras_serializable("descnet3d")
class Autoencoder(ShapeModel):
    """An encoder of shapes, and the generator that makes them of their latents.

    Args:
        generator: g, maps `[n, d]` to positions `[n, D, H, W, 1]`.
        encoder: maps positions to latents, or to what is known of them.
        generator_std: σ, the standard deviation of what the generator leaves unexplained.
        voxel_mean: what model space subtracts from occupancy.
        seed: seeds the noise of training.
    """

    preset_class = "Autoencoder"
    names: tuple[str, ...] = ("loss", "squared_error")

    def __init__(
        self,
        generator: keras.Model,
        encoder: keras.Model,
        *,
        generator_std: float = 0.5,
        voxel_mean: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(
            grid=tuple(generator.output_shape[1:4]),
            voxel_mean=voxel_mean,
            seed=seed,
            name="autoencoder",
        )
        self.generator = generator
        self.generator_of = generators.patchwise(generator)
        self.encoder = encoder
        self.generator_std = generator_std

    @property
    def parts(self) -> dict[str, keras.Model]:
        """Both networks."""
        return {"generator": self.generator, "encoder": self.encoder}

    @property
    def settings(self) -> dict[str, Any]:
        """What it is made of beside them."""
        return {"generator_std": self.generator_std, "voxel_mean": self.voxel_mean}

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The autoencoder of these networks and settings."""
        own = {
            key: settings[key] for key in ("generator_std", "voxel_mean", "seed") if key in settings
        }
        return cls(parts["generator"], parts["encoder"], **own)

    def compile(self, optimizer: Any = None, **keras_arguments: Any) -> None:
        """Choose the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3).
            keras_arguments: passed on to `keras.Model.compile`.
        """
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.names}
        super().compile(optimizer or keras.optimizers.Adam(1e-3), **keras_arguments)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of descent on the loss."""
        observed = self.observed_of(self.unpacked(data)[0])
        measured = backend.descend(
            lambda: self.loss_of(observed, self.training_noise),
            self.optimizer,
            self.trainable_variables,
        )
        return self._track(measured, observed)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The same loss of held-out shapes."""
        observed = self.observed_of(self.unpacked(data)[0])
        _, measured = self.loss_of(observed, self.training_noise)
        return self._track(measured, observed)

    def loss_of(
        self, observed: Any, noise: keras.random.SeedGenerator
    ) -> tuple[Any, dict[str, Any]]:
        """The negative log-likelihood of a batch given its latents, but for a constant.

        Args:
            observed: Y, `[n, D, H, W, 1]` in model space.
            noise: where random numbers come from, if there are any.

        Returns:
            The loss, ‖Y - g(Z)‖²/2σ² with Z what the encoder gives, a mean over the shapes; and by
            name the loss itself and the squared error of a voxel.
        """
        observed = ops.convert_to_tensor(observed)
        loss, squared = self._reconstruction(observed, self.encoder(observed, training=True))
        parts = {"loss": loss, "squared_error": squared}
        return loss, {name: ops.stop_gradient(part) for name, part in parts.items()}

    def _reconstruction(self, observed: Any, latents: Any) -> tuple[Any, Any]:
        """‖Y - g(Z)‖²/2σ² and the squared error of a voxel, means over the shapes."""
        squares = ops.square(observed - self.generator_of(latents, training=True))
        error = ops.sum(squares, axis=(1, 2, 3, 4)) / (2 * self.generator_std**2)
        return ops.mean(error), ops.mean(squares)
