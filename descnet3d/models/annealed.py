"""A descriptor at every noise level, of several categories: E(Y | c, level)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.annealing import AnnealedSampler, draw_levels, signal_of
from descnet3d.energy.composition import Category, with_observation
from descnet3d.energy.conditional_energy import ConditionalEnergy, is_told_observations
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.settings import AnnealingSettings
from descnet3d.models.composed import ComposedModel
from descnet3d.models.conditional_network import (
    with_conditions,
    with_observations,
)
from descnet3d.models.denoising import DenoisingModel
from descnet3d.models.features import PooledResponses, Pooling, widest_layers
from descnet3d.models.latent_model import LatentModel
from descnet3d.shapes import warps
from descnet3d.shapes.occupancy import as_labels


@keras.saving.register_keras_serializable("descnet3d")
class AnnealedDescriptor(LatentModel, ComposedModel, DenoisingModel):
    """An energy of noisy shapes of several categories, E(Y | c, level) = ‖Y‖²/2s² - f.

    At a noise-to-signal level, s = (1 - g)·`reference_std` with g = 1 / (1 + level) is the standard
    deviation of the noise in Y. The shapes of a category are sampled by annealed Langevin dynamics
    from pure noise down to clean shapes (`energy.annealing`). Latents are the noise of a chain
    that gets no other after it: such chains lead from noise to shape, and back.

    Args:
        network: f; maps shapes `[n, D, H, W, 1]`, conditions `[n, c + 6]`, levels `[n, 1]` and,
            where it is told them, observations `[n, D, H, W, 2]` to `[n, 1]`, and has a layer
            `log_odds` that gives the voxels' odds `[n, D, H, W, 1]`, as
            `models.conditional_network.conditional` builds it.
        classes: the names of the categories.
        field: a network of the same kind, whose odds draw shapes; the network's own where None.
        voxel_mean: what is subtracted from occupancy.
        reference_std: half the distance of occupied and empty voxels.
        sampling: the schedule of `synthesize`.
        category: the category that the model is bound to; None where each call says it.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the network's inputs are others, or `category` is none of `classes`.
    """

    preset_class = "AnnealedDescriptor"

    def __init__(
        self,
        network: keras.Model,
        classes: Sequence[str],
        *,
        field: keras.Model | None = None,
        voxel_mean: float = 0.5,
        reference_std: float = 0.5,
        sampling: AnnealingSettings | None = None,
        category: str | None = None,
        seed: int = 0,
    ) -> None:
        self.classes = tuple(classes)
        self.category = category
        super().__init__(
            grid=tuple(network.inputs[0].shape[1:4]),
            voxel_mean=float(voxel_mean),
            seed=seed,
            name="annealed_descriptor",
        )
        self.network = network
        self.reference_std = float(reference_std)
        self.sampling = sampling or AnnealingSettings()
        self.num_latents = math.prod(self.grid)
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self._pooled = PooledResponses(network, self._network_inputs)
        self.condition_of(category, 1)
        self._draw_by(field)

    def _draw_by(self, field: keras.Model | None) -> None:
        """Take a field, and build the energy and its sampler."""
        self.field = field
        self.conditional = ConditionalEnergy(self.network, field, self.reference_std)
        self._compiled_energy = backend.compiled(self.conditional.energy_of, differentiable=True)
        self.cross_entropy = backend.compiled(self.conditional.cross_entropy)
        self._squared_error = backend.compiled(self.conditional.squared_error)
        draws = {
            "energy": self.conditional.drawn_by_energy,
            "odds": self.conditional.drawn_by_odds,
        }
        self.sampler = AnnealedSampler(draws, self.grid, self.reference_std, self.sampling_noise)

    def bound_to(self, category: str | None) -> Self:
        """The same model, with the same weights, for one category; None for all of them."""
        told = {**self.settings, "category": category, "seed": self.seed}
        bound = self.of_parts(self.parts, told)
        bound.preset = dict(self.preset)
        return bound

    def with_categories(self, names: Sequence[str], observing: bool = False) -> Self:
        """A model to train, which knows new categories as well, and draws what this one draws.

        It has one network, which begins as what draws this model's shapes; an energy is to be
        fitted to it again.

        Args:
            names: categories; a new one is told to the network by what the category that this
                model is bound to is told by, or by the mean of all, until it has learned.
            observing: whether the network is told what is observed of shapes.

        Raises:
            ValueError: when it shall be, and is a network of the user's own that is not.
        """
        new = [name for name in names if name not in self.classes]
        like = self.classes.index(self.category) if self.category else None
        network = with_conditions(self.field or self.network, len(self.classes), len(new), like)
        return type(self)(
            with_observations(network) if observing else network,
            (*self.classes, *new),
            voxel_mean=self.voxel_mean,
            reference_std=self.reference_std,
            sampling=self.sampling,
            seed=self.seed,
        )

    @property
    def pooling(self) -> Pooling:
        """What the last two blocks say of patches among their neighbours, at `feature_level`."""
        layers = widest_layers(self.network, seeing_neighbours=True)[-2:]
        return Pooling(layers, contractions=(1.0,))

    def _network_inputs(self, positions: Any) -> list[Any]:
        """Clean shapes on the path of the features' level, and no category."""
        count, level = ops.shape(positions)[0], self.sampling.feature_level
        condition = ops.zeros((count, len(self.classes) + warps.NUMBERS))
        inputs = [signal_of(level) * positions, condition, ops.full((count, 1), level)]
        if is_told_observations(self.network):
            inputs.append(ops.zeros((count, *self.grid, 2)))
        return inputs

    @property
    def is_told_observations(self) -> bool:
        """Whether what draws shapes is told what is observed of them, beside the projection."""
        return is_told_observations(self.field or self.network)

    @property
    def _revision(self) -> AnnealingSettings:
        """Given shapes are noised to a level at which what they are is decided, pieces and all."""
        level = self.sampling.revision_level
        return replace(self.sampling, first_level=level, whole_below=0.0)

    def _reconstruction(
        self, constraint: Constraint, told: dict[str, Any], sampled: bool
    ) -> tuple[AnnealingSettings, dict[str, Any]]:
        """A network that is told observations is told what is known, and needs fewer levels."""
        if not self.is_told_observations:
            return super()._reconstruction(constraint, told, sampled)
        observation = ops.convert_to_numpy(constraint.observation(self.grid))
        condition = with_observation(told["condition"], observation)
        return self.sampling.reconstructing(sampled), {"condition": condition}

    # --- Latents -----------------------------------------------------------------------------

    @property
    def encoding_steps(self) -> int:
        """As many as there are levels."""
        return self.sampling.num_steps

    @property
    def _led_by_first_noise(self) -> AnnealingSettings:
        """Chains without any noise but the first: the same noise, the same shape."""
        return replace(
            self.sampling,
            fresh_noise=0.0,
            settle_level=0.0,
            whole_below=0.0,
            random_above=math.inf,
        )

    def _shapes_of(
        self, latents: np.ndarray, category: Category | None, drawn: bool, progress: bool
    ) -> np.ndarray:
        told = self._told(category, len(latents), known=not drawn)
        noise = latents.reshape(-1, *self.grid, 1)
        return self.to_occupancy(
            self.sampler.sample(
                len(noise), self._led_by_first_noise, noise=noise, progress=progress, **told
            )
        )

    def _latents_of(
        self, shapes: np.ndarray, num_steps: int, category: Category | None
    ) -> np.ndarray:
        told = self._told(category, len(shapes), known=True)
        positions = ops.convert_to_numpy(self.to_model_space(shapes))
        settings = self._led_by_first_noise.with_steps(num_steps)
        return self.sampler.noise_of(positions, settings, **told).reshape(len(shapes), -1)

    def _summed(self, latents: np.ndarray) -> np.ndarray:
        """As long as noise is."""
        return latents * (math.sqrt(len(latents)) / max(float(np.linalg.norm(latents)), 1e-12))

    # --- Training ----------------------------------------------------------------------------

    def _begin_learning(self, learns: str) -> None:
        """A field for an energy to be fitted to; or an energy to be fitted again to what learns."""
        if learns == "energy" and self.field is None:
            field = keras.models.clone_model(self.network)
            field.set_weights(self.network.get_weights())
            self._draw_by(field)
        elif self.field is not None and learns == "odds":
            # Its network may be another one than the energy's, which is to be fitted to it again.
            self.network.trainable = False
            self.network = self.field
            self.network.trainable = True
            self._pooled = PooledResponses(self.network, self._network_inputs)
            self._draw_by(None)
        if self.field is not None:
            self.field.trainable = False

    def _labels_of(self, y: Any, count: int) -> np.ndarray:
        if y is None and self.category is None:
            raise ValueError("y missing: give one label a shape, an index into model.classes.")
        if y is None:
            y = np.full(count, self.classes.index(self.category))
        return as_labels(y, count, len(self.classes), "y")

    def _varied(self, mirror_axes: Any) -> dict[str, Any]:
        """Warped, and mirrored as each shape's category may be."""
        if isinstance(mirror_axes, Mapping):
            mirror_axes = {
                self.classes.index(name): axes
                for name, axes in mirror_axes.items()
                if name in self.classes
            }
        told = {"warped": self.denoising.warped, "observed": self.denoising.observed}
        return {"mirror_axes": mirror_axes, **told}

    def _noised(
        self, data: Any, noise: keras.random.SeedGenerator, untold: float
    ) -> tuple[Any, Any, Any, Any]:
        """Positions on the paths of a batch, their conditions and levels, and the occupancy."""
        shapes, labels = self.unpacked(data)
        told: dict[str, Any] = {}
        if isinstance(shapes, dict):
            told, shapes = shapes, shapes["occupancy"]
        observed = self.observed_of(shapes)
        count = ops.shape(observed)[0]
        if labels is None:
            category = ops.broadcast_to(
                self.condition_of(None, 1)[:, : len(self.classes)], (count, len(self.classes))
            )
        else:
            category = ops.one_hot(ops.cast(labels, "int32"), len(self.classes), dtype="float32")
        is_told = keras.random.uniform((count, 1), seed=noise) >= untold
        category = category * ops.cast(is_told, "float32")
        warp: Any = told.get("warps")
        warp = ops.zeros((count, warps.NUMBERS)) if warp is None else ops.cast(warp, "float32")
        condition = ops.concatenate([category, warp], axis=1)
        if told.get("observation") is not None:
            condition = with_observation(condition, self._in_model_space(told["observation"]))
        level = draw_levels(self.denoising, count, noise)
        positions = self.conditional.noised(observed, level, noise)
        return positions, condition, level, observed + self.voxel_mean

    def _in_model_space(self, observation: Any) -> Any:
        """What is observed as occupancy, as constraints tell it."""
        values, fineness = ops.split(ops.cast(observation, "float32"), 2, axis=-1)
        values = ops.where(fineness > 0, values - self.voxel_mean, 0.0)
        return ops.concatenate([values, fineness], axis=-1)

    # --- Saving ------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        return {"network": self.network, **({"field": self.field} if self.field else {})}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            "classes": list(self.classes),
            "category": self.category,
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
        }

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of these networks and settings."""
        return cls(
            parts["network"],
            settings["classes"],
            field=parts.get("field"),
            voxel_mean=settings["voxel_mean"],
            reference_std=settings["reference_std"],
            sampling=AnnealingSettings(**settings["sampling"]),
            category=settings["category"],
            seed=settings.get("seed", 0),
        )
