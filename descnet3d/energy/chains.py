"""Where the chains of a training run start, and what they keep from one iteration to the next."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.energy.settings import ChainSettings


class PersistentChains:
    """Chains that persist between iterations, and whose turn it is.

    Args:
        settings: how many there are, and how many an iteration runs.
        grid: the grid `(D, H, W)`.
        seed: seeds the noise that they begin with.
        initial_std: that noise's standard deviation, in model space.
    """

    def __init__(
        self, settings: ChainSettings, grid: tuple[int, int, int], seed: int, initial_std: float
    ) -> None:
        self.settings = settings
        self.count = settings.count or settings.per_step
        self.initial_std = initial_std
        generator = np.random.default_rng(seed)
        noise = generator.standard_normal((self.count, *grid, 1), dtype=np.float32)
        self.positions = keras.Variable(
            initial_std * noise, trainable=False, dtype="float32", name="chains"
        )
        self.turn = keras.Variable(0, trainable=False, dtype="int32", name="chains_turn")

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint has to hold."""
        return [self.positions, self.turn]

    def take(self, seed_generator: keras.random.SeedGenerator) -> tuple[Any, Any]:
        """The chains whose turn it is, some of them restarted.

        Returns:
            Their indices `[per_step]` and their positions `[per_step, D, H, W, 1]`.
        """
        settings = self.settings
        indices = (self.turn + ops.arange(settings.per_step, dtype="int32")) % self.count
        positions = ops.take(self.positions, indices, axis=0)
        if settings.restart_rate:
            fresh = self.initial_std * keras.random.normal(positions.shape, seed=seed_generator)
            draw = keras.random.uniform((settings.per_step, 1, 1, 1, 1), seed=seed_generator)
            positions = ops.where(draw < settings.restart_rate, fresh, positions)
        return indices, positions

    def put(self, indices: Any, positions: Any) -> None:
        """Keep where the chains have got to, and pass the turn on."""
        self.positions.assign(ops.scatter_update(self.positions, indices[:, None], positions))
        self.turn.assign((self.turn + self.settings.per_step) % self.count)
