"""Training recipes as plain data: nothing here loads Keras."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from descnet3d.models.preset_config import TASKS

# The iterations of which a task needs some.
PHASES = {
    "synthesis": ("matching_steps", "likelihood_steps", "denoising_steps"),
    "cooperative": ("generator_steps", "cooperation_steps"),
    "classification": ("classifier_steps",),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, beside the shapes.

    A run pretrains for `matching_steps` iterations, then maximises the likelihood for
    `likelihood_steps`; either may be 0. A cooperative run then teaches a generator, by the shapes
    alone for `generator_steps` and by the descriptor for `cooperation_steps`. A classifier, no
    descriptor, is trained with labels for `classifier_steps`. A run for features fits a logistic
    regression, with labels, to what the descriptor sees.

    Attributes:
        task: synthesis, recovery, super_resolution, cooperative, features or classification.
        corruption: which voxels recovery is trained to find: voxels, half, block or scan, and the
            share that is hidden, as in voxels:0.7.
        ratio: the side of the blocks whose averages super-resolution starts from, in voxels.
        start: the preset whose network training begins with, by id or folder; empty: a new network.
        layers: which layers of the start's network learn, by their names with commas between, *
            for any letters; empty: all.
        network: a network of `descnet3d.models.networks`, by name.
        voxel_mean: what model space subtracts from occupancy; negative: the mean training voxel.
        reference_std: s of the Gaussian reference.
        batch_size: observed shapes an iteration.
        mirror_axes: axes along which shapes are mirrored at random, such as "0" or "01"; or those
            of each category, such as "chair:0,table:01".
        average: the momentum of the averaged weights, which are the ones kept; 0 for none.
        clip_norm: the global norm at which the descriptor's gradients are clipped; 0 for none.
        seed: seeds the weights, the order of the shapes and all noise.
        matching_steps: iterations of simulation-free pretraining.
        matching_learning_rate: Adam's largest learning rate there; it decays by a cosine to a
            fiftieth.
        matching_warmup: iterations in which that learning rate is reached.
        matching_scale: λ, the size of the gradient along the paths.
        matching_fade_from: the γ from which that gradient fades to 0.
        matching_least_noise: the smallest size of the noise that paths begin at, relative to s.
        denoising_steps: iterations in which the network `conditional` learns the odds of the voxels
            of noisy shapes, by cross-entropy; with them it becomes an annealed descriptor.
        denoising_learning_rate: Adam's largest learning rate there; it decays as in matching.
        gradient_steps: iterations in which its energy is then fitted to these odds by its gradient.
        generator_latents: d, the length of the generator's latents.
        generator_std: σ, the standard deviation of what the generator leaves unexplained.
        generator_steps: iterations in which it learns from the shapes alone, by the regression of
            each on its principal components.
        generator_batch_size: shapes an iteration, there.
        generator_learning_rate: Adam's largest learning rate there; it decays as in matching.
        cooperation_steps: iterations of cooperative training.
        cooperation_learning_rate: Adam's learning rate for the generator, there; the descriptor's
            is likelihood_learning_rate.
        cooperation_anchor: whether that regression is kept beside the one on revised shapes.
        inference_steps: Langevin steps that infer the latents anew before it; 0 for none.
        inference_step_size: √Δτ of these.
        classifier_steps: iterations of supervised training.
        classifier_learning_rate: Adam's largest learning rate there; it decays as in matching.
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
        langevin_step_size: √Δτ of training.
        langevin_temperature: the noise's variance relative to eq. 3.
        langevin_initial_std: the standard deviation of the noise that training chains start from.
        langevin_contraction: what the generator's shapes are multiplied by before they are revised,
            in training and afterwards.
        revision_steps: Langevin steps of a revision, afterwards.
        noise_until_epoch: the first pass of maximum likelihood without noise; 0: noise to the end.
        sampling_steps: Langevin steps of `synthesize`.
        sampling_step_size: √Δτ of `synthesize`.
        sampling_temperature: their temperature.
        sampling_initial_std: the standard deviation of the noise that `synthesize` starts from.
        sampling_rounds: the rounds that its steps are shared out to.
        sampling_contraction: what shapes are multiplied by between two rounds.
    """

    task: str = "synthesis"
    corruption: str = "voxels:0.7"
    ratio: int = 4
    start: str = ""
    layers: str = ""
    network: str = "base"
    voxel_mean: float = 0.5
    reference_std: float = 0.5
    batch_size: int = 8
    mirror_axes: str = ""
    average: float = 0.999
    clip_norm: float = 2.0
    seed: int = 0
    matching_steps: int = 26000
    matching_learning_rate: float = 1.2e-3
    matching_warmup: int = 50
    matching_scale: float = 4.0
    matching_fade_from: float = 0.8
    matching_least_noise: float = 1.0
    denoising_steps: int = 0
    denoising_learning_rate: float = 1e-3
    gradient_steps: int = 0
    generator_latents: int = 64
    generator_std: float = 0.6
    generator_steps: int = 0
    generator_batch_size: int = 32
    generator_learning_rate: float = 1e-3
    cooperation_steps: int = 0
    cooperation_learning_rate: float = 3e-4
    cooperation_anchor: bool = True
    inference_steps: int = 0
    inference_step_size: float = 0.02
    classifier_steps: int = 0
    classifier_learning_rate: float = 1e-3
    likelihood_steps: int = 0
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
    langevin_contraction: float = 0.3
    revision_steps: int = 30
    noise_until_epoch: int = 0
    sampling_steps: int = 200
    sampling_step_size: float = 0.0866
    sampling_temperature: float = 0.0
    sampling_initial_std: float = 0.5
    sampling_rounds: int = 4
    sampling_contraction: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what no run can follow; the rest is checked where it is used."""
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, but it is {self.task!r}.")
        own = PHASES.get(self.task, PHASES["synthesis"])
        every = sorted({name for names in PHASES.values() for name in names})
        for name in (*every, "gradient_steps", "matching_warmup", "inference_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, but it is {getattr(self, name)}.")
        taken_as_it_is = self.task == "features" and self.start
        if not any(getattr(self, name) for name in own) and not taken_as_it_is:
            none = "both are 0" if len(own) > 1 else "it is 0"
            raise ValueError(f"{' or '.join(own)} must be positive; {none}.")
        for task in ("cooperative", "classification"):
            for name in PHASES[task]:
                if self.task != task and getattr(self, name):
                    raise ValueError(f"{name} is for the task {task}, not for {self.task}.")
        for name in ("generator_latents", "generator_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but it is {getattr(self, name)}.")
        if self.layers and not self.start:
            raise ValueError("layers chooses among those of a start, and no start is given.")
        if self.chains not in ("persistent", "noise", "data"):
            raise ValueError(
                f"chains must be one of persistent, noise, data, but it is {self.chains!r}."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but it is {self.batch_size}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2³² - 1, but it is {self.seed}.")
        if not all(set(axes) <= set("012") for axes in self._mirrored().values()):
            raise ValueError(
                f"mirror_axes must be made of 0, 1 and 2, but it is {self.mirror_axes!r}."
            )
        if ":" in self.mirror_axes and not self.denoising_steps:
            raise ValueError(
                "mirror_axes of each category are for denoising_steps: give the same to all, such "
                f"as 0, but it is {self.mirror_axes!r}."
            )
        if (self.network == "conditional") != bool(self.denoising_steps):
            raise ValueError(
                f"the network {self.network!r} and {self.denoising_steps} denoising_steps do not "
                "fit: these train the network 'conditional', and nothing else does."
            )

    def _mirrored(self) -> dict[str, str]:
        """The axes of each category; of all of them under the empty name."""
        if ":" not in self.mirror_axes:
            return {"": self.mirror_axes}
        parts = (part.partition(":") for part in self.mirror_axes.split(","))
        return {category.strip(): axes.strip() for category, _, axes in parts}

    def mirrored(self) -> Any:
        """The axes along which shapes are mirrored: those of all, or by the name of a category."""
        named = {name: tuple(map(int, axes)) for name, axes in self._mirrored().items()}
        return named.get("", named)


_CONDITIONAL: dict[str, Any] = {
    "average": 0.998,
    "clip_norm": 1.0,
    "matching_steps": 4000,
    "matching_learning_rate": 1e-3,
    "matching_least_noise": 0.5,
    "sampling_steps": 120,
    "sampling_initial_std": 0.0,
    "sampling_rounds": 3,
}
RECIPES = {
    "base": Recipe(),
    # The same, finished by maximum likelihood with Langevin dynamics.
    "base_likelihood": Recipe(likelihood_steps=150),
    # One descriptor of all categories at every noise level, E(Y | c, level).
    "annealed": Recipe(
        network="conditional",
        matching_steps=0,
        denoising_steps=38000,
        gradient_steps=6000,
        mirror_axes="bathtub:01,bed:0,chair:0,desk:0,dresser:1,monitor:1,night_stand:1,sofa:1,"
        "table:01,toilet:0",
        average=0.9995,
        clip_norm=0.5,
    ),
    # Hidden voxels, and fine shapes of coarse ones: paths begin at little noise, and so does the
    # descent, which is short because much is known.
    "recovery": Recipe(task="recovery", **_CONDITIONAL),
    "super_resolution": Recipe(task="super_resolution", **_CONDITIONAL),
    # A generator, taught by the shapes and then by a descriptor that is trained already (`start`).
    "cooperative": Recipe(
        task="cooperative",
        matching_steps=0,
        generator_steps=2500,
        cooperation_steps=200,
        cooperation_learning_rate=1e-4,
        likelihood_learning_rate=1e-5,
        likelihood_weight=0.003,
        chains_per_step=16,
        langevin_steps=25,
        langevin_temperature=0.0,
        clip_norm=1.0,
        average=0.99,
        batch_size=16,
    ),
    # A descriptor of all categories, and a logistic regression on what it sees; where it is trained
    # already (`start`), with matching_steps=0.
    "features": Recipe(task="features", matching_steps=24000, mirror_axes="0"),
    # A supervised network, by which generated shapes are judged.
    "classifier": Recipe(
        task="classification",
        voxel_mean=0.0,
        matching_steps=0,
        classifier_steps=2500,
        mirror_axes="0",
        batch_size=32,
        average=0.99,
    ),
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
        sampling_rounds=1,
    ),
}


def described() -> list[tuple[str, str, str]]:
    """The name, type and meaning of each setting of a recipe, from its own documentation."""
    text = (Recipe.__doc__ or "").split("Attributes:")[1]
    meanings = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", text, re.M | re.S)
    }
    return [(field.name, str(field.type), meanings[field.name]) for field in fields(Recipe)]
