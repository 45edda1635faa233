"""Annealed Langevin dynamics: an energy at every noise level, descended from noise to shape.

With Y = g·X + (1 - g)·sε on the path from a shape X to noise, level = (1 - g)/g and the reference
N(0, (1 - g)²s²) of that level, one step draws a shape from where the chain is and noises it to the
next lower level:

    X̂ = (Y - (1 - g)²s²·∂E/∂Y) / g,    Y ← g'·X̂ + (1 - g')·(√(1 - η²)·(Y - g·X̂)/(1 - g) + η·sε).

That is Langevin dynamics (eq. 3) whose step and temperature follow the level, on positions that are
rescaled to the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy import backend
from descnet3d.energy.constraints import Constraint


@dataclass(frozen=True)
class AnnealingSettings:
    """The schedule of annealed Langevin dynamics.

    Attributes:
        num_steps: how many noise levels, from `first_level` down to `last_level`, as geometric
            progression.
        first_level: noise-to-signal where chains start.
        last_level: noise-to-signal of the last drawing.
        fresh_noise: η, the share of the noise that is drawn anew at every step; 0 follows one path
            from the first noise on, √(1 - r²) where levels fall by a factor r is the exact reverse
            diffusion, 1 is the most random, and sharper than the data.
        settle_level: from this noise-to-signal level down all noise is drawn anew: what the shape
            is has been decided, and its surface settles.
        random_above: above this level each voxel of a drawn shape is occupied or not, at random
            with its own probability, where below it the mean of both is taken: the mean of an
            undecided leg is thin air.
        guidance: how far beyond what the condition changes the odds are taken, above
            `guidance_above`: ℓ(c) + guidance·(ℓ(c) - ℓ(nothing told)), and the energy likewise.
            More of it makes shapes more typical of their category and less diverse; it takes twice
            the time.
        guidance_above: the level above which it is used; what a shape is is decided there.
        revision_level: the noise-to-signal level to which given shapes are noised, to be revised.
        feature_level: the one at which features are taken, of shapes without noise.
        draw: what draws the shape of a step: "odds" for the voxels' odds, as the network gives
            them, "energy" for the gradient of the energy, which is fitted to what they draw.
    """

    num_steps: int = 50
    first_level: float = 40.0
    last_level: float = 0.25
    fresh_noise: float = 0.5
    settle_level: float = 5.0
    random_above: float = 4.0
    guidance: float = 0.3
    guidance_above: float = 3.0
    revision_level: float = 1.0
    feature_level: float = 1.0
    draw: str = "odds"

    def __post_init__(self) -> None:
        """Refuse settings that no dynamics can run with."""
        if not isinstance(self.num_steps, int) or self.num_steps < 1:
            raise ValueError(f"num_steps must be a positive integer, but it is {self.num_steps!r}.")
        for name in ("first_level", "last_level", "revision_level", "feature_level"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, but it is {value!r}.")
        if self.last_level > self.first_level:
            raise ValueError(
                f"last_level must be at most first_level ({self.first_level:g}), but it is "
                f"{self.last_level:g}."
            )
        for name in ("settle_level", "random_above", "guidance", "guidance_above"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, but it is {getattr(self, name)!r}.")
        if not 0 <= self.fresh_noise <= 1:
            raise ValueError(f"fresh_noise must be in [0, 1], but it is {self.fresh_noise!r}.")
        if self.draw not in ("energy", "odds"):
            raise ValueError(f'draw must be "energy" or "odds", but it is {self.draw!r}.')

    def fresh_noise_at(self, level: float) -> float:
        """η at a level."""
        return self.fresh_noise if level > self.settle_level else 1.0

    def guidance_at(self, level: float) -> float:
        """The guidance of a step at a level."""
        return self.guidance if level > self.guidance_above else 0.0

    def levels(self) -> np.ndarray:
        """The noise level of every step, float32 `[num_steps]`."""
        if self.num_steps == 1:
            return np.array([self.last_level], np.float32)
        return np.geomspace(self.first_level, self.last_level, self.num_steps).astype(np.float32)


def signal_of(level: Any) -> Any:
    """g, the share of the signal at a noise-to-signal level."""
    return 1.0 / (1.0 + level)


class AnnealedSampler:
    """Annealed Langevin dynamics, compiled a step at a time.

    Args:
        draws: what can draw the shapes X̂, by the name that the settings give it; each maps
            positions `[n, D, H, W, 1]`, conditions `[n, c]`, levels `[n, 1]` and the guidance (None
            for none) to shapes in model space.
        grid: `(D, H, W)`.
        reference_std: s; occupied and empty voxels are at ±s.
        noise: where the noise comes from.
    """

    def __init__(
        self,
        draws: Mapping[str, Callable[[Any, Any, Any, Any], Any]],
        grid: tuple[int, int, int],
        reference_std: float,
        noise: keras.random.SeedGenerator,
    ) -> None:
        self.grid = grid
        self.reference_std = reference_std
        self.noise = noise
        self._steps = {
            (name, guided): backend.compiled(self._step_of(draw, guided))
            for name, draw in draws.items()
            for guided in (False, True)
        }

    def sample(
        self,
        num: int,
        settings: AnnealingSettings,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        constraint: Constraint | None = None,
        initial: np.ndarray | None = None,
        *,
        condition: np.ndarray,
    ) -> np.ndarray:
        """Chains from noise, or from given shapes noised to the first level, to shapes.

        Args:
            num: how many.
            settings: the schedule.
            seed: of the noise; None for a new one.
            num_steps: instead of the settings' own.
            batch_size: chains at a time.
            progress: whether to show a progress bar that counts the steps.
            constraint: what is held of every drawn shape.
            initial: shapes in model space `[num, D, H, W, 1]`; None for noise alone.
            condition: what each chain's energy is conditioned on, `[num, c]`.

        Returns:
            Shapes in model space, `[num, D, H, W, 1]`.

        Raises:
            ValueError: when `seed`, `num_steps` or `batch_size` is out of range.
        """
        require_positive_integer("batch_size", batch_size)
        if num_steps is not None:
            require_positive_integer("num_steps", num_steps)
            settings = replace(settings, num_steps=int(num_steps))
        self.noise.state.assign(np.array([seed_of(seed), 0], dtype="uint32"))
        steps = -(-num // batch_size) * settings.num_steps
        bar = keras.utils.Progbar(steps, unit_name="step") if progress else None
        parts = []
        for start in range(0, num, batch_size):
            rows, held = slice(start, start + batch_size), None
            if constraint is not None:
                held = type(constraint)(*(ops.convert_to_tensor(each[rows]) for each in constraint))
            first = None if initial is None else ops.convert_to_tensor(initial[rows])
            told = ops.convert_to_tensor(condition[rows])
            parts.append(ops.convert_to_numpy(self._anneal(told, settings, held, first, bar)))
        return np.concatenate(parts)

    def _anneal(
        self,
        condition: Any,
        settings: AnnealingSettings,
        constraint: Constraint | None,
        initial: Any | None,
        bar: keras.utils.Progbar | None,
    ) -> Any:
        levels = settings.levels()
        signal = signal_of(levels[0])
        shape = (condition.shape[0], *self.grid, 1)
        noise: Any = keras.random.normal(shape, seed=self.noise)
        positions = (1.0 - signal) * self.reference_std * noise
        if initial is not None:
            positions = positions + signal * initial
        shapes = positions
        for level, following in zip(levels, (*levels[1:], 0.0), strict=True):
            guidance = settings.guidance_at(level)
            numbers = (level, following, settings.fresh_noise_at(level), guidance)
            shapes, positions = self._steps[settings.draw, guidance > 0](
                positions,
                condition,
                *(ops.convert_to_tensor(number, "float32") for number in numbers),
                ops.convert_to_tensor(bool(level > settings.random_above)),
                constraint,
            )
            if bar is not None:
                bar.add(1)
        return shapes

    def _step_of(
        self, draw: Callable[[Any, Any, Any, Any], Any], guided: bool
    ) -> Callable[..., Any]:
        def step(
            positions: Any,
            condition: Any,
            level: Any,
            following: Any,
            fresh: Any,
            guidance: Any,
            at_random: Any,
            constraint: Constraint | None,
        ) -> tuple[Any, Any]:
            signal, signal_after = signal_of(level), signal_of(following)
            rows, limit = ops.shape(positions)[0], self.reference_std
            levels = ops.broadcast_to(level, (rows, 1))
            shapes = draw(positions, condition, levels, guidance if guided else None)
            shapes = ops.stop_gradient(ops.clip(shapes, -limit, limit))
            chances: Any = keras.random.uniform(
                ops.shape(positions), -limit, limit, seed=self.noise
            )
            drawn = ops.where(chances < shapes, limit, -limit)
            shapes = ops.where(at_random, drawn, shapes)
            if constraint is not None:
                shapes = constraint.project(shapes)
            kept = (positions - signal * shapes) / (1.0 - signal)
            new: Any = limit * keras.random.normal(ops.shape(positions), seed=self.noise)
            noise = ops.sqrt(1.0 - ops.square(fresh)) * kept + fresh * new
            return shapes, signal_after * shapes + (1.0 - signal_after) * noise

        return step


@dataclass(frozen=True)
class Denoising:
    """What an energy at every noise level learns by: shapes, drawn from noisy ones.

    Observed shapes are noised to levels whose logarithm is normal. First the voxels' odds are
    learned, by cross-entropy against the clean voxels. Then the energy is fitted to them by its
    gradient: the loss is the mean square of X̂ = (Y - s²·∂E/∂Y)/g, less what the odds of a frozen
    copy draw, in units of an occupied voxel; that target has no sampling noise.

    Attributes:
        learns: "odds" or "energy".
        level_median: the median of the noise-to-signal levels.
        level_spread: the standard deviation of their logarithm.
        untold: the share of the shapes whose category is not told, so that the model knows shapes
            of no category too.
        warped: the share of the training shapes that are slightly scaled and shifted
            (`shapes.warps`); the network is told how, so that what it makes is not.
    """

    learns: str = "odds"
    level_median: float = 3.0
    level_spread: float = 1.3
    untold: float = 0.1
    warped: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        if self.learns not in ("odds", "energy"):
            raise ValueError(f'learns must be "odds" or "energy", but it is {self.learns!r}.')
        for name in ("level_median", "level_spread"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, but it is {getattr(self, name)!r}.")
        for name in ("untold", "warped"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], but it is {getattr(self, name)!r}.")

    def draw_levels(self, count: Any, noise: keras.random.SeedGenerator) -> Any:
        """Noise levels of a batch, `[count, 1]`."""
        normal = keras.random.normal((count, 1), seed=noise)
        return ops.clip(self.level_median * ops.exp(self.level_spread * normal), 0.05, 200.0)
