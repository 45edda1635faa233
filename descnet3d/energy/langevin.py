"""Langevin dynamics: one pure step, and the loop that repeats it (eq. 3 of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from descnet3d.energy import backend


class LangevinDiagnostics(NamedTuple):
    """What a run of Langevin dynamics looked like; each `[num_steps]`, a mean over the chains.

    Attributes:
        energy: E(Y) before each step.
        gradient_norm: ‖∂E/∂Y‖ before each step.
        step_change: ‖Y' - Y‖ of each step, the projection included.
    """

    energy: Any
    gradient_norm: Any
    step_change: Any


def langevin_step(
    positions: Any,
    gradient: Any,
    step_size: Any,
    noise: Any | None = None,
    projection: Callable[[Any], Any] | None = None,
) -> Any:
    """One step, Y ← Y - ½·step_size²·∂E/∂Y + step_size·noise (eq. 3), then the projection.

    Args:
        positions: Y, float32 `[n, ...]`.
        gradient: ∂E/∂Y, of the same shape.
        step_size: √Δτ, a scalar.
        noise: ε (scaled by the root of the temperature), of the same shape; None for none.
        projection: maps positions to positions; what a constraint holds fixed is put back by it.

    Returns:
        The new positions.
    """
    moved = positions - 0.5 * step_size * step_size * gradient
    if noise is not None:
        moved = moved + step_size * noise
    return moved if projection is None else projection(moved)


def langevin_dynamics(
    energy: Callable[[Any], Any],
    initial: Any,
    *,
    num_steps: int,
    step_size: float,
    temperature: Any = 1.0,
    seed_generator: keras.random.SeedGenerator | None = None,
    projection: Callable[[Any], Any] | None = None,
) -> tuple[Any, LangevinDiagnostics]:
    """Repeat `langevin_step` from the given positions.

    Args:
        energy: E, maps positions `[n, ...]` to `[n]`.
        initial: where the chains start, float32 `[n, ...]`.
        num_steps: l, a Python integer.
        step_size: √Δτ.
        temperature: the noise's variance relative to eq. 3. The Python number 0 draws no noise;
            a tensor may change between runs without a new trace.
        seed_generator: where the noise comes from; needed unless the temperature is 0.
        projection: applied after every step.

    Returns:
        The last positions, and the `LangevinDiagnostics` of every step.

    Raises:
        ValueError: when there is noise to draw and no seed generator to draw it from.
    """
    noisy = not (isinstance(temperature, int | float) and temperature == 0)
    if noisy and seed_generator is None:
        raise ValueError("seed_generator is needed to draw noise: pass one, or temperature=0.")
    noise_scale = ops.sqrt(ops.cast(temperature, "float32")) if noisy else None

    def step(index: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        positions, measured = state
        energies, gradient = backend.value_and_input_gradient(energy, positions)
        noise = None
        if noisy:
            shape = ops.shape(positions)
            noise = noise_scale * keras.random.normal(shape, seed=seed_generator)
        moved = langevin_step(positions, gradient, step_size, noise, projection)
        now = ops.stack([ops.mean(energies), _mean_norm(gradient), _mean_norm(moved - positions)])
        row = ops.cast(ops.equal(ops.arange(num_steps), index), "float32")
        return moved, measured + ops.stop_gradient(row[:, None] * now[None, :])

    state = (ops.cast(initial, "float32"), ops.zeros((num_steps, 3)))
    positions, measured = ops.fori_loop(0, num_steps, step, state)
    diagnostics = LangevinDiagnostics(measured[:, 0], measured[:, 1], measured[:, 2])
    return ops.stop_gradient(positions), diagnostics


def _mean_norm(batch: Any) -> Any:
    rows = ops.reshape(batch, (ops.shape(batch)[0], -1))
    return ops.mean(ops.sqrt(ops.sum(rows * rows, axis=1)))
