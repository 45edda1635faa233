"""The log likelihood of shapes, of how well they are drawn from noisy ones.

With the voxels of a shape X at ±1, and X̂(Y, level) the mean of the shapes that a noisy one may come
from, a distribution P of shapes gives X the log likelihood

    log P(X) = -∫ E‖X - X̂(Y, level)‖² / level² d(log level),

where the mean is over the noise in Y: 1/level² is the signal-to-noise ratio of the path, and half
the error is what the likelihood loses as it grows (Guo, Shamai and Verdú, IEEE Trans. Inf. Theory
2005; for single shapes Kong, Brekelmans and Ver Steeg, ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy.annealing import signal_of


def as_levels(levels: Sequence[float]) -> np.ndarray:
    """Noise levels that an integral runs over, rising.

    Raises:
        ValueError: when there are fewer than two, or they are not positive and different.
    """
    found = np.sort(np.asarray(levels, np.float64).ravel())
    if len(found) < 2 or not np.isfinite(found).all() or not (np.diff(found, prepend=0) > 0).all():
        raise ValueError(
            f"levels must be two or more different positive numbers, but they are {levels!r}."
        )
    return found


def level_measure(levels: np.ndarray) -> np.ndarray:
    """What the error at each of rising levels is multiplied by, and summed, for the integral.

    Between the levels that is the trapezoidal rule in log level; above the last one the error stays
    what it is there. Below the first one it is taken for zero.
    """
    gaps = np.diff(np.log(levels))
    widths = 0.5 * (np.append(gaps, 0.0) + np.insert(gaps, 0, 0.0))
    measure = widths / levels**2
    measure[-1] += 0.5 / levels[-1] ** 2
    return measure


def log_likelihoods(
    squared_error: Callable[[Any, Any, Any], Any],
    shapes: np.ndarray,
    reference_std: float,
    levels: Sequence[float],
    draws: int = 1,
    seed: int | None = 0,
    batch_size: int = 32,
) -> np.ndarray:
    """The log likelihood log P(X) of shapes, in nats.

    A shape's noise depends on the seed and on its row alone, so that distributions are compared by
    the same.

    Args:
        squared_error: maps noisy positions, the shapes (both `[n, D, H, W, 1]`) and levels `[n, 1]`
            to ‖X - X̂‖² in units of `reference_std`, `[n]`.
        shapes: clean, in model space, `[n, D, H, W, 1]`.
        reference_std: half the distance of occupied and empty voxels.
        levels: over which the integral is taken.
        draws: how often the noise is drawn.
        seed: of the noise; None for a new one.
        batch_size: shapes at a time.

    Returns:
        float64 `[n]`.

    Raises:
        ValueError: when `levels`, `draws`, `seed` or `batch_size` is out of range.
    """
    require_positive_integer("draws", draws)
    require_positive_integer("batch_size", batch_size)
    rising, seed = as_levels(levels), seed_of(seed)
    found = np.zeros(len(shapes))
    for start in range(0, len(shapes), batch_size):
        rows = range(start, min(start + batch_size, len(shapes)))
        clean = np.asarray(shapes[start : rows.stop], np.float32)
        target = ops.convert_to_tensor(clean)
        noise = [np.random.default_rng((seed, row)) for row in rows]
        for level, weight in zip(rising, level_measure(rising), strict=True):
            signal = signal_of(level)
            told = ops.full((len(rows), 1), level, "float32")
            for _ in range(draws):
                drawn = np.stack([each.standard_normal(clean.shape[1:], "f4") for each in noise])
                noisy = signal * clean + (1.0 - signal) * reference_std * drawn
                error = squared_error(ops.convert_to_tensor(noisy, "float32"), target, told)
                found[start : rows.stop] -= weight / draws * ops.convert_to_numpy(error)
    return found
