"""Training recipes as plain data: nothing here loads Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from descnet3d.arguments import require_positive_integer
from descnet3d.energy.settings import (
    AnnealingSettings,
    ChainSettings,
    Denoising,
    EquilibriumMatching,
    LangevinSettings,
    MaximumLikelihood,
    require_products,
)
from descnet3d.energy.tasks import (
    TASKS,
    Condition,
    Recovery,
    Refinement,
    SuperResolution,
    condition_of,
)
from descnet3d.fields import Flag, changed, flat


@dataclass(frozen=True)
class Schedule:
    """How long a phase of training takes, and how fast it learns."""

    steps: Annotated[int, "iterations; 0 leaves it out"] = 0
    learning_rate: Annotated[float, "Adam's learning rate, the largest where it decays"] = 1e-3


@dataclass(frozen=True)
class Matching(Schedule):
    """Simulation-free pretraining; its learning rate decays by a cosine to a fiftieth."""

    objective: Annotated[EquilibriumMatching, "Pretraining"] = EquilibriumMatching()


@dataclass(frozen=True)
class Likelihood(Schedule):
    """Maximum likelihood by Langevin dynamics."""

    beta_1: Annotated[float, "Adam's β₁"] = 0.5
    step_per_pass: Annotated[
        bool, "one step a pass over the shapes, as the original code does", Flag("step_per_pass")
    ] = False
    objective: Annotated[MaximumLikelihood, "Maximum likelihood"] = MaximumLikelihood()


@dataclass(frozen=True)
class Odds(Schedule):
    """Learning the odds of the voxels of noisy shapes, then an energy of them; the rates decay."""

    gradient_steps: Annotated[
        int, "iterations in which the energy is then fitted to the odds", Flag("gradient_steps")
    ] = 0
    native: Annotated[
        str,
        "float32 or bfloat16: on PyTorch and a CPU, losses become native code with such products, "
        "which takes a C++ compiler and a minute; no: they stay as they are",
    ] = "no"
    objective: Annotated[Denoising, "Learning by denoising"] = Denoising()


@dataclass(frozen=True)
class Generator(Schedule):
    """A generator, and how it learns from the shapes alone: to decode their components."""

    latents: Annotated[int, "d, the length of the latents"] = 64
    std: Annotated[float, "σ, the standard deviation of what it leaves unexplained"] = 0.6
    batch_size: Annotated[int, "shapes an iteration"] = 32


@dataclass(frozen=True)
class Cooperation(Schedule):
    """How a generator then learns from the descriptor, whose learning rate is likelihood's."""

    anchor: Annotated[bool, "keep the regression on the shapes beside that on revised ones"] = True
    revision_steps: Annotated[
        int, "Langevin steps of a revision, afterwards", Flag("revision_steps")
    ] = 30
    inference_steps: Annotated[
        int | None, "steps that infer latents anew; none keeps them", Flag("inference_steps")
    ] = None
    inference_step_size: Annotated[float, "√Δτ of these", Flag("inference_step_size")] = 0.02


