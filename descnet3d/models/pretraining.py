"""Simulation-free pretraining of an energy: its gradient is matched along paths from noise to data.

The objective is that of Equilibrium Matching (Wang and Du, 2025) and of the first phase of Energy
Matching (Balcerak et al., 2025), on the energy of the descriptor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from descnet3d import backend


@dataclass(frozen=True)
class EquilibriumMatching:
    """Matches ∂E/∂Y to the direction from data to noise, fading out where the data are.

    With Y_γ = γY + (1 - γ)ε, ε ~ N(0, s²) and γ uniform in [0, 1], the loss is the mean over the
    voxels of ‖s·∂E/∂Y(Y_γ) - c(γ)(ε - Y)/s‖², where c(γ) = scale·min(1, (1 - γ)/(1 - fade_from)).
    Descending E from noise then follows the paths to the data and stops there, so an energy is
    learned with no Langevin dynamics in the loop.

    Attributes:
        weight: what the loss is multiplied by, beside maximum likelihood.
        scale: the gradient's size along the path, λ.
        fade_from: the γ from which the gradient fades to 0.
    """

    weight: float = 1.0
    scale: float = 4.0
    fade_from: float = 0.8

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, but it is {self.scale!r}.")
        if not 0 <= self.fade_from < 1:
            raise ValueError(f"fade_from must be in [0, 1), but it is {self.fade_from!r}.")

    def gradient_size(self, gamma: Any) -> Any:
        """c(γ), for γ of any shape."""
        return self.scale * ops.minimum(1.0, (1.0 - gamma) / (1.0 - self.fade_from))

    def loss(
        self,
        energy: Callable[[Any], Any],
        observed: Any,
        reference_std: float,
        seed_generator: keras.random.SeedGenerator,
    ) -> Any:
        """The matching loss of a batch, a scalar.

        Args:
            energy: E, maps ``[n, D, H, W, 1]`` in model space to ``[n]``.
            observed: Y, ``[n, D, H, W, 1]`` in model space.
            reference_std: s, the standard deviation of the noise at the paths' other end.
            seed_generator: where γ and ε come from.
        """
        observed = ops.convert_to_tensor(observed, "float32")
        shape = ops.shape(observed)
        gamma = keras.random.uniform((shape[0], 1, 1, 1, 1), seed=seed_generator)
        noise = reference_std * keras.random.normal(shape, seed=seed_generator)
        on_path = gamma * observed + (1.0 - gamma) * noise
        _, gradient = backend.value_and_input_gradient(energy, on_path, differentiable=True)
        target = self.gradient_size(gamma) * (noise - observed) / reference_std
        return ops.mean(ops.square(reference_std * gradient - target))
