"""Where the chains of a training run start, and what they keep from one iteration to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

STARTS = ("persistent", "noise", "data", "generator")


@dataclass(frozen=True)
class ChainSettings:
    """Which chains a training iteration runs.

    Attributes:
        start: "persistent", chains begun from noise that go on from where they were (the paper's);
            "noise", short runs from fresh noise; "data", short runs from the observed shapes;
            "generator", short runs from what the generator of a `CooperativeNet` makes.
        per_step: how many chains an iteration runs (with "data", one for each observed shape).
        count: how many persistent chains there are; iterations take them in turn.
        restart_rate: the probability that a persistent chain starts again from noise when its turn
            comes.
    """

    start: str = "persistent"
    per_step: int = 25
    count: int = 25
    restart_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that contradict themselves."""
        if self.start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, but it is {self.start!r}.")
        if self.per_step < 1:
            raise ValueError(f"per_step must be at least 1, but it is {self.per_step!r}.")
        if self.start == "persistent" and self.count < self.per_step:
            raise ValueError(
                f"count must be at least per_step ({self.per_step}), but it is {self.count!r}."
            )
        if not 0 <= self.restart_rate <= 1:
            raise ValueError(f"restart_rate must be in [0, 1], but it is {self.restart_rate!r}.")


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
        self.initial_std = initial_std
        generator = np.random.default_rng(seed)
        noise = generator.standard_normal((settings.count, *grid, 1), dtype=np.float32)
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
        indices = (self.turn + ops.arange(settings.per_step, dtype="int32")) % settings.count
        positions = ops.take(self.positions, indices, axis=0)
        if settings.restart_rate:
            fresh = self.initial_std * keras.random.normal(positions.shape, seed=seed_generator)
            draw = keras.random.uniform((settings.per_step, 1, 1, 1, 1), seed=seed_generator)
            positions = ops.where(draw < settings.restart_rate, fresh, positions)
        return indices, positions

    def put(self, indices: Any, positions: Any) -> None:
        """Keep where the chains have got to, and pass the turn on."""
        self.positions.assign(ops.scatter_update(self.positions, indices[:, None], positions))
        self.turn.assign((self.turn + self.settings.per_step) % self.settings.count)
