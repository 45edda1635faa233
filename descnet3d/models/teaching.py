"""How a generator learns: by regression on what Langevin dynamics has made of its shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from descnet3d.energy import latents
from descnet3d.energy.langevin import langevin_dynamics
from descnet3d.energy.settings import LangevinSettings
from descnet3d.fields import Settings
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.latent_space import LatentSpace


@dataclass(frozen=True)
class Teaching(Settings):
    """How a generator learns from what Langevin dynamics has made of its shapes.

    Attributes:
        inference: Langevin dynamics by which latents are inferred anew from the revised shapes
            before the regression; None regresses on the latents that they came from.
        anchor: the autoencoder that the generator is part of, whose loss on the shapes observed is
            kept beside the regression, with its encoder trained along. Without it nothing but the
            descriptor holds the generator to the data.
    """

    inference: LangevinSettings | None = None
    anchor: Autoencoder | None = None

    def loss(
        self,
        space: LatentSpace,
        drawn: Any,
        revised: Any,
        observed: Any,
        noise: keras.random.SeedGenerator,
    ) -> tuple[Any, Any]:
        """‖Ỹ - g(Z)‖²/2σ², with the anchor's loss; and the squared error of a voxel.

        Args:
            space: the generator's.
            drawn: Z, `[n, d]`.
            revised: Ỹ, `[n, D, H, W, 1]` in model space.
            observed: the shapes that the anchor holds to, `[m, D, H, W, 1]` in model space.
            noise: where the anchor's random numbers come from.
        """
        difference = revised - space.generator_of(drawn, training=True)
        error = ops.sum(ops.square(difference), axis=(1, 2, 3, 4))
        loss = ops.mean(error) / (2 * space.generator_std**2)
        if self.anchor is not None:
            loss += self.anchor.loss_of(observed, noise)[0]
        for penalty in space.generator.losses:
            loss += ops.cast(penalty, "float32")
        return loss, ops.stop_gradient(ops.mean(ops.square(difference)))

    def latents_of(
        self, space: LatentSpace, start: Any, revised: Any, noise: keras.random.SeedGenerator
    ) -> Any:
        """Latents by Langevin dynamics on p(Z | Ỹ), from those that Ỹ came from."""
        if self.inference is None:
            return start

        def energy(positions: Any) -> Any:
            return latents.negative_log_posterior(
                lambda z: space.generator_of(z, training=False),
                positions,
                revised,
                space.generator_std,
            )

        inferred, _ = langevin_dynamics(
            energy,
            start,
            num_steps=self.inference.num_steps,
            step_size=self.inference.step_size,
            temperature=self.inference.temperature,
            seed_generator=noise,
        )
        return inferred
