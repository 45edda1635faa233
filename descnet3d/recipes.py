"""Training recipes: plain data, and the one function that runs them and resumes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d import networks
from descnet3d.chains import ChainSettings
from descnet3d.checkpoints import CheckpointError, Progress, TrainingCheckpoint, restore, save
from descnet3d.files import replacing
from descnet3d.langevin import LangevinSettings
from descnet3d.models.descriptor import DescriptorNet, MaximumLikelihood
from descnet3d.models.pretraining import EquilibriumMatching
from descnet3d.voxels import as_occupancy


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, beside the shapes.

    A run pretrains for `matching_steps` iterations, then maximises the likelihood for
    `likelihood_steps`; either may be 0.

    Attributes:
        network: a network of `descnet3d.networks`, by name.
        voxel_mean: what model space subtracts from occupancy; negative: the mean training voxel.
        reference_std: s of the Gaussian reference.
        batch_size: observed shapes an iteration.
        mirror_axes: axes along which shapes are mirrored at random, such as "0" or "01".
        average: the momentum of the averaged weights, which are the ones kept; 0 for none.
        clip_norm: the global norm at which gradients are clipped; 0 for none.
        seed: seeds the weights, the order of the shapes and all noise.
        matching_steps: iterations of simulation-free pretraining.
        matching_learning_rate: Adam's first learning rate there; it decays by a cosine.
        matching_scale: λ, the size of the gradient along the paths.
        matching_fade_from: the γ from which that gradient fades to 0.
        likelihood_steps: iterations of maximum likelihood by Langevin dynamics.
        likelihood_learning_rate: Adam's learning rate there.
        likelihood_beta_1: Adam's β₁ there.
        likelihood_weight: the weight of eq. 4.
        likelihood_matching_weight: the weight of the matching loss kept beside it.
        step_per_pass: one optimizer step a pass over the shapes, as the original code does.
        chains: where chains start: persistent, noise or data.
        chains_per_step: chains an iteration.
        chains_count: persistent chains in all; 0: chains_per_step for each batch.
        chains_restart: the probability that a chain restarts from noise at its turn.
        langevin_steps: l, Langevin steps an iteration.
        langevin_step_size: √Δτ.
        langevin_temperature: the noise's variance relative to eq. 3.
        langevin_initial_std: the standard deviation of the noise that training chains start from.
        noise_until_epoch: the first pass of maximum likelihood without noise; 0: noise to the end.
        sampling_steps: Langevin steps of `synthesize`.
        sampling_step_size: their size.
        sampling_temperature: their temperature.
        sampling_initial_std: the standard deviation of the noise that `synthesize` starts from.
    """

    network: str = "base"
    voxel_mean: float = 0.5
    reference_std: float = 0.5
    batch_size: int = 32
    mirror_axes: str = ""
    average: float = 0.995
    clip_norm: float = 10.0
    seed: int = 0
    matching_steps: int = 3000
    matching_learning_rate: float = 1e-3
    matching_scale: float = 4.0
    matching_fade_from: float = 0.8
    likelihood_steps: int = 150
    likelihood_learning_rate: float = 3e-5
    likelihood_beta_1: float = 0.5
    likelihood_weight: float = 0.001
    likelihood_matching_weight: float = 1.0
    step_per_pass: bool = False
    chains: str = "persistent"
    chains_per_step: int = 25
    chains_count: int = 100
    chains_restart: float = 0.05
    langevin_steps: int = 20
    langevin_step_size: float = 0.0866
    langevin_temperature: float = 0.09
    langevin_initial_std: float = 0.5
    noise_until_epoch: int = 0
    sampling_steps: int = 100
    sampling_step_size: float = 0.0866
    sampling_temperature: float = 0.0
    sampling_initial_std: float = 0.5


RECIPES = {
    "base": Recipe(),
    "pretraining": Recipe(likelihood_steps=0),
    # What the original code does, number by number.
    "paper": Recipe(
        network="paper",
        voxel_mean=-1.0,
        batch_size=20,
        average=0.0,
        clip_norm=0.0,
        matching_steps=0,
        likelihood_steps=54000,
        likelihood_learning_rate=0.01,
        likelihood_weight=1.0,
        likelihood_matching_weight=0.0,
        step_per_pass=True,
        chains_count=0,
        chains_restart=0.0,
        langevin_step_size=0.1,
        langevin_temperature=1.0,
        langevin_initial_std=1.0,
        noise_until_epoch=101,
        sampling_steps=2000,
        sampling_step_size=0.1,
        sampling_initial_std=1.0,
    ),
}


class TrainingRun(NamedTuple):
    """What a finished run leaves.

    Attributes:
        model: the trained model.
        core_minutes: the processor time it took, of all threads together.
    """

    model: DescriptorNet
    core_minutes: float


