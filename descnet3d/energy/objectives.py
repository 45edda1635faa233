"""What an energy learns by: maximum likelihood, and the matching of its gradient.

The objective of `EquilibriumMatching` is that of Wang and Du (2025) and of the first phase of
Energy Matching (Balcerak et al., 2025), on the energy of the descriptor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.chains import ChainSettings
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.langevin import LangevinSettings


@dataclass(frozen=True)
class MaximumLikelihood:
    """Maximum likelihood by Langevin dynamics: mode seeking, then mode shifting (eq. 4).

    Attributes:
        weight: what the ascent on mean f(Y) - mean f(Ỹ) is multiplied by.
        langevin: the mode seeking of one iteration.
        chains: where it starts.
        noise_until_epoch: the first epoch without Langevin noise; None keeps the noise.
    """

    weight: float = 1.0
    langevin: LangevinSettings = LangevinSettings()
    chains: ChainSettings = ChainSettings()
    noise_until_epoch: int | None = None


@dataclass(frozen=True)
class EquilibriumMatching:
    """Matches ∂E/∂Y to the direction from data to noise, fading out where the data are.

    With Y_γ = γY + (1 - γ)ε, ε ~ N(0, s²) and γ uniform in [0, 1], the loss is the mean over the
    voxels of ‖s·∂E/∂Y(Y_γ) - c(γ)(ε - Y)/s‖², where c(γ) = scale·min(1, (1 - γ)/(1 - fade_from)).
    Descending E from noise then follows the paths to the data and stops there, so an energy is
    learned with no Langevin dynamics in the loop. Where a task holds something of the shapes, paths
    begin at noise that it holds for too, and only the gradient along what is free is matched.

    Attributes:
        weight: what the loss is multiplied by, beside maximum likelihood.
        scale: the gradient's size along the path, λ.
        fade_from: the γ from which the gradient fades to 0.
        least_noise: each path's noise has a size uniform in [least_noise, 1]·s.
    """

    weight: float = 1.0
    scale: float = 4.0
    fade_from: float = 0.8
    least_noise: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, but it is {self.scale!r}.")
        if not 0 <= self.fade_from < 1:
            raise ValueError(f"fade_from must be in [0, 1), but it is {self.fade_from!r}.")
        if not 0 <= self.least_noise <= 1:
            raise ValueError(f"least_noise must be in [0, 1], but it is {self.least_noise!r}.")

    def gradient_size(self, gamma: Any) -> Any:
        """c(γ), for γ of any shape."""
        return self.scale * ops.minimum(1.0, (1.0 - gamma) / (1.0 - self.fade_from))

    def loss(
        self,
        energy: Callable[[Any], Any],
        observed: Any,
        reference_std: float,
        seed_generator: keras.random.SeedGenerator,
        constraint: Constraint | None = None,
    ) -> Any:
        """The matching loss of a batch, a scalar.

        Args:
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
        if self.least_noise < 1:
            size = keras.random.uniform(
                (shape[0], 1, 1, 1, 1), self.least_noise, 1.0, seed=seed_generator
            )
            noise = size * noise
        if constraint is not None:
            noise = constraint.project(noise)
        on_path = gamma * observed + (1.0 - gamma) * noise
        _, gradient = backend.value_and_input_gradient(energy, on_path, differentiable=True)
        target = self.gradient_size(gamma) * (noise - observed) / reference_std
        if constraint is not None:
            gradient = constraint.free(gradient)
        return ops.mean(ops.square(reference_std * gradient - target))
