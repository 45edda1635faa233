"""The matching of an energy's gradient, by which it learns without Langevin dynamics.

The objective of `EquilibriumMatching` is that of Wang and Du (2025) and of the first phase of
Energy Matching (Balcerak et al., 2025), on the energy of the descriptor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.settings import EquilibriumMatching


def gradient_size(matching: EquilibriumMatching, gamma: Any) -> Any:
    """c(γ), for γ of any shape."""
    return matching.scale * ops.minimum(1.0, (1.0 - gamma) / (1.0 - matching.fade_from))


def matching_loss(
    matching: EquilibriumMatching,
    energy: Callable[[Any], Any],
    observed: Any,
    reference_std: float,
    seed_generator: keras.random.SeedGenerator,
    constraint: Constraint | None = None,
) -> Any:
    """The matching loss of a batch, a scalar.

    Args:
        matching: its settings.
        energy: E, maps `[n, D, H, W, 1]` in model space to `[n]`.
        observed: Y, `[n, D, H, W, 1]` in model space.
        reference_std: s, the standard deviation of the noise at the paths' other end.
        seed_generator: where γ and ε come from.
        constraint: what a task holds of the shapes.
    """
    observed = ops.convert_to_tensor(observed, "float32")
    shape = ops.shape(observed)
    gamma = keras.random.uniform((shape[0], 1, 1, 1, 1), seed=seed_generator)
    noise = reference_std * keras.random.normal(shape, seed=seed_generator)
    if matching.least_noise < 1:
        size = keras.random.uniform(
            (shape[0], 1, 1, 1, 1), matching.least_noise, 1.0, seed=seed_generator
        )
        noise = size * noise
    if constraint is not None:
        noise = constraint.project(noise)
    on_path = gamma * observed + (1.0 - gamma) * noise
    _, gradient = backend.value_and_input_gradient(energy, on_path, differentiable=True)
    target = gradient_size(matching, gamma) * (noise - observed) / reference_std
    if constraint is not None:
        gradient = constraint.free(gradient)
    return ops.mean(ops.square(reference_std * gradient - target))
