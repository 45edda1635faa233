"""Latents Z of a generator: drawn, joined by paths, and inferred from shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from scipy import optimize

from descnet3d.energy import backend

PATHS = ("spherical", "linear")


def draw(num: int, length: int, seed: int | None = None) -> np.ndarray:
    """Latents from the prior N(0, I), float32 `[num, length]`: the same on every machine."""
    return np.random.default_rng(seed).standard_normal((num, length), dtype=np.float32)


def as_latents(values: Any, length: int, name: str = "latents") -> np.ndarray:
    """A user's latents, float32 `[n, length]`, or a ValueError that says what they are instead."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, but they are {array.dtype}.")
    array = array.astype(np.float32)
    if array.ndim != 2 or not len(array) or array.shape[1] != length:
        raise ValueError(
            f"{name} must have the shape [n, {length}], but they have {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but some are not.")
    return array


def path(a: np.ndarray, b: np.ndarray, steps: int, kind: str = "spherical") -> np.ndarray:
    """Latents on the way from one to another, both included.

    Args:
        a: where it begins, `[d]`.
        b: where it ends, `[d]`.
        steps: how many, at least 2.
        kind: "spherical": along the great circle, with the length changing evenly, so that latents
            stay as long as the prior's are (Shoemake, 1985); "linear": along the straight line.

    Returns:
        float32 `[steps, d]`.

    Raises:
        ValueError: when `steps` or `kind` is none of these.
    """
    if not isinstance(steps, int | np.integer) or steps < 2:
        raise ValueError(
            f"steps must be an integer of at least 2, both ends included, but it is {steps!r}."
        )
    if kind not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, but it is {kind!r}.")
    share = np.linspace(0.0, 1.0, steps)[:, None]
    first, last = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths: Any = np.linalg.norm([first, last], axis=1)
    cosine = first @ last / max(lengths[0] * lengths[1], 1e-12)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    # From 0, and between opposite ends, no great circle leads.
    if kind == "linear" or not all(lengths) or np.sin(angle) < 1e-6:
        return ((1 - share) * first + share * last).astype(np.float32)
    directions = np.sin((1 - share) * angle) * (first / lengths[0])
    directions += np.sin(share * angle) * (last / lengths[1])
    length = (1 - share) * lengths[0] + share * lengths[1]
    return (length * directions / np.sin(angle)).astype(np.float32)


def negative_log_posterior(
    generator: Callable[[Any], Any], latents: Any, targets: Any, generator_std: Any
) -> Any:
    """‖Y - g(Z)‖²/2σ² + ‖Z‖²/2 of each pair, `[n]`: -log p(Z | Y) up to a constant.

    Args:
        generator: g, maps `[n, d]` to `[n, D, H, W, 1]`.
        latents: Z, `[n, d]`.
        targets: Y, `[n, D, H, W, 1]` in model space.
        generator_std: σ.
    """
    error = ops.sum(ops.square(targets - generator(latents)), axis=(1, 2, 3, 4))
    return error / (2 * generator_std**2) + ops.sum(ops.square(latents), axis=1) / 2


class LatentInference:
    """Finds the latents whose shapes come nearest to given ones, as the posterior p(Z | Y) has it.

    Minimises `negative_log_posterior` by L-BFGS, from Z = 0.

    Args:
        generator: g, maps `[n, d]` to `[n, D, H, W, 1]`.
        length: d.
        generator_std: σ.
    """

    def __init__(self, generator: Callable[[Any], Any], length: int, generator_std: float) -> None:
        self.length = length

        def value_and_gradient(latents: Any, targets: Any) -> tuple[Any, Any]:
            def value(latents: Any) -> Any:
                return negative_log_posterior(generator, latents, targets, generator_std)

            return backend.value_and_input_gradient(value, latents)

        self._compiled = backend.compiled(value_and_gradient)

    def __call__(self, targets: np.ndarray, num_steps: int) -> np.ndarray:
        """The latents of shapes.

        Args:
            targets: Y, `[n, D, H, W, 1]` in model space.
            num_steps: iterations of L-BFGS at most.

        Returns:
            float32 `[n, d]`.
        """
        observed = ops.convert_to_tensor(targets)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            latents = flat.reshape(-1, self.length).astype(np.float32)
            values, gradient = self._compiled(ops.convert_to_tensor(latents), observed)
            return (
                float(ops.convert_to_numpy(values).astype(np.float64).sum()),
                ops.convert_to_numpy(gradient).astype(np.float64).ravel(),
            )

        start = np.zeros(len(targets) * self.length)
        options = {"maxiter": num_steps}
        found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        return found.x.reshape(-1, self.length).astype(np.float32)
