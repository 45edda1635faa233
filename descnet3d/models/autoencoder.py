"""A generator's first lesson: the shapes themselves, as the decoder of an autoencoder.

Cooperative training needs a generator whose shapes Langevin dynamics can revise; taught by the data
alone, this is also what it has to surpass.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.models import generators
from descnet3d.models.shape_model import ShapeModel


class Autoencoder(ShapeModel):
    """An encoder of shapes, and the generator that makes them of their latents.

    Args:
        generator: g, maps ``[n, d]`` to positions ``[n, D, H, W, 1]``.
        encoder: maps positions to latents, or to what is known of them.
        generator_std: σ, the standard deviation of what the generator leaves unexplained.
        voxel_mean: what model space subtracts from occupancy.
        seed: seeds the noise of training.
    """

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
            reference_std=generator_std,
            voxel_mean=voxel_mean,
            seed=seed,
            name="autoencoder",
        )
        self.generator = generator
        self.generator_of = generators.patchwise(generator)
        self.encoder = encoder
        self.built = True

    def compile(self, optimizer: Any = None, **keras_arguments: Any) -> None:
        """Choose the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3).
            keras_arguments: passed on to `keras.Model.compile`.
        """
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.names}
        super().compile(optimizer=optimizer or keras.optimizers.Adam(1e-3), **keras_arguments)
        self.optimizer.build(self.trainable_variables)

    @property
    def state_groups(self) -> dict[str, Any]:
        """The variables that a resumed run needs, in groups by name."""
        networks = {"generator": self.generator.variables, "encoder": self.encoder.variables}
        return {**networks, **super().state_groups}

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of descent on the loss."""
        observed = self.observed_of(keras.utils.unpack_x_y_sample_weight(data)[0])
        measured, gradients = backend.gradients(
            lambda: self.loss_of(observed, self.training_noise), self.trainable_variables
        )
        backend.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        return self._update_trackers(measured)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The same loss of held-out shapes."""
        observed = self.observed_of(keras.utils.unpack_x_y_sample_weight(data)[0])
        _, measured = self.loss_of(observed, self.training_noise)
        return self._update_trackers(measured)

    def loss_of(
        self, observed: Any, noise: keras.random.SeedGenerator
    ) -> tuple[Any, dict[str, Any]]:
        """The negative log-likelihood of a batch given its latents, but for a constant.

        Args:
            observed: Y, ``[n, D, H, W, 1]`` in model space.
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
        error = ops.sum(squares, axis=(1, 2, 3, 4)) / (2 * self.reference_std**2)
        return ops.mean(error), ops.mean(squares)


class VariationalAutoencoder(Autoencoder):
    """Maximises E_q[log p(Y | Z)] - KL(q(Z | Y) ‖ N(0, I)), with p(Y | Z) = N(g(Z), σ²).

    Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014.

    Args:
        generator: g, maps ``[n, d]`` to positions ``[n, D, H, W, 1]``.
        encoder: maps positions to the means and log standard deviations of q, ``[n, 2d]``.
        settings: as of `Autoencoder`.

    Raises:
        ValueError: when the encoder has not twice as many outputs as the generator has latents.
    """

    names = ("loss", "squared_error", "divergence")

    def __init__(self, generator: keras.Model, encoder: keras.Model, **settings: Any) -> None:
        length = generator.input_shape[1]
        if encoder.output_shape[1:] != (2 * length,):
            raise ValueError(
                f"encoder must give means and log standard deviations of {length} latents, [n, "
                f"{2 * length}], but it gives {list(encoder.output_shape)}."
            )
        super().__init__(generator, encoder, **settings)
        self.divergence_weight = keras.Variable(
            1.0, trainable=False, dtype="float32", name="divergence_weight"
        )
        self.divergence_warmup = 0

    def begin_epoch(self, epoch: int) -> None:
        """Set the weight of the divergence."""
        self.divergence_weight.assign(
            min(1.0, epoch / self.divergence_warmup if self.divergence_warmup else 1.0)
        )

    def compile(
        self, optimizer: Any = None, *, divergence_warmup: int = 0, **keras_arguments: Any
    ) -> None:
        """Choose the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3).
            divergence_warmup: the epochs in which the divergence's weight grows from 0 to 1;
                without them the latents may never come to mean anything.
            keras_arguments: passed on to `keras.Model.compile`.
        """
        self.divergence_warmup = divergence_warmup
        super().compile(optimizer, **keras_arguments)

    def loss_of(
        self, observed: Any, noise: keras.random.SeedGenerator
    ) -> tuple[Any, dict[str, Any]]:
        """The negative of the evidence lower bound of a batch, but for a constant.

        Args:
            observed: Y, ``[n, D, H, W, 1]`` in model space.
            noise: where the samples of q(Z | Y) come from.

        Returns:
            The loss, ‖Y - g(Z)‖²/2σ² + KL(q(Z | Y) ‖ N(0, I)), a mean over the shapes (the
            divergence weighted as far as its warm-up has come); and by name the loss itself, the
            squared error of a voxel and the divergence.
        """
        observed = ops.convert_to_tensor(observed)
        mean, log_std = ops.split(self.encoder(observed, training=True), 2, axis=1)
        drawn = mean + ops.exp(log_std) * keras.random.normal(ops.shape(mean), seed=noise)
        error, squared = self._reconstruction(observed, drawn)
        squares = (ops.square(mean) + ops.exp(2 * log_std) - 1) / 2
        divergence = ops.mean(ops.sum(squares - log_std, axis=1))
        loss = error + self.divergence_weight * divergence
        parts = {"loss": loss, "squared_error": squared, "divergence": divergence}
        return loss, {name: ops.stop_gradient(part) for name, part in parts.items()}
