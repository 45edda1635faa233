"""The methods of an energy of several categories: of one of them, or of sums of their energies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops
from scipy.special import softmax

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy.annealing import AnnealedSampler, signal_of
from descnet3d.energy.composition import (
    Category,
    Composition,
    Conditions,
    composed,
    repeated,
    with_told,
)
from descnet3d.energy.likelihood import log_likelihoods
from descnet3d.energy.settings import AnnealingSettings
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.shapes import warps
from descnet3d.shapes.occupancy import as_occupancy

# The noise-to-signal levels at which shapes are noised, to be told apart.
LEVELS = (1.0, 2.0, 4.0, 8.0, 16.0)


class ComposedModel(EnergyBasedModel):
    """A model with an energy E(Y | c, level), whose chains follow one condition c or several.

    Attributes:
        classes: the names of the categories.
        category: the category that the model is bound to; None where each call says it.
    """

    classes: tuple[str, ...]
    category: str | None
    sampling: AnnealingSettings
    sampler: AnnealedSampler
    reference_std: float
    _squared_error: Any

    def condition_of(self, category: str | None, count: int) -> np.ndarray:
        """Rows that tell a category, the model's own one, or none, and no warp.

        Raises:
            ValueError: when the model knows no such category.
        """
        category = category or self.category
        rows = np.zeros((count, len(self.classes) + warps.NUMBERS), np.float32)
        if category is not None:
            if category not in self.classes:
                raise ValueError(
                    f"category must be one of {', '.join(self.classes)}, but it is {category!r}."
                )
            rows[:, self.classes.index(category)] = 1.0
        return rows

    def _composed(self, category: Category | None, count: int) -> np.ndarray | Composition:
        """The condition of so many chains: a category's, or the sum of several."""
        if not isinstance(category, Mapping):
            return self.condition_of(category, count)
        if not category:
            raise ValueError("category must name one category or more, but it is empty.")
        for name, weight in category.items():
            if not _is_finite(weight):
                raise ValueError(
                    f"category must give each a finite weight, but that of {name!r} is {weight!r}."
                )
        return composed([self.condition_of(name, count) for name in category], [*category.values()])

    def _told(self, category: Category | None, num: int, known: bool = False) -> dict[str, Any]:
        """The condition of each shape; all categories in turn where nothing is asked or known."""
        if category is not None or self.category is not None or known:
            return {"condition": self._composed(category, num)}
        each = np.concatenate([self.condition_of(name, 1) for name in self.classes])
        return {"condition": each[np.arange(num) % len(each)]}

    def call(self, occupancy: Any) -> Any:
        """The energy of occupancy `[n, D, H, W]`, as a tensor `[n]`; see `energy`."""
        positions = self.to_model_space(occupancy)
        return self._energy_at_the_end(positions, self.category)

    def energy(
        self, shapes: Any, batch_size: int = 32, *, category: Category | None = None
    ) -> np.ndarray:
        """E(Y | c) of each shape at the last noise level of `sampling`: the lower, the likelier.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.
            category: c; or the weights of several, whose energies are summed as in `synthesize`;
                the model's own, or none, where it is not given.

        Returns:
            A float32 array `[n]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, or there is no such
                category.
        """
        return self._in_batches(
            lambda positions: self._energy_at_the_end(positions, category), shapes, batch_size
        )

    def _energy_at_the_end(self, shapes: Any, category: Category | None) -> Any:
        """The energy of clean shapes in model space, at the middle of the last level's path."""
        count, level = ops.shape(shapes)[0], self.sampling.last_level
        condition: Conditions = repeated(self._composed(category, 1), count)
        levels = ops.full((count, 1), level)
        return self._compiled_energy(signal_of(level) * shapes, condition, levels)

    def log_likelihood(
        self,
        shapes: Any,
        *,
        category: Category | None = None,
        levels: Sequence[float] = LEVELS,
        draws: int = 1,
        seed: int | None = 0,
        batch_size: int = 32,
    ) -> np.ndarray:
        """The log likelihood log P(X | c) of each shape: the lower, the newer is the shape.

        It is found from how well shapes are drawn from noisy ones, with voxels X at ±1 and X̂ the
        mean that the energy's odds draw,

            log P(X | c) = -∫ E‖X - X̂(Y, c, level)‖² / level² d(log level)

        (`energy.likelihood`), which is exact for odds that are: unlike `energy`, it lacks no
        constant, and can be compared between categories.

        Args:
            shapes: occupancy 0 and 1, `[n, D, H, W]`.
            category: c, as in `energy`.
            levels: the noise-to-signal levels between which the integral is taken; the more, the
                better, in so much longer time.
            draws: how often the noise is drawn at each.
            seed: of the noise, which is the same for every category; None for a new one.
            batch_size: shapes at a time.

        Returns:
            Nats, float64 `[n]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, there is no such
                category, or another argument is out of range.
        """
        positions = ops.convert_to_numpy(
            self.to_model_space(as_occupancy(shapes, "shapes", self.grid))
        )
        told = self._composed(category, 1)

        def squared_error(noisy: Any, clean: Any, level: Any) -> Any:
            condition: Conditions = repeated(told, len(clean))
            return self._squared_error(noisy, condition, level, clean)

        how = levels, draws, seed, batch_size
        return log_likelihoods(squared_error, positions, self.reference_std, *how)

    def class_probabilities(
        self,
        shapes: Any,
        *,
        temperature: float = 1.0,
        levels: Sequence[float] = LEVELS,
        draws: int = 1,
        seed: int | None = 0,
        batch_size: int = 32,
    ) -> np.ndarray:
        """p(c | X) of each shape by Bayes' rule, all categories being as likely before.

        p(c | X) ∝ exp(log P(X | c) / temperature), with `log_likelihood` of each category: the
        energies as a classifier (Grathwohl et al., 2020), by denoising (Li et al., "Your diffusion
        model is secretly a zero-shot classifier", 2023).

        Args:
            shapes: occupancy 0 and 1, `[n, D, H, W]`.
            temperature: 1 is Bayes' rule; the higher, the less sure. Where many voxels are a
                little wrong together, a network is surer than it should be.
            levels: as in `log_likelihood`.
            draws: likewise.
            seed: likewise.
            batch_size: likewise.

        Returns:
            float64 `[n, k]`, in the order of `classes`. It takes the time of k categories.

        Raises:
            ValueError: as `log_likelihood`; or when the temperature is not positive.
        """
        if not _is_finite(temperature) or temperature <= 0:
            raise ValueError(f"temperature must be positive and finite, but it is {temperature!r}.")
        how: dict[str, Any] = {"levels": levels, "draws": draws, "batch_size": batch_size}
        how["seed"] = seed_of(seed)
        evidence = [self.log_likelihood(shapes, category=name, **how) for name in self.classes]
        return softmax(np.stack(evidence, axis=1) / temperature, axis=1)

    def synthesize(
        self,
        num: int,
        *,
        category: Category | None = None,
        where: Any = None,
        strength: float = math.inf,
        guidance: float | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """New shapes, by annealed Langevin dynamics from fresh noise.

        With weights w of several categories, what is descended is the sum of their energies,
        E(Y) + Σ w_c (E(Y | c) - E(Y)), where E(Y) is that of no category; the odds that draw
        shapes are summed likewise. Guidance γ multiplies that sum by 1 + γ. What `where` tells of a
        voxel adds `strength`·`where` to its log odds at every step (`energy.composition`).

        Args:
            num: how many.
            category: of which category; or several with a weight each, as in
                `{"chair": 0.5, "sofa": 0.5}`: what both have in common, with weights that add up
                to 1. A negative weight turns away from a category:
                `{"chair": 1.5, "sofa": -0.5}`. All categories in turn where nothing is said, and
                the model is bound to none.
            where: of each voxel, -1 (empty), 1 (occupied) or 0 (free); `[D, H, W]`, or a grid for
                each shape, `[num, D, H, W]`.
            strength: by how much what `where` says changes the log odds of a voxel; infinite: it
                is so, without exception.
            guidance: γ, above the level `sampling.guidance_above`; the model's own,
                `sampling.guidance`, where it is not given.
            seed: the same seed gives the same shapes on the same backend and machine (elsewhere,
                rounding moves single voxels); None gives new ones.
            num_steps: levels, instead of the model's own `sampling.num_steps`.
            batch_size: shapes at a time; another size gives other shapes.
            progress: whether to show a progress bar with the time left.

        Returns:
            Occupancy in [0, 1], float32 `[num, D, H, W]`. Each further category takes the time of
            one.

        Raises:
            ValueError: when the model knows no such category, weights are not finite, `where` is
                no such grid, or another argument is out of range.
        """
        require_positive_integer("num", num)
        settings = self.sampling
        if guidance is not None:
            if not _is_finite(guidance) or guidance < 0:
                raise ValueError(f"guidance must be 0 or more and finite, but it is {guidance!r}.")
            settings = replace(settings, guidance=float(guidance))
        told = self._told(category, num)
        if where is not None:
            told["condition"] = with_told(told["condition"], self._log_odds(where, strength, num))
        elif strength != math.inf:
            raise ValueError(f"strength={strength!r} needs where, which says of which voxels.")
        how = seed, num_steps, batch_size, progress
        return self.to_occupancy(self.sampler.sample(num, settings, *how, **told))

    def _log_odds(self, where: Any, strength: float, num: int) -> np.ndarray:
        """What is told of the voxels of so many chains, `[num, D, H, W, 1]`."""
        if not _is_finite(strength) and strength != math.inf or not strength > 0:
            raise ValueError(f"strength must be more than 0, or infinite, but it is {strength!r}.")
        signs = np.asarray(where)
        if signs.shape not in (self.grid, (1, *self.grid), (num, *self.grid)):
            raise ValueError(
                f"where must be one grid {list(self.grid)}, the model's, or one for each of the "
                f"{num} shapes, but its shape is {list(signs.shape)}."
            )
        if signs.dtype.kind not in "iuf" or not np.isin(signs, (-1, 0, 1)).all():
            raise ValueError(
                "where must be -1 (empty), 0 (free) or 1 (occupied) of each voxel, but it is "
                f"{signs.dtype}{'' if signs.dtype.kind == 'b' else ' with other values'}; of what "
                "must be occupied alone, pass occupancy.astype(int)."
            )
        told = np.zeros(signs.shape, np.float32)
        told[signs != 0] = np.float32(strength) * signs[signs != 0]
        return np.broadcast_to(told[..., None], (num, *self.grid, 1))

    def watch(
        self, *, category: Category | None = None, seed: int | None = None
    ) -> Iterator[np.ndarray]:
        """Langevin dynamics as it forms one shape, step by step.

        Args:
            category: as in `synthesize`.
            seed: as in `synthesize`.

        Yields:
            Occupancy in [0, 1], float32 `[D, H, W]`: noise in which the shape appears. The last is
            what `synthesize(1)` gives.
        """
        told = self._told(category, 1)
        for positions in self.sampler.watch(self.sampling, seed, **told):
            [shape] = self.to_occupancy(positions)
            yield shape


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating)
    return is_number and not isinstance(value, bool) and math.isfinite(value)
