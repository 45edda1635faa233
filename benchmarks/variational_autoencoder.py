"""A variational autoencoder, the rival that a taught generator is measured against.

Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014. `benchmarks/cooperation.py` trains it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from descnet3d.models import generators
from descnet3d.models.autoencoder import Autoencoder


class VariationalAutoencoder(Autoencoder):
    """Maximises E_q[log p(Y | Z)] - KL(q(Z | Y) ‖ N(0, I)), with p(Y | Z) = N(g(Z), σ²).

    Args:
        generator: g, maps `[n, d]` to positions `[n, D, H, W, 1]`.
        encoder: maps positions to the means and log standard deviations of q, `[n, 2d]`.
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
            observed: Y, `[n, D, H, W, 1]` in model space.
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


def encoder(
    size: int = 32, *, latents: int = 64, width: int = 64, hidden: int = 256
) -> keras.Model:
    """The bottom-up network that a generator learns with as a variational autoencoder.

    Args:
        size: the side of the grid, in voxels; 16 times a power of 2.
        latents: d, the length of Z.
        width: filters of the convolutions.
        hidden: units of the dense layer.

    Returns:
        A network that maps positions `[n, D, H, W, 1]` to `[n, 2·latents]`: the means of
        q(Z | Y), and the logarithms of its standard deviations.
    """
    side = size // generators.PATCH
    inputs = keras.Input((size, size, size, 1), name="shapes")
    response = layers.Conv3D(
        width, generators.PATCH, generators.PATCH, activation="silu", name="patch_responses"
    )(inputs)
    while side > generators.SEED_SIDE:
        side //= 2
        response = layers.Conv3D(
            width, 4, 2, padding="same", activation="silu", name=f"shrink_to_{side}"
        )(response)
    response = layers.Flatten(name="flatten")(response)
    response = layers.Dense(hidden, activation="silu", name="dense")(response)
    outputs = layers.Dense(2 * latents, name="mean_and_log_std")(response)
    return keras.Model(inputs, outputs, name="encoder")
