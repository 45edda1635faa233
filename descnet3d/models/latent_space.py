"""The latents of a generator Y = g(Z; α) + ε, and the shapes that they stand for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.energy import backend, latents
from descnet3d.models import generators

# What is encoded at a time, and what is generated.
ENCODED_AT_A_TIME, GENERATED_AT_A_TIME = 32, 64


class LatentSpace:
    """A generator as a map between latents `[n, d]` and positions `[n, D, H, W, 1]`.

    Args:
        generator: g(Z; α), a Keras model that maps `[n, d]` to `[n, D, H, W, 1]`.
        grid: `(D, H, W)`.
        generator_std: σ, the standard deviation of ε.

    Attributes:
        length: d.
        generator_of: g as a function of latents and of `training`.

    Raises:
        ValueError: when the generator's inputs or outputs don't fit, or σ is not positive.
    """

    def __init__(
        self, generator: keras.Model, grid: tuple[int, int, int], generator_std: float
    ) -> None:
        inputs, outputs = tuple(generator.input_shape), tuple(generator.output_shape)
        if len(inputs) != 2 or inputs[1] is None:
            raise ValueError(
                f"generator must take latents [n, d] with a fixed d, but it takes {list(inputs)}."
            )
        if outputs[1:] != (*grid, 1):
            raise ValueError(
                f"generator must make the descriptor's grids, {[None, *grid, 1]}, but it makes "
                f"{list(outputs)}."
            )
        if not (np.isfinite(generator_std) and generator_std > 0):
            raise ValueError(f"generator_std must be positive, but it is {generator_std!r}.")
        self.generator = generator
        self.grid = grid
        self.generator_std = float(generator_std)
        self.length = int(inputs[1])
        self.generator_of = generators.patchwise(generator)

        def inferring(drawn: Any) -> Any:
            return self.generator_of(drawn, training=False)

        self._compiled = backend.compiled(inferring)
        self._infer = latents.LatentInference(inferring, self.length, self.generator_std)

    def positions_of(self, drawn: np.ndarray) -> np.ndarray:
        """g(Z), `[n, D, H, W, 1]`, of latents `[n, d]`."""
        # Batches of one size are traced once.
        parts = []
        for start in range(0, len(drawn), GENERATED_AT_A_TIME):
            part = drawn[start : start + GENERATED_AT_A_TIME]
            positions = self._compiled(ops.convert_to_tensor(part))
            parts.append(ops.convert_to_numpy(ops.stop_gradient(positions)))
        return np.concatenate(parts)

    def latents_of(self, positions: np.ndarray, num_steps: int) -> np.ndarray:
        """The mode of p(Z | Y) by so many iterations of L-BFGS at most, float32 `[n, d]`."""
        return np.concatenate(
            [
                self._infer(positions[start : start + ENCODED_AT_A_TIME], num_steps)
                for start in range(0, len(positions), ENCODED_AT_A_TIME)
            ]
        )
