"""The phases that a recipe is trained in: which model, with which objective, for how long."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d.energy.annealing import Denoising
from descnet3d.energy.chains import ChainSettings
from descnet3d.energy.conditions import task_of
from descnet3d.energy.langevin import LangevinSettings
from descnet3d.energy.objectives import EquilibriumMatching, MaximumLikelihood
from descnet3d.models import generators, networks
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.conditional_network import conditional
from descnet3d.models.cooperative import CooperativeNet, Teaching
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.shape_model import ShapeModel
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.shapes import warps
from descnet3d.shapes.occupancy import as_labels, as_occupancy
from descnet3d.training.recipes import Recipe


def _descriptor_plan(
    shapes: np.ndarray, recipe: Recipe, network: keras.Model | None
) -> tuple[DescriptorNet, list[Phase]]:
    """A descriptor, with its generator where it teaches one, and what it goes through."""
    network_is_new = network is None
    if network is None:
        keras.utils.set_random_seed(recipe.seed)
        network = networks.build(recipe.network, shapes.shape[1], recipe.reference_std)
    model: DescriptorNet = DescriptorNet(
        network,
        voxel_mean=float(shapes.mean()) if recipe.voxel_mean < 0 else recipe.voxel_mean,
        reference_std=recipe.reference_std,
        sampling=sampling_of(recipe),
        seed=recipe.seed,
    )
    as_occupancy(shapes[:1], "shapes", model.grid)
    if recipe.layers:
        choose_layers(network, recipe.layers)
    task_of(asdict(recipe))
    matching_of(recipe, 1.0)
    likelihood_of(recipe, 1, recipe.chains)
    if recipe.task == "cooperative" and network_is_new and not recipe.matching_steps:
        raise ValueError(
            "start must name a preset in cooperative training, or matching_steps be positive: an "
            "untrained descriptor has nothing to teach."
        )
    phases = descriptor_phases(model, recipe)
    if recipe.task == "cooperative":
        model, taught = generator_phases(model, recipe, shapes)
        phases += taught
    return model, phases


def choose_layers(network: keras.Model, chosen: str) -> None:
    """Lets only some layers of a network learn.

    Args:
        network: whose `trainable` is set, layer by layer.
        chosen: their names with commas between, `*` for any letters.

    Raises:
        ValueError: when a name is that of no layer with weights.
    """
    weighted = {layer.name: layer for layer in network.layers if layer.weights}
    patterns = [pattern.strip() for pattern in chosen.split(",") if pattern.strip()]
    for pattern in patterns:
        if not fnmatch.filter(weighted, pattern):
            raise ValueError(
                f"layers={pattern!r} is none of this network's, which are {', '.join(weighted)}."
            )
    for name, layer in weighted.items():
        layer.trainable = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _classifier_plan(
    shapes: np.ndarray, recipe: Recipe, labels: np.ndarray | None, classes: Sequence[str]
) -> tuple[SupervisedClassifier, list[Phase]]:
    """A supervised classifier, and what it goes through."""
    labels = require_labels(shapes, labels, classes)
    keras.utils.set_random_seed(recipe.seed)
    model = SupervisedClassifier(
        networks.classifier(shapes.shape[1], len(classes)),
        classes,
        voxel_mean=float(shapes.mean()) if recipe.voxel_mean < 0 else recipe.voxel_mean,
        seed=recipe.seed,
    )

    def by_labels(batches: int, epochs: int) -> ShapeModel:
        rate = _decaying(recipe.classifier_learning_rate, recipe, batches * epochs)
        model.compile(keras.optimizers.Adam(rate, **_optimizer_settings(recipe)))
        return model

    steps = recipe.classifier_steps
    return model, [Phase("classifier", steps, recipe.batch_size, by_labels, labels)]


def annealed_plan(
    shapes: np.ndarray,
    recipe: Recipe,
    labels: np.ndarray | None,
    classes: Sequence[str],
    start: AnnealedDescriptor | None,
) -> tuple[AnnealedDescriptor, list[Phase]]:
    """A descriptor at every noise level, of all categories of the shapes, and its two phases."""
    if labels is None:
        raise ValueError("labels are needed to train a model of categories, one a shape.")
    labels = as_labels(labels, len(shapes), len(classes))
    present = [classes[label] for label in np.unique(labels)]
    keras.utils.set_random_seed(recipe.seed)
    if start is None:
        conditions = len(present) + warps.NUMBERS
        network = conditional(shapes.shape[1], conditions=conditions)
        start = AnnealedDescriptor(network, present, seed=recipe.seed)
    model = start.with_categories(present).bound_to(present[0] if len(present) == 1 else None)
    own = np.array([model.classes.index(classes[label]) for label in labels])
    _require_grid(shapes, model)

    def learning(what: str) -> Callable[[int, int], ShapeModel]:
        def prepare(batches: int, epochs: int) -> ShapeModel:
            rate = _decaying(recipe.denoising_learning_rate, recipe, batches * epochs)
            optimizer = keras.optimizers.Adam(rate, beta_2=0.99, **_optimizer_settings(recipe))
            model.compile(optimizer, denoising=Denoising(what))
            return model

        return prepare

    model.field = None  # it is made anew of what the first phase comes to
    return model, [
        Phase("denoising", recipe.denoising_steps, recipe.batch_size, learning("odds"), own),
        Phase("gradient", recipe.gradient_steps, recipe.batch_size, learning("energy"), own),
    ]


def _require_grid(shapes: np.ndarray, model: ShapeModel) -> None:
    as_occupancy(shapes[:1], "shapes", model.grid)


def require_labels(
    shapes: np.ndarray, labels: np.ndarray | None, classes: Sequence[str]
) -> np.ndarray:
    """Labels of at least two categories, or a ValueError that says what is missing."""
    if labels is None or len(set(np.asarray(labels).tolist())) < 2:
        raise ValueError(
            "labels of at least two categories are needed to train a classifier: give data of "
            "several, and no category."
        )
    return as_labels(labels, len(shapes), len(classes))


class Phase(NamedTuple):
    """A part of a run.

    Attributes:
        name: what its checkpoint and its logs are called.
        steps: its iterations; 0 leaves it out.
        batch_size: observed shapes an iteration.
        prepare: compiles what learns in it, given the batches of an epoch and the epochs.
        labels: what it learns beside the shapes, if anything.
    """

    name: str
    steps: int
    batch_size: int
    prepare: Callable[[int, int], ShapeModel]
    labels: np.ndarray | None = None


def descriptor_phases(model: DescriptorNet, recipe: Recipe) -> list[Phase]:
    """Pretraining by matching, and maximum likelihood."""

    def matching(batches: int, epochs: int) -> ShapeModel:
        rate = _decaying(recipe.matching_learning_rate, recipe, batches * epochs)
        model.compile(
            keras.optimizers.Adam(rate, **_optimizer_settings(recipe)),
            matching=matching_of(recipe, 1.0),
            task=task_of(asdict(recipe)),
        )
        return model

    def likelihood(batches: int, epochs: int) -> ShapeModel:
        model.compile(
            _likelihood_optimizer(recipe, batches),
            likelihood=likelihood_of(recipe, batches, recipe.chains),
            matching=_kept_matching(recipe),
            task=task_of(asdict(recipe)),
        )
        return model

    return [
        Phase("matching", recipe.matching_steps, recipe.batch_size, matching),
        Phase("likelihood", recipe.likelihood_steps, recipe.batch_size, likelihood),
    ]


def generator_phases(
    descriptor: DescriptorNet, recipe: Recipe, shapes: np.ndarray
) -> tuple[CooperativeNet, list[Phase]]:
    """A new generator for a descriptor: taught by the shapes, then by the descriptor."""
    keras.utils.set_random_seed(recipe.seed)
    generator = generators.generator(
        descriptor.grid[0],
        latents=recipe.generator_latents,
        voxel_mean=descriptor.voxel_mean,
        occupancy=float(np.clip(shapes.mean(), 1e-3, 1 - 1e-3)),
    )
    autoencoder = Autoencoder(
        generator,
        generators.principal_encoder(
            shapes,
            latents=recipe.generator_latents,
            voxel_mean=descriptor.voxel_mean,
            mirror_axes=tuple(recipe.mirrored()),
            seed=recipe.seed,
        ),
        generator_std=recipe.generator_std,
        voxel_mean=descriptor.voxel_mean,
        seed=recipe.seed,
    )
    model = CooperativeNet(
        descriptor,
        generator,
        generator_std=recipe.generator_std,
        revision=LangevinSettings(
            recipe.revision_steps,
            recipe.sampling_step_size,
            recipe.sampling_temperature,
            0.0,
            1,
            recipe.langevin_contraction,
        ),
        seed=recipe.seed,
    )
    teaching = Teaching(
        inference=LangevinSettings(recipe.inference_steps, recipe.inference_step_size)
        if recipe.inference_steps
        else None,
        anchor=autoencoder if recipe.cooperation_anchor else None,
    )
    average: dict[str, Any] = (
        {"use_ema": True, "ema_momentum": recipe.average} if recipe.average else {}
    )

    def by_the_shapes(batches: int, epochs: int) -> ShapeModel:
        rate = _decaying(recipe.generator_learning_rate, recipe, batches * epochs)
        optimizer = keras.optimizers.Adam(rate, **average)
        autoencoder.compile(optimizer)
        return autoencoder

    def by_the_descriptor(batches: int, epochs: int) -> ShapeModel:
        model.compile(
            _likelihood_optimizer(recipe, batches),
            generator_optimizer=keras.optimizers.Adam(recipe.cooperation_learning_rate, **average),
            likelihood=likelihood_of(recipe, batches, "generator"),
            matching=_kept_matching(recipe),
            teaching=teaching,
        )
        return model

    return model, [
        Phase("generator", recipe.generator_steps, recipe.generator_batch_size, by_the_shapes),
        Phase("cooperation", recipe.cooperation_steps, recipe.batch_size, by_the_descriptor),
    ]


def sampling_of(recipe: Recipe) -> LangevinSettings:
    """How a model of the recipe synthesises."""
    return LangevinSettings(
        recipe.sampling_steps,
        recipe.sampling_step_size,
        recipe.sampling_temperature,
        recipe.sampling_initial_std,
        recipe.sampling_rounds,
        recipe.sampling_contraction,
    )


def matching_of(recipe: Recipe, weight: float) -> EquilibriumMatching:
    """The recipe's simulation-free objective."""
    return EquilibriumMatching(
        weight,
        recipe.matching_scale,
        recipe.matching_fade_from,
        recipe.matching_least_noise,
    )