def train(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    network: keras.Model | None = None,
    callbacks: Callable[[str, int, int], list[keras.callbacks.Callback]] | None = None,
    checkpoint_every: float = 60.0,
) -> TrainingRun:
    """Train a descriptor from scratch, or go on with a run that was killed.

    Args:
        shapes: occupancy in [0, 1], ``[n, D, H, W]``.
        recipe: the run's settings.
        folder: where its checkpoints live: `recipe.json`, and one ``.npz`` a phase.
        network: f(Y; θ), instead of the one that the recipe names.
        callbacks: makes the Keras callbacks of a phase from its name, the epoch that it starts at
            and its number of epochs.
        checkpoint_every: seconds between checkpoints.

    Returns:
        The model, and what it took.

    Raises:
        ValueError: when the shapes are no occupancy.
        CheckpointError: when the folder holds a run with other settings.
        DivergenceError: when training runs off.
    """
    shapes = as_occupancy(shapes, "shapes")
    folder = Path(folder)
    _claim(folder, recipe)
    keras.utils.set_random_seed(recipe.seed)
    mean = float(shapes.mean()) if recipe.voxel_mean < 0 else recipe.voxel_mean
    model = DescriptorNet(
        network or networks.build(recipe.network, shapes.shape[1]),
        voxel_mean=mean,
        reference_std=recipe.reference_std,
        sampling=LangevinSettings(
            recipe.sampling_steps,
            recipe.sampling_step_size,
            recipe.sampling_temperature,
            recipe.sampling_initial_std,
        ),
        seed=recipe.seed,
    )
    batches = math.ceil(len(shapes) / recipe.batch_size)
    phases = [
        ("matching", recipe.matching_steps, _compile_matching),
        ("likelihood", recipe.likelihood_steps, _compile_likelihood),
    ]
    phases = [phase for phase in phases if phase[1]]
    if not phases:
        raise ValueError("matching_steps or likelihood_steps must be positive, but both are 0.")
    begun = [folder / f"{name}.npz" for name, _, _ in phases]
    first = max((i for i, path in enumerate(begun) if path.exists()), default=0)
    spent = 0.0
    for (name, steps, compile_phase), path in list(zip(phases, begun, strict=True))[first:]:
        epochs = math.ceil(steps / batches)
        compile_phase(model, recipe, batches, epochs)
        if path.exists():
            done, spent = restore(model, path)
        else:
            done = 0
            save(model, path, Progress(0, spent))
        keeper = TrainingCheckpoint(path, checkpoint_every, spent)
        extra = callbacks(name, done, epochs) if callbacks else []
        model.fit(
            shapes,
            batch_size=recipe.batch_size,
            mirror_axes=tuple(int(axis) for axis in recipe.mirror_axes),
            initial_epoch=done,
            epochs=epochs,
            callbacks=[keeper, *extra],
            verbose=0 if extra else "auto",
        )
        spent = keeper.core_seconds
        save(model, path, Progress(epochs, spent))
    return TrainingRun(model, spent / 60)


def _compile_matching(model: DescriptorNet, recipe: Recipe, batches: int, epochs: int) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.matching_learning_rate, batches * epochs
    )
    model.compile(
        keras.optimizers.Adam(schedule, **_optimizer_settings(recipe)),
        matching=EquilibriumMatching(
            scale=recipe.matching_scale, fade_from=recipe.matching_fade_from
        ),
    )


def _compile_likelihood(model: DescriptorNet, recipe: Recipe, batches: int, epochs: int) -> None:
    settings = _optimizer_settings(recipe)
    if recipe.step_per_pass:
        settings["gradient_accumulation_steps"] = batches
    matching = None
    if recipe.likelihood_matching_weight:
        matching = EquilibriumMatching(
            recipe.likelihood_matching_weight, recipe.matching_scale, recipe.matching_fade_from
        )
    model.compile(
        keras.optimizers.Adam(
            recipe.likelihood_learning_rate, beta_1=recipe.likelihood_beta_1, **settings
        ),
        likelihood=MaximumLikelihood(
            weight=recipe.likelihood_weight,
            langevin=LangevinSettings(
                recipe.langevin_steps,
                recipe.langevin_step_size,
                recipe.langevin_temperature,
                recipe.langevin_initial_std,
            ),
            chains=ChainSettings(
                recipe.chains,
                recipe.chains_per_step,
                recipe.chains_count or recipe.chains_per_step * batches,
                recipe.chains_restart,
            ),
            noise_until_epoch=recipe.noise_until_epoch or None,
        ),
        matching=matching,
    )


def _optimizer_settings(recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if recipe.average:
        settings |= {"use_ema": True, "ema_momentum": recipe.average}
    if recipe.clip_norm:
        settings["global_clipnorm"] = recipe.clip_norm
    return settings


def _claim(folder: Path, recipe: Recipe) -> None:
    """Make the folder this recipe's, or see that it is."""
    path = folder / "recipe.json"
    own = asdict(recipe)
    if path.exists():
        theirs = json.loads(path.read_text())
        differing = sorted(key for key in {*own, *theirs} if own.get(key) != theirs.get(key))
        if differing:
            key = differing[0]
            raise CheckpointError(
                f"{folder} holds a run with {key}={theirs.get(key)!r}, and this one has "
                f"{own.get(key)!r}: resume with the same settings, or give another folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(own, indent=1) + "\n")
