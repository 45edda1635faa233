"""The phases that a recipe is trained in: which model, with which objective, for how long."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d.energy.settings import AnnealingSettings, LangevinSettings
from descnet3d.evaluation.pieces import raggedness
from descnet3d.models import generators, networks
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.conditional_network import conditional, of_no_place
from descnet3d.models.cooperative import CooperativeNet, Teaching
from descnet3d.models.denoising import DenoisingModel
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.shape_model import ShapeModel
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.shapes import warps
from descnet3d.shapes.occupancy import as_labels, as_occupancy
from descnet3d.training.recipes import ANNEALED, Recipe

_WHOLE = 0.9  # how many training shapes are in one piece where new ones are held in one


class PiecesWarning(UserWarning):
    """New shapes are not held in one piece, as those of training are not in one."""


def descriptor_plan(
    shapes: np.ndarray, recipe: Recipe, network: keras.Model | None
) -> tuple[DescriptorNet, list[Phase]]:
    """A descriptor, with its generator where it teaches one, and what it goes through."""
    network_is_new = network is None
    if network is None:
        keras.utils.set_random_seed(recipe.seed)
        network = networks.build(recipe.network, shapes.shape[1], recipe.reference_std)
    model: DescriptorNet = DescriptorNet(
        network,
        voxel_mean=_voxel_mean(recipe, shapes),
        reference_std=recipe.reference_std,
        sampling=recipe.sampling,
        seed=recipe.seed,
    )
    as_occupancy(shapes[:1], "shapes", model.grid)
    if recipe.layers:
        choose_layers(network, recipe.layers)
    if recipe.task == "cooperative" and network_is_new and not recipe.matching.steps:
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


def classifier_plan(
    shapes: np.ndarray, recipe: Recipe, labels: np.ndarray | None, classes: Sequence[str]
) -> tuple[SupervisedClassifier, list[Phase]]:
    """A supervised classifier, and what it goes through."""
    labels = require_labels(shapes, labels, classes)
    keras.utils.set_random_seed(recipe.seed)
    model = SupervisedClassifier(
        networks.classifier(shapes.shape[1], len(classes)),
        classes,
        voxel_mean=_voxel_mean(recipe, shapes),
        seed=recipe.seed,
    )

    def by_labels(batches: int, epochs: int) -> ShapeModel:
        model.compile(_adam(recipe, recipe.classifier.learning_rate, batches * epochs))
        return model

    steps = recipe.classifier.steps
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
    odds = recipe.denoising
    keras.utils.set_random_seed(recipe.seed)
    if start is None:
        conditions = len(present) + warps.NUMBERS
        sizes = ANNEALED[recipe.network]
        network = conditional(shapes.shape[1], conditions=conditions, **sizes)
        start = AnnealedDescriptor(network, present, seed=recipe.seed)
    model = start.with_categories(present, observing=odds.objective.observed > 0)
    model = model.bound_to(present[0] if len(present) == 1 else None)
    model.sampling = _sampling_for(shapes, labels, recipe.annealing)
    own = np.array([model.classes.index(classes[label]) for label in labels])
    as_occupancy(shapes[:1], "shapes", model.grid)
    steps = odds.gradient_steps
    return model, [
        _denoising(model, recipe, own),
        Phase("gradient", steps, recipe.batch_size, _by_denoising(model, recipe, "energy"), own),
    ]


def surface_plan(
    shapes: np.ndarray, recipe: Recipe, start: AnnealedDescriptor | SurfaceDescriptor | None
) -> tuple[SurfaceDescriptor, list[Phase]]:
    """A descriptor of surfaces, which may begin with what another one knows, and its one phase."""
    keras.utils.set_random_seed(recipe.seed)
    if start is None:
        network = conditional(shapes.shape[1], **ANNEALED[recipe.network])
    else:
        drawing = start.parts.get("field", start.network)
        network = of_no_place(drawing, shapes.shape[1])
    model = SurfaceDescriptor(network, sampling=recipe.annealing, seed=recipe.seed)
    return model, [_denoising(model, recipe)]


def _denoising(model: DenoisingModel, recipe: Recipe, labels: np.ndarray | None = None) -> Phase:
    steps = recipe.denoising.steps
    learning = _by_denoising(model, recipe, "odds")
    return Phase("denoising", steps, recipe.batch_size, learning, labels)


def _by_denoising(
    model: DenoisingModel, recipe: Recipe, what: str
) -> Callable[[int, int], ShapeModel]:
    """What prepares a model to learn its odds, or its energy."""
    told = replace(recipe.denoising.objective, learns=what)

    def prepare(batches: int, epochs: int) -> ShapeModel:
        optimizer = _adam(recipe, recipe.denoising.learning_rate, batches * epochs, beta_2=0.99)
        model.compile(optimizer, denoising=told, native=recipe.denoising.native)
        return model

    return prepare


def _sampling_for(
    shapes: np.ndarray, labels: np.ndarray, settings: AnnealingSettings
) -> AnnealingSettings:
    """The settings, which hold new shapes in one piece only where those of each category are."""
    if settings.whole_below <= 0.0:
        return settings
    each = [raggedness(shapes[labels == label] > 0.5) for label in np.unique(labels)]
    whole = min(figures.get("one_piece", 0.0) for figures in each)
    if whole >= _WHOLE:
        return settings
    warnings.warn(
        "new shapes may be in several pieces (annealing_whole_below is 0): of the training shapes "
        f"of a category only {whole:.0%} are in one.",
        PiecesWarning,
        stacklevel=2,
    )
    return replace(settings, whole_below=0.0)


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
        model.compile(
            _adam(recipe, recipe.matching.learning_rate, batches * epochs),
            matching=replace(recipe.matching.objective, weight=1.0),
            task=recipe.condition,
        )
        return model

    def likelihood(batches: int, epochs: int) -> ShapeModel:
        model.compile(**likelihood_of(recipe, batches), task=recipe.condition)
        return model

    return [
        Phase("matching", recipe.matching.steps, recipe.batch_size, matching),
        Phase("likelihood", recipe.likelihood.steps, recipe.batch_size, likelihood),
    ]


def generator_phases(
    descriptor: DescriptorNet, recipe: Recipe, shapes: np.ndarray
) -> tuple[CooperativeNet, list[Phase]]:
    """A new generator for a descriptor: taught by the shapes, then by the descriptor."""
    autoencoder = _new_generator(descriptor, recipe, shapes)
    cooperation, langevin = recipe.cooperation, recipe.likelihood.objective.langevin
    model = CooperativeNet(
        descriptor,
        autoencoder.generator,
        generator_std=recipe.generator.std,
        revision=replace(
            recipe.sampling,
            num_steps=cooperation.revision_steps,
            initial_std=0.0,
            rounds=1,
            contraction=langevin.contraction,
        ),
        seed=recipe.seed,
    )
    inference = None
    if cooperation.inference_steps:
        inference = LangevinSettings(cooperation.inference_steps, cooperation.inference_step_size)
    teaching = Teaching(inference, autoencoder if cooperation.anchor else None)

    def by_the_shapes(batches: int, epochs: int) -> ShapeModel:
        rate = recipe.generator.learning_rate
        autoencoder.compile(_adam(recipe, rate, batches * epochs, clipped=False))
        return autoencoder

    def by_the_descriptor(batches: int, epochs: int) -> ShapeModel:
        model.compile(
            **likelihood_of(recipe, batches, start="generator"),
            generator_optimizer=_adam(recipe, cooperation.learning_rate, clipped=False),
            teaching=teaching,
        )
        return model

    return model, [
        Phase("generator", recipe.generator.steps, recipe.generator.batch_size, by_the_shapes),
        Phase("cooperation", cooperation.steps, recipe.batch_size, by_the_descriptor),
    ]


def _new_generator(descriptor: DescriptorNet, recipe: Recipe, shapes: np.ndarray) -> Autoencoder:
    """A generator, with the encoder by whose codes of the shapes it learns first."""
    keras.utils.set_random_seed(recipe.seed)
    generator = generators.generator(
        descriptor.grid[0],
        latents=recipe.generator.latents,
        voxel_mean=descriptor.voxel_mean,
        occupancy=float(np.clip(shapes.mean(), 1e-3, 1 - 1e-3)),
    )
    encoder = generators.principal_encoder(
        shapes,
        latents=recipe.generator.latents,
        voxel_mean=descriptor.voxel_mean,
        mirror_axes=tuple(recipe.mirrored()),
        seed=recipe.seed,
    )
    return Autoencoder(
        generator,
        encoder,
        generator_std=recipe.generator.std,
        voxel_mean=descriptor.voxel_mean,
        seed=recipe.seed,
    )


def likelihood_of(recipe: Recipe, batches: int, start: str | None = None) -> dict[str, Any]:
    """What maximum likelihood is compiled with: the optimizer and both objectives.

    Args:
        recipe: it.
        batches: those of a pass.
        start: where chains start, if not where the recipe says.

    Raises:
        ValueError: there are fewer chains than one iteration runs.
    """
    likelihood, matching = recipe.likelihood, recipe.matching.objective
    chains = likelihood.objective.chains
    count = chains.count or chains.per_step * batches
    chains = replace(chains, start=start or chains.start, count=count)
    passed = batches if likelihood.step_per_pass and batches > 1 else None
    return {
        "optimizer": _adam(
            recipe,
            likelihood.learning_rate,
            beta_1=likelihood.beta_1,
            gradient_accumulation_steps=passed,
        ),
        "likelihood": replace(likelihood.objective, chains=chains),
        "matching": matching if matching.weight else None,
    }


def _voxel_mean(recipe: Recipe, shapes: np.ndarray) -> float:
    return float(shapes.mean()) if recipe.voxel_mean is None else recipe.voxel_mean


def _adam(
    recipe: Recipe, rate: float, decay_steps: int = 0, clipped: bool = True, **more: Any
) -> keras.optimizers.Adam:
    """Adam with averaged weights and clipped gradients, as the recipe has them.

    Args:
        recipe: it.
        rate: the learning rate.
        decay_steps: the iterations in which the rate decays by a cosine to a fiftieth, after the
            recipe's warm-up; 0 keeps it.
        clipped: whether gradients are clipped.
        more: what else Adam takes.
    """
    schedule: Any = rate
    if decay_steps:
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(decay_steps - recipe.warmup, 1),
            alpha=0.02,
            warmup_target=rate,
            warmup_steps=recipe.warmup,
        )
    if recipe.average is not None:
        more |= {"use_ema": True, "ema_momentum": recipe.average}
    if clipped and recipe.clip_norm is not None:
        more["global_clipnorm"] = recipe.clip_norm
    return keras.optimizers.Adam(schedule, **more)
