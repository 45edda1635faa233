"""Annealed Langevin dynamics: an energy at every noise level, descended from noise to shape.

With Y = g·X + (1 - g)·sε on the path from a shape X to noise, level = (1 - g)/g and the reference
N(0, (1 - g)²s²) of that level, one step draws a shape from where the chain is and noises it to the
next lower level:

    X̂ = (Y - (1 - g)²s²·∂E/∂Y) / g,    Y ← g'·X̂ + (1 - g')·(√(1 - η²)·(Y - g·X̂)/(1 - g) + η·sε).

That is Langevin dynamics (eq. 3) whose step and temperature follow the level, on positions that are
rescaled to the next one. X̂ is taken a little further than it was drawn, so that the way from level
to level may be long (`_ahead`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy import backend
from descnet3d.energy.composition import Composition, Conditions, count_of, rows_of
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.settings import AnnealingSettings, Denoising
from descnet3d.progress import bar as progress_bar
from descnet3d.shapes.pieces import in_one_piece

_SURE = 1.0 - 1e-7  # the mean of a voxel at ±1 whose odds are taken for the largest there are
_EAGERNESS = 3.0  # of joining pieces, while chains may still make of a thread what should be there
_DRAWN_BEFORE = 3  # drawings that find the mean which chains begin about


def signal_of(level: Any) -> Any:
    """g, the share of the signal at a noise-to-signal level."""
    return 1.0 / (1.0 + level)


class AnnealedSampler:
    """Annealed Langevin dynamics, compiled a step at a time.

    Args:
        draws: what can draw the shapes X̂, by the name that the settings give it; each maps
            positions `[n, D, H, W, 1]`, conditions `[n, c]` or their `Composition`, levels `[n, 1]`
            and the guidance (None for none) to shapes in model space.
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
        noise: np.ndarray | None = None,
        condition: Conditions,
    ) -> np.ndarray:
        """Chains from the first level to shapes: from given ones, or from the mean, and noise.

        Args:
            num: how many.
            settings: the schedule.
            seed: of the noise; None for a new one.
            num_steps: instead of the settings' own.
            batch_size: chains at a time.
            progress: whether to show a progress bar that counts the steps.
            constraint: what is held of every drawn shape.
            initial: shapes in model space `[num, D, H, W, 1]`; None for the mean of all.
            noise: the first noise, `[num, D, H, W, 1]`, of unit variance; None draws it.
            condition: what each chain's energy is conditioned on, `[num, c]` or several.

        Returns:
            Shapes in model space, `[num, D, H, W, 1]`.

        Raises:
            ValueError: when `seed`, `num_steps` or `batch_size` is out of range.
        """
        require_positive_integer("batch_size", batch_size)
        if num_steps is not None:
            require_positive_integer("num_steps", num_steps)
            settings = settings.with_steps(int(num_steps))
        self.noise.state.assign(np.array([seed_of(seed), 0], dtype="uint32"))
        levels = settings.levels()
        steps = -(-num // batch_size) * len(levels)
        bar = progress_bar(steps, "step") if progress else None
        parts = []
        for start in range(0, num, batch_size):
            rows, held = slice(start, start + batch_size), None
            if constraint is not None:
                held = type(constraint)(*(ops.convert_to_tensor(each[rows]) for each in constraint))
            told = rows_of(condition, rows)
            first: Any = (
                keras.random.normal((count_of(told), *self.grid, 1), seed=self.noise)
                if noise is None
                else ops.convert_to_tensor(noise[rows], "float32")
            )
            shapes = None if initial is None else ops.convert_to_tensor(initial[rows])
            positions = self._begin(first, told, settings, held, shapes)
            way = zip(levels, (*levels[1:], 0.0), strict=True)
            led = self._lead(positions, way, told, settings, held)
            parts.append(ops.convert_to_numpy(_last(led, bar)))
        if bar is not None:
            bar.close()
        return np.concatenate(parts)

    def watch(
        self, settings: AnnealingSettings, seed: int | None = None, *, condition: Conditions
    ) -> Iterator[np.ndarray]:
        """The chains of `sample`, step by step: what it gives for as many shapes comes last.

        Args:
            settings: the schedule.
            seed: as in `sample`.
            condition: what each chain's energy is conditioned on, `[n, c]` or several.

        Yields:
            Positions after each step over the share of the signal there, in model space,
            `[n, D, H, W, 1]`: noise about what is a shape in the end.
        """
        self.noise.state.assign(np.array([seed_of(seed), 0], dtype="uint32"))
        levels = settings.levels()
        after = (*levels[1:], 0.0)
        told = rows_of(condition, slice(None))
        first = keras.random.normal((count_of(told), *self.grid, 1), seed=self.noise)
        positions = self._begin(first, told, settings)
        led = self._lead(positions, zip(levels, after, strict=True), told, settings)
        for level, positions in zip(after, led, strict=True):
            yield ops.convert_to_numpy(positions) / signal_of(level)

    def noise_of(
        self,
        shapes: np.ndarray,
        settings: AnnealingSettings,
        batch_size: int = 32,
        *,
        condition: Conditions,
    ) -> np.ndarray:
        """The first noise of chains without fresh noise that end at given shapes.

        That is such a chain, led from the last level up to the first. Of the noise at the last
        level a shape says nothing: it is the same for all.

        Args:
            shapes: in model space, `[n, D, H, W, 1]`.
            settings: the schedule, without fresh noise.
            batch_size: chains at a time.
            condition: what each chain's energy is conditioned on, `[n, c]` or several.

        Returns:
            As `noise` of `sample`, `[n, D, H, W, 1]`.
        """
        levels = settings.levels()[::-1]
        signal = signal_of(levels[0])
        ended = np.random.default_rng(0).standard_normal((1, *self.grid, 1), dtype=np.float32)
        ended *= (1.0 - signal) * self.reference_std
        parts = []
        for start in range(0, len(shapes), batch_size):
            rows = slice(start, start + batch_size)
            positions = ops.convert_to_tensor(signal * shapes[rows] + ended, "float32")
            way = zip(levels[:-1], levels[1:], strict=True)
            told = rows_of(condition, rows)
            positions = _last(self._lead(positions, way, told, settings))
            first = signal_of(levels[-1])
            noise = positions - first * self._draw(positions, told, levels[-1], settings)
            parts.append(ops.convert_to_numpy(noise / ((1.0 - first) * self.reference_std)))
        return np.concatenate(parts)

    def _begin(
        self,
        noise: Any,
        condition: Any,
        settings: AnnealingSettings,
        constraint: Constraint | None = None,
        shapes: Any | None = None,
    ) -> Any:
        """Positions at the first level: shapes, their mean where there are none, and noise.

        Noise about zero would be that of a grid which is half full, and over so many voxels that
        shows at any level: what is made of it is too thick. The mean is what is drawn of noise
        about an empty grid, then about what was drawn.
        """
        level = settings.levels()[0]
        signal = signal_of(level)
        noise = (1.0 - signal) * self.reference_std * noise
        if shapes is None:
            shapes = -self.reference_std
            for _ in range(_DRAWN_BEFORE):
                about = noise + signal * shapes
                shapes = self._draw(about, condition, level, settings, constraint)
        return signal * shapes + noise

    def _draw(
        self,
        positions: Any,
        condition: Any,
        level: float,
        settings: AnnealingSettings,
        constraint: Constraint | None = None,
    ) -> Any:
        """The mean of the shapes X that positions at a level may come from."""
        numbers = [ops.convert_to_tensor(number, "float32") for number in (level, 0, 0, 0, 0)]
        at_random = ops.convert_to_tensor(False)
        step = self._steps[settings.draw, False]
        return step(positions, positions, condition, *numbers, at_random, constraint)[1]

    def _lead(
        self,
        positions: Any,
        way: Iterable[tuple[float, float]],
        condition: Any,
        settings: AnnealingSettings,
        constraint: Constraint | None = None,
    ) -> Iterator[Any]:
        """Positions led along pairs of a level and the following one, 0 for clean shapes."""
        shapes, earlier = positions, None
        for level, following in way:
            guidance = settings.guidance_at(level)
            ahead = _ahead(settings, earlier, level, following)
            numbers = (level, following, settings.fresh_noise_at(level), guidance, ahead)
            positions, shapes = self._steps[settings.draw, guidance > 0](
                positions,
                shapes,
                condition,
                *(ops.convert_to_tensor(number, "float32") for number in numbers),
                ops.convert_to_tensor(bool(level > settings.random_above)),
                constraint,
            )
            if settings.whole_at(level) and constraint is None:
                goes_on = following > 0 and level >= np.float32(settings.settle_level)
                eagerness = _EAGERNESS if goes_on else 1.0
                whole = self._in_one_piece(shapes, condition, eagerness)
                slope = _slope(settings, level, following) * (1.0 + ahead)
                positions = positions + slope * (whole - shapes)
                shapes = whole
            earlier = level
            yield positions

    def _in_one_piece(self, shapes: Any, condition: Conditions, eagerness: float) -> Any:
        """Drawn shapes, those in several pieces changed to one; what was told for certain stays."""
        drawn = ops.convert_to_numpy(shapes)[..., 0]
        odds = 2.0 * np.arctanh(np.clip(drawn / self.reference_std, -_SURE, _SURE))
        if isinstance(condition, Composition):
            told = ops.convert_to_numpy(condition.told)[..., 0]
            odds = np.where(np.isinf(told), told, odds)
        whole = np.stack([in_one_piece(each, eagerness) for each in odds])
        joined = np.where(whole == odds, drawn, self.reference_std * np.tanh(0.5 * whole))
        return ops.convert_to_tensor(joined[..., None], "float32")

    def _step_of(
        self, draw: Callable[[Any, Any, Any, Any], Any], guided: bool
    ) -> Callable[..., Any]:
        def step(
            positions: Any,
            before: Any,
            condition: Any,
            level: Any,
            following: Any,
            fresh: Any,
            guidance: Any,
            ahead: Any,
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
            further = shapes + ahead * (shapes - before)
            kept = (positions - signal * further) / (1.0 - signal)
            new: Any = limit * keras.random.normal(ops.shape(positions), seed=self.noise)
            noise = ops.sqrt(1.0 - ops.square(fresh)) * kept + fresh * new
            return signal_after * further + (1.0 - signal_after) * noise, shapes

        return step


def _ahead(
    settings: AnnealingSettings, earlier: float | None, level: float, following: float
) -> float:
    """How much further a drawing is taken than it has changed since the step before.

    By half of it, where steps are equally long, chains are of second order in the steps
    (DPM-Solver++ 2M, Lu et al. 2022): of first order, they lose some of the spread. Not
    where chains settle, and not of drawings that are random.
    """
    if earlier is None or following == 0 or settings.settles_at(level):
        return 0.0
    if max(earlier, level) > settings.random_above:
        return 0.0
    kept = math.sqrt(1.0 - settings.fresh_noise_at(level) ** 2)
    return 0.5 * kept * math.log(level / following) / math.log(earlier / level)


def _slope(settings: AnnealingSettings, level: float, following: float) -> float:
    """How far positions at the following level move with what was drawn and taken no further."""
    signal, after = signal_of(level), signal_of(following)
    kept = math.sqrt(1.0 - settings.fresh_noise_at(level) ** 2)
    return float(after - (1.0 - after) * kept * signal / (1.0 - signal))


def _last(led: Iterator[Any], bar: Any | None = None) -> Any:
    """Where chains end; `bar` counts their steps."""
    for positions in led:
        end = positions
        if bar is not None:
            bar.update(1)
    return end


def draw_levels(denoising: Denoising, count: Any, noise: keras.random.SeedGenerator) -> Any:
    """Noise-to-signal levels of a batch that learns by denoising, `[count, 1]`."""
    normal = keras.random.normal((count, 1), seed=noise)
    return ops.clip(denoising.level_median * ops.exp(denoising.level_spread * normal), 0.05, 200.0)


def level_weights(denoising: Denoising, level: Any) -> Any:
    """What the loss of each shape is multiplied by in training, of the shape of `level`."""
    return ops.clip((4.0 / level) ** denoising.fine_weight, 0.3, 8.0)