# The networks that learn by denoising, by name, and the arguments of `conditional` that they have.
ANNEALED: dict[str, dict[str, Any]] = {
    "conditional": {},
    "conditional_patches": {"voxels": 0},
    "surfaces": {"conditions": 1, "code": 0, "observed": True},
}


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, beside the shapes.

    A run pretrains by matching, then maximises the likelihood; or it learns by denoising. A
    cooperative run then teaches a generator, by the shapes alone and by the descriptor. A
    classifier, no descriptor, is trained with labels. A run for features fits a logistic
    regression, with labels, to what the descriptor sees.

    Flags, `config.json` and cards have the settings in one flat list, as `descnet3d.fields` makes
    it: `flat()` gives it and `changed(sampling_steps=30)` takes it.
    """

    task: Annotated[str, "what the model is for, such as recovery or super_resolution"] = (
        "synthesis"
    )
    recovery: Annotated[Recovery, "Recovered shapes"] = Recovery()
    super_resolution: Annotated[SuperResolution, "Coarse shapes"] = SuperResolution()
    refinement: Annotated[Refinement, "Coarser shapes"] = Refinement()
    start: Annotated[
        str | None, "the preset whose network training begins with; none: a new network"
    ] = None
    layers: Annotated[
        str | None, "the start's layers that learn, with commas, * for any letters; none: all"
    ] = None
    network: Annotated[
        str,
        "a network of descnet3d.models.networks, by name, or conditional, conditional_patches, "
        "surfaces",
    ] = "base"
    voxel_mean: Annotated[
        float | None, "what model space subtracts from occupancy; none: the mean training voxel"
    ] = 0.5
    reference_std: Annotated[float, "the standard deviation s of the Gaussian reference"] = 0.5
    batch_size: Annotated[int, "observed shapes an iteration"] = 8
    mirror_axes: Annotated[
        str | None,
        'axes along which shapes are mirrored at random, such as "0" or "01"; or those of each '
        'category, such as "chair:0,table:01"',
    ] = None
    average: Annotated[
        float | None, "the momentum of the averaged weights, which are kept; none: no average"
    ] = 0.999
    clip_norm: Annotated[float | None, "the global norm at which gradients are clipped"] = 2.0
    seed: Annotated[int, "seeds the weights, the order of the shapes and all noise"] = 0
    warmup: Annotated[
        int, "iterations in which rates that decay are reached", Flag("matching_warmup")
    ] = 50
    matching: Annotated[Matching, "Pretraining", Flag("matching")] = Matching()
    likelihood: Annotated[Likelihood, "Maximum likelihood", Flag("likelihood")] = Likelihood()
    denoising: Annotated[Odds, "Learning by denoising", Flag("denoising")] = Odds()
    generator: Annotated[Generator, "The generator", Flag("generator")] = Generator()
    cooperation: Annotated[Cooperation, "Cooperative training", Flag("cooperation")] = Cooperation()
    classifier: Annotated[Schedule, "Supervised training", Flag("classifier")] = Schedule()
    sampling: Annotated[LangevinSettings, "Synthesis", Flag("sampling")] = LangevinSettings()
    annealing: Annotated[AnnealingSettings, "Annealed synthesis", Flag("annealing")] = (
        AnnealingSettings()
    )

    def __post_init__(self) -> None:
        """Refuse what no run can follow; the rest is checked where it is used."""
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, but it is {self.task!r}.")
        settings, own = self.flat(), TASKS[self.task].steps
        for name, value in settings.items():
            if isinstance(value, int) and value < 0:
                raise ValueError(f"{name} must be 0 or more, but it is {value}.")
        for name in ("batch_size", "generator_latents", "generator_batch_size"):
            require_positive_integer(name, settings[name])
        taken_as_it_is = self.task == "features" and self.start
        if not any(settings[name] for name in own) and not taken_as_it_is:
            none = "all are 0" if len(own) > 1 else "it is 0"
            raise ValueError(f"{' or '.join(own)} must be positive; {none}.")
        for task in TASKS.values():
            for name in set(task.steps) - set(own) - set(TASKS["synthesis"].steps):
                if settings[name]:
                    raise ValueError(f"{name} is for the task {task.name}, not for {self.task}.")
        if self.layers and not self.start:
            raise ValueError("layers chooses among those of a start, and no start is given.")
        if self.likelihood.objective.chains.start == "generator":
            raise ValueError(
                "chains must be one of persistent, noise, data, but it is 'generator'."
            )
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2³², but it is {self.seed}.")
        self.mirrored()
        require_products("denoising_native", self.denoising.native)
        if self.denoising.native != "no" and not self.denoising.steps:
            raise ValueError(
                f"denoising_native={self.denoising.native} is for denoising_steps, and there are "
                "none: only annealed descriptors learn in native code."
            )
        if (self.network == "surfaces") != (self.task == "refinement"):
            raise ValueError(
                f"the network {self.network!r} and the task {self.task} do not fit: surfaces "
                "learns refinement, and nothing else does."
            )
        if (self.network in ANNEALED) != bool(self.denoising.steps) and not taken_as_it_is:
            raise ValueError(
                f"the network {self.network!r} and {self.denoising.steps} denoising_steps do not "
                f"fit: these train {' or '.join(map(repr, ANNEALED))}, and nothing else does."
            )

    def mirrored(self) -> Any:
        """The axes along which shapes are mirrored: those of all, or by the name of a category.

        Raises:
            ValueError: there is no such axis, or each category has its own and no network knows.
        """
        axes = self.mirror_axes or ""
        parts = [part.rpartition(":") for part in axes.split(",")]
        if not all(set(own.strip()) <= set("012") for _, _, own in parts):
            raise ValueError(f"mirror_axes must be made of 0, 1 and 2, but it is {axes!r}.")
        if ":" not in axes:
            return tuple(map(int, axes))
        if not self.denoising.steps:
            raise ValueError(
                "mirror_axes of each category are for denoising_steps: give the same to all, such "
                f"as 0, but it is {axes!r}."
            )
        return {category.strip(): tuple(map(int, own.strip())) for category, _, own in parts}

    def shared_by(self, workers: int) -> Self:
        """What each of so many workers does who follow the recipe together.

        Shapes and chains of an iteration are shared out; where that leaves a rest, rounded up.
        """
        shared = ("batch_size", "generator_batch_size", "chains_per_step", "chains_count")
        settings = self.flat()
        return self.changed(
            **{name: -(-settings[name] // workers) for name in shared if settings[name]}
        )

    @property
    def condition(self) -> Condition | None:
        """What is known of shapes; None where nothing is, as in synthesis."""
        return condition_of(self.flat())

    def flat(self) -> dict[str, Any]:
        """All settings, by the names that flags and configs have for them."""
        return flat(self)

    def changed(self, **changes: Any) -> Self:
        """The same recipe but for some settings, by these names.

        Raises:
            ValueError: a name is that of no setting, or the settings do not fit.
        """
        return changed(self, changes)


_BASE = Recipe(
    matching=Matching(26000, 1.2e-3),
    likelihood=Likelihood(
        learning_rate=3e-5,
        objective=MaximumLikelihood(
            weight=0.001,
            langevin=LangevinSettings(step_size=0.0866, temperature=0.09),
            chains=ChainSettings(count=100, restart_rate=0.05),
        ),
    ),
    cooperation=Cooperation(learning_rate=3e-4),
    sampling=LangevinSettings(200, 0.0866, temperature=0.0, rounds=4),
)
# Hidden voxels, and fine shapes of coarse ones: paths begin at little noise, and so does the
# descent, which is short because much is known.
_CONDITIONAL = _BASE.changed(
    average=0.998,
    clip_norm=1.0,
    matching_steps=4000,
    matching_learning_rate=1e-3,
    matching_least_noise=0.5,
    sampling_steps=120,
    sampling_initial_std=0.0,
    sampling_rounds=3,
)
RECIPES = {
    "base": _BASE,
    # The same, finished by maximum likelihood with Langevin dynamics.
    "base_likelihood": _BASE.changed(likelihood_steps=150),
    # One descriptor of all categories at every noise level, E(Y | c, level).
    "annealed": _BASE.changed(
        network="conditional",
        matching_steps=0,
        denoising_steps=38000,
        gradient_steps=6000,
        mirror_axes="bathtub:01,bed:0,chair:0,desk:0,dresser:1,monitor:1,night_stand:1,sofa:1,"
        "table:01,toilet:0",
        average=0.9995,
        clip_norm=0.5,
        annealing_first_level=100.0,
        annealing_whole_below=4.0,
    ),
    "recovery": _CONDITIONAL.changed(task="recovery"),
    "super_resolution": _CONDITIONAL.changed(task="super_resolution"),
    # Surfaces of no category and no place: finer shapes of coarser ones.
    "surfaces": _BASE.changed(
        task="refinement",
        network="surfaces",
        matching_steps=0,
        denoising_steps=10000,
        denoising_learning_rate=1.5e-3,
        mirror_axes="01",
        average=0.999,
        clip_norm=0.5,
        annealing_first_level=20.0,
    ),
    # A generator, taught by the shapes and then by a descriptor that is trained already (`start`).
    "cooperative": _BASE.changed(
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
    # A descriptor at every noise level that is never told a category, and a logistic regression on
    # what it sees; where one is trained already (`start`), with denoising_steps=0.
    "features": _BASE.changed(
        task="features",
        network="conditional_patches",
        matching_steps=0,
        denoising_steps=14000,
        denoising_learning_rate=1.5e-3,
        denoising_untold=1.0,
        denoising_level_median=2.0,
        denoising_fine_weight=0.25,
        annealing_feature_level=0.5,
        mirror_axes="0",
        average=0.999,
        clip_norm=0.5,
    ),
    # A supervised network, by which generated shapes are judged.
    "classifier": _BASE.changed(
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
        voxel_mean=None,
        batch_size=20,
        average=None,
        clip_norm=None,
        matching=Matching(objective=EquilibriumMatching(weight=0.0)),
        likelihood=Likelihood(
            steps=54000,
            learning_rate=0.01,
            step_per_pass=True,
            objective=MaximumLikelihood(
                langevin=LangevinSettings(initial_std=1.0), noise_until_epoch=101
            ),
        ),
        sampling=LangevinSettings(2000, temperature=0.0, initial_std=1.0),
    ),
}


def flags_of(name: str, recipe: Recipe) -> list[str]:
    """The command-line flags that make a recipe of the one with a name."""
    before = RECIPES[name].flat()
    changes = {key: value for key, value in recipe.flat().items() if value != before[key]}
    given = [f"--{key}={'none' if value is None else value}" for key, value in changes.items()]
    return [f"--recipe={name}", *given]