def likelihood_of(recipe: Recipe, batches: int, start: str) -> MaximumLikelihood:
    """The recipe's maximum likelihood, for so many batches a pass, with chains that start there."""
    return MaximumLikelihood(
        weight=recipe.likelihood_weight,
        langevin=LangevinSettings(
            recipe.langevin_steps,
            recipe.langevin_step_size,
            recipe.langevin_temperature,
            recipe.langevin_initial_std,
            contraction=recipe.langevin_contraction,
        ),
        chains=ChainSettings(
            start,
            recipe.chains_per_step,
            recipe.chains_count or recipe.chains_per_step * batches,
            recipe.chains_restart,
        ),
        noise_until_epoch=recipe.noise_until_epoch or None,
    )


def _decaying(rate: float, recipe: Recipe, steps: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(steps - recipe.matching_warmup, 1),
        alpha=0.02,
        warmup_target=rate,
        warmup_steps=recipe.matching_warmup,
    )


def _kept_matching(recipe: Recipe) -> EquilibriumMatching | None:
    weight = recipe.likelihood_matching_weight
    return matching_of(recipe, weight) if weight else None


def _likelihood_optimizer(recipe: Recipe, batches: int) -> keras.optimizers.Optimizer:
    settings = _optimizer_settings(recipe)
    if recipe.step_per_pass and batches > 1:
        settings["gradient_accumulation_steps"] = batches
    return keras.optimizers.Adam(
        recipe.likelihood_learning_rate, beta_1=recipe.likelihood_beta_1, **settings
    )


def _optimizer_settings(recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if recipe.average:
        settings |= {"use_ema": True, "ema_momentum": recipe.average}
    if recipe.clip_norm:
        settings["global_clipnorm"] = recipe.clip_norm
    return settings
