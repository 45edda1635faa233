"""Cooperative training: the descriptor teaches a generator, which starts the descriptor's chains.

Section 5 of Xie et al., CVPR 2018; the algorithm is that of Xie, Lu, Gao, Zhu and Wu, *Cooperative
Training of Descriptor and Generator Networks*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.composition import Category
from descnet3d.energy.settings import (
    ChainSettings,
    EquilibriumMatching,
    LangevinSettings,
    MaximumLikelihood,
)
from descnet3d.energy.tasks import Condition
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.keras_model import Optimized
from descnet3d.models.latent_model import LatentModel
from descnet3d.models.latent_space import LatentSpace
from descnet3d.models.learning import default_objectives
from descnet3d.models.teaching import Teaching


@keras.saving.register_keras_serializable("descnet3d")
class CooperativeNet(LatentModel, DescriptorNet):
    """A descriptor, and the generator Y = g(Z; α) + ε, Z ~ N(0, I), that it teaches.

    An iteration of training: shapes Ŷ = g(Z) of latents Z from the prior; l Langevin steps of the
    descriptor from there, to Ỹ (mode seeking); the descriptor's update by the shapes observed and
    by Ỹ (eq. 4, mode shifting); and the generator's regression of Ỹ on Z, which takes in what the
    Langevin steps have done (learning from mode seeking). The Langevin steps start from what the
    generator made contracted towards grey, so that its details are decided anew.

    It is a descriptor still: its `energy`, `recover` and all else are those of the network that it
    shares with the descriptor it was made of, and `sampling` is that descriptor's. `generate` is
    the generator alone; `synthesize` is ancestral sampling and its revision by Langevin dynamics.

    What `fit` measures, beside what a descriptor's measures: `energy_generated` and
    `energy_revised` (mean E before and after the revision: a gap that closes says that the
    generator has caught up), `revision` (the root mean square that a voxel is changed by),
    `regression_error` (the mean of (Ỹ - g(Z))² over the voxels, before the update) and `diversity`
    (the standard deviation of a voxel over a batch of the generator's shapes: where it falls to 0,
    the generator has collapsed).

    Args:
        descriptor: the teacher, new or trained; its network is shared, not copied.
        generator: g(Z; α), a Keras model that maps `[n, d]` to positions `[n, D, H, W, 1]` in
            the descriptor's model space.
        generator_std: σ, the standard deviation of ε.
        revision: the Langevin dynamics that revises what the generator makes, contracted first;
            None stands for 30 steps of the descriptor's step size and temperature.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the generator's inputs or outputs don't fit.
    """

    preset_class = "CooperativeNet"
    chain_starts = ("generator",)

    def __init__(
        self,
        descriptor: DescriptorNet,
        generator: keras.Model,
        *,
        generator_std: float = 0.5,
        revision: LangevinSettings | None = None,
        seed: int = 0,
    ) -> None:
        space = LatentSpace(generator, descriptor.grid, generator_std)
        super().__init__(
            descriptor.network,
            voxel_mean=descriptor.voxel_mean,
            reference_std=descriptor.reference_std,
            sampling=descriptor.sampling,
            seed=seed,
        )
        own = descriptor.sampling
        self.revision = revision or LangevinSettings(30, own.step_size, own.temperature, 0.0)
        # The teacher's id and figures are not this model's.
        kept = {
            key: descriptor.preset[key] for key in ("category", "recipe") & descriptor.preset.keys()
        }
        self.preset = {"task": "cooperative", **kept} if kept else {}
        self.space = space
        self.generator = generator
        self.generator_std = space.generator_std
        self.num_latents = space.length

    @property
    def parts(self) -> dict[str, keras.Model]:
        """Both networks, by the names that a preset gives them."""
        return {**super().parts, "generator": self.generator}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            **super().settings,
            "revision": asdict(self.revision),
            "generator_std": self.generator_std,
        }

    @property
    def _revision(self) -> LangevinSettings:
        return self.revision

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of these networks and settings."""
        return cls(
            DescriptorNet.of_parts(parts, settings),
            parts["generator"],
            generator_std=settings["generator_std"],
            revision=LangevinSettings(**settings["revision"]),
            seed=settings.get("seed", 0),
        )

    # --- Training ----------------------------------------------------------------------------

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What `optimizer` moves, the descriptor's; the generator has an optimizer of its own."""
        return self.network.trainable_variables

    trainable_weights = trainable_variables

    @property
    def optimized(self) -> dict[str, Optimized]:
        """Both optimizers by name, each with the variables that it moves."""
        moved = (self.generator_optimizer, self._taught)
        return {**super().optimized, "generator_optimizer": moved}

    @property
    def _taught(self) -> list[keras.Variable]:
        """What the generator's optimizer moves."""
        anchor = self.teaching.anchor
        encoder = anchor.encoder.trainable_variables if anchor is not None else []
        return [*self.generator.trainable_variables, *encoder]

    @property
    def state_groups(self) -> dict[str, Any]:
        """The variables that a resumed run needs, in groups by name."""
        anchor = self.teaching.anchor
        encoder = anchor.encoder.variables if anchor is not None else []
        return {**super().state_groups, "encoder": encoder}

    def compile(
        self,
        optimizer: Any = None,
        *,
        generator_optimizer: Any = None,
        likelihood: MaximumLikelihood | None = None,
        matching: EquilibriumMatching | None = None,
        task: Condition | None = None,
        teaching: Teaching | None = None,
        **keras_arguments: Any,
    ) -> None:
        """Choose the objectives and both optimizers.

        Args:
            optimizer: the descriptor's. None stands for Adam(3e-5, β₁ = 0.5) with averaged weights
                and clipped gradients.
            generator_optimizer: the generator's. None stands for Adam(3e-4) with averaged weights.
            likelihood: the descriptor's maximum likelihood; `chains.per_step` shapes of the
                generator are revised an iteration, by `langevin`. The default has the weight 0.01
                where a matching loss is kept beside it, else 1.
            matching: the matching loss that is kept beside it; where neither is given, that of the
                preset that the descriptor was loaded from, if it was trained so.
            task: None; cooperative training synthesises.
            teaching: how the generator learns from the revised shapes; with no anchor by default.
            keras_arguments: passed on to `keras.Model.compile`.

        Raises:
            ValueError: when a task is given, a likelihood whose chains start elsewhere, or an
                anchor of another generator.
        """
        if task is not None:
            raise ValueError(f"task must be None in cooperative training, but it is {task!r}.")
        if likelihood is None:
            matching = matching or default_objectives(self.preset)[1]
            likelihood = MaximumLikelihood(
                weight=0.01 if matching else 1.0,
                langevin=replace(self.revision, num_steps=20),
                chains=ChainSettings("generator", per_step=16),
            )
        teaching = teaching or Teaching()
        if teaching.anchor is not None and teaching.anchor.generator is not self.generator:
            raise ValueError(
                "teaching.anchor must be an autoencoder of this model's own generator."
            )
        optimizer = optimizer or keras.optimizers.Adam(
            3e-5, beta_1=0.5, use_ema=True, ema_momentum=0.99, global_clipnorm=1.0
        )
        self.teaching = teaching
        super().compile(optimizer, likelihood=likelihood, matching=matching, **keras_arguments)
        names = ("energy_generated", "energy_revised", "revision", "regression_error", "diversity")
        self.trackers |= {name: keras.metrics.Mean(name=name) for name in names}
        generator_optimizer = generator_optimizer or keras.optimizers.Adam(
            3e-4, use_ema=True, ema_momentum=0.99
        )
        self.generator_optimizer = self._scaling(generator_optimizer)
        self.generator_optimizer.build(self._taught)

    @property
    def objectives(self) -> dict[str, Any]:
        """What both networks learn by."""
        taught = {"generator_optimizer": self.generator_optimizer, "teaching": self.teaching}
        return {**super().objectives, **taught}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model as the one was that gave the configuration."""
        config = self._compile_arguments(config)
        saved = config["teaching"].anchor
        if saved is not None:  # the encoder of a copy of the generator
            parts = {**saved.parts, "generator": self.generator}
            anchor = Autoencoder.of_parts(parts, {**saved.settings, "seed": saved.seed})
            config["teaching"] = replace(config["teaching"], anchor=anchor)
        self.compile(**config)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One iteration of the algorithm, line by line."""
        observed, _ = self.learning.observed(data)
        # 1. Ancestral sampling.
        assert self.likelihood is not None  # compile sees to it
        settings, count = self.likelihood.langevin, self.likelihood.chains.per_step
        latents = keras.random.normal((count, self.num_latents), seed=self.training_noise)
        generated = ops.stop_gradient(self.space.generator_of(latents, training=False))
        # 2. Mode seeking: l Langevin steps from there.
        initial = settings.contraction * generated
        revised, measured = self.learning.seek_modes(settings, initial, observed)
        # 3. Mode shifting: the descriptor's update.
        energy_generated = ops.mean(self.energy_of(generated))
        measured |= self.learning.shift_modes(observed, revised)
        reference = ops.mean(self.reference_energy_of(revised))
        measured["energy_revised"] = reference - measured["score_synthesized"]
        measured["energy_generated"] = ops.stop_gradient(energy_generated)
        # 4. Learning from mode seeking: the generator's regression.
        latents = self.teaching.latents_of(self.space, latents, revised, self.training_noise)
        measured["regression_error"] = self._teach(latents, revised, observed)
        measured["revision"] = ops.sqrt(ops.mean(ops.square(revised - generated)))
        measured["diversity"] = ops.sqrt(ops.mean(ops.var(generated, axis=0)))
        return self._track(measured, observed)

    def _teach(self, latents: Any, revised: Any, observed: Any) -> Any:
        """One step of the regression of Ỹ on Z; the error before it."""
        return backend.descend(
            lambda: self.teaching.loss(self.space, latents, revised, observed, self.training_noise),
            self.generator_optimizer,
            self._taught,
        )

    # --- What users ask of it ----------------------------------------------------------------

    encoding_steps = 100

    def _shapes_of(
        self, latents: np.ndarray, category: Category | None, drawn: bool, progress: bool
    ) -> np.ndarray:
        """The generator's, in one pass."""
        self._told(category, len(latents))
        return self.to_occupancy(self.space.positions_of(latents))

    def _latents_of(
        self, shapes: np.ndarray, num_steps: int, category: Category | None
    ) -> np.ndarray:
        """The mode of p(Z | Y): ‖Y - g(Z)‖²/2σ² + ‖Z‖²/2, minimised by L-BFGS from Z = 0."""
        self._told(category, len(shapes))
        targets = ops.convert_to_numpy(self.to_model_space(shapes))
        return self.space.latents_of(targets, num_steps)

    def synthesize(
        self,
        num: int,
        *,
        category: Category | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """New shapes: the generator's, revised by Langevin dynamics of the descriptor.

        Args:
            num: how many.
            category: a generator knows none.
            seed: the same seed gives the same latents everywhere, and the same shapes on the same
                backend and machine; None gives new ones.
            num_steps: Langevin steps, instead of the model's own `revision.num_steps`.
            batch_size: shapes at a time.
            progress: whether to show a progress bar with the time left.

        Returns:
            Occupancy in [0, 1], float32 `[num, D, H, W]`.

        Raises:
            ValueError: when an argument is out of range.
            DivergenceError: when the dynamics run off.
        """
        generated = self.generate(num, seed=seed)
        return self.revise(
            generated,
            category=category,
            seed=seed,
            num_steps=num_steps,
            batch_size=batch_size,
            progress=progress,
        )
