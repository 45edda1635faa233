"""What a model can be for, each task described once: nothing here loads Keras.

A task is p(Y | what is known of Y). Where something is known, a `Condition` says what: it differs
from synthesis in where chains start, and in the projection after each Langevin step.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from descnet3d.fields import Settings, changed, settings_of
from descnet3d.shapes import blocks, corruptions

if TYPE_CHECKING:
    from descnet3d.energy.constraints import Constraint


class Problem(NamedTuple):
    """What is known of shapes, and what is to be found.

    Attributes:
        truth: occupancy, float32 `[n, D, H, W]`.
        known: what can be seen of it, float32 `[n, D, H, W]`: the visible voxels, or the block
            averages spread over their blocks.
        hidden: bool `[n, D, H, W]`: the voxels whose error counts.
        coarse: the block averages `[n, d, h, w]`; None where voxels are hidden.
    """

    truth: np.ndarray
    known: np.ndarray
    hidden: np.ndarray
    coarse: np.ndarray | None = None


class Condition(Settings, abc.ABC):
    """What is known of a shape, in training and in use; its subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def constraint(self, observed: Any, visible: Any) -> Constraint:
        """What is held of shapes that training observes.

        Args:
            observed: `[n, D, H, W, 1]` in model space.
            visible: what the batch says of them; None where it says nothing.

        Raises:
            ValueError: when the shapes do not fit, or the batch does not say what it has to.
        """

    @abc.abstractmethod
    def pose(self, truth: np.ndarray, seed: int = 0) -> Problem:
        """Problems of known solution, occupancy `[n, D, H, W]`: the same for the same seed."""

    @abc.abstractmethod
    def solve(self, model: Any, problem: Problem, **options: Any) -> np.ndarray:
        """What a model makes of the problems, occupancy `[n, D, H, W]`."""


@dataclass(frozen=True)
class Recovery(Condition):
    """p(Y_M | Y_visible): each iteration hides other voxels of the observed shapes."""

    corruption: Annotated[
        str, "what is hidden: voxels, half, block or scan, and the share, as in voxels:0.7"
    ] = "voxels:0.7"

    def __post_init__(self) -> None:
        """Refuse what no corruption is."""
        corruptions.parse(self.corruption)

    def constraint(self, observed: Any, visible: Any) -> Constraint:
        """The visible voxels; the batch has to say which they are."""
        from descnet3d.energy.constraints import visible_voxels  # loads Keras

        return visible_voxels(observed, visible)

    def pose(self, truth: np.ndarray, seed: int = 0) -> Problem:
        """Shapes with hidden voxels."""
        truth, generator = np.asarray(truth, np.float32), np.random.default_rng(seed)
        visible = corruptions.visible_voxels(truth, self.corruption, generator)
        return Problem(truth, np.where(visible, truth, 0.0), ~visible)

    def solve(self, model: Any, problem: Problem, **options: Any) -> np.ndarray:
        """The shapes whole."""
        return model.recover(problem.known, ~problem.hidden, **options)


@dataclass(frozen=True)
class SuperResolution(Condition):
    """p(Y_high | Y_low): Y_low are the averages of blocks of the observed shapes."""

    ratio: Annotated[int, "the side of a block, in voxels"] = 4

    def __post_init__(self) -> None:
        """Refuse what is no ratio."""
        if not isinstance(self.ratio, int) or self.ratio < 2:
            raise ValueError(f"ratio must be an integer of at least 2, but it is {self.ratio!r}.")

    def constraint(self, observed: Any, visible: Any) -> Constraint:
        """The averages of blocks."""
        from descnet3d.energy.constraints import averages  # loads Keras

        return averages(observed, self.ratio)

    def pose(self, truth: np.ndarray, seed: int = 0) -> Problem:
        """Coarse shapes."""
        truth = np.asarray(truth, np.float32)
        coarse = blocks.average(truth, self.ratio)
        return Problem(
            truth, blocks.spread(coarse, truth.shape[1:]), np.ones(truth.shape, bool), coarse
        )

    def solve(self, model: Any, problem: Problem, **options: Any) -> np.ndarray:
        """The shapes on the fine grid."""
        return model.super_resolve(problem.coarse, **options)


@dataclass(frozen=True)
class Refinement(Condition):
    """p(Y_fine | which blocks of 2³ voxels are occupied): nothing is held of the voxels."""

    block_share: Annotated[
        float, "from which share of its voxels on a block of 2³ counts as occupied"
    ] = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 < self.block_share <= 1:
            raise ValueError(f"block_share must lie in (0, 1], but it is {self.block_share!r}.")

    def constraint(self, observed: Any, visible: Any) -> Constraint:
        """There is none."""
        raise ValueError("refinement is learned by a SurfaceDescriptor: --recipe=surfaces.")

    def pose(self, truth: np.ndarray, seed: int = 0) -> Problem:
        """Shapes half as fine."""
        truth = np.asarray(truth, np.float32)
        coarse = (blocks.average(truth, 2) >= self.block_share).astype(np.float32)
        known = blocks.spread(coarse, truth.shape[1:])
        return Problem(truth, known, np.ones(truth.shape, bool), coarse)

    def solve(self, model: Any, problem: Problem, **options: Any) -> np.ndarray:
        """The shapes on a grid twice as fine."""
        return model.refine(problem.coarse, block_share=self.block_share, **options)


class Task(NamedTuple):
    """What a preset is for, with all that is said of it anywhere.

    Attributes:
        name: what configs and `--task` call it.
        prefix: how the ids of its presets begin.
        description: what the card says of a preset of it, given `category` and `classes`.
        picture: what the sheet of a preset shows.
        command: what is typed to use one, given `id`; `ARCHIVE` are shapes to judge by.
        steps: the settings of a recipe of which one at least has to be positive.
        condition: what is known of a shape; None where nothing is.
        baselines: what its errors are measured beside (`evaluation.reconstruction.BASELINES`).
        fine_tuning: what its recipe takes instead when it goes on from a preset; None where that
            cannot be.
        instead: tasks whose presets do it too, where none of a category is trained for it alone.
    """

    name: str
    prefix: str
    description: str
    picture: str
    command: str
    steps: tuple[str, ...] = ("matching_steps", "likelihood_steps", "denoising_steps")
    condition: type[Condition] | None = None
    baselines: tuple[str, ...] = ()
    fine_tuning: Mapping[str, Any] | None = None
    instead: tuple[str, ...] = ()


_MISJUDGED = "test shapes that this classifier takes for something else"
_TASKS = (
    Task(
        name="synthesis",
        prefix="synthesis",
        description="A 3D DescriptorNet that synthesises: {category}.",
        picture="shapes that this preset synthesised",
        command="synthesize {id} --num=16 --out=shapes.png",
        fine_tuning={"matching_steps": 4000, "matching_learning_rate": 1e-3},
        # The shapes of a generator, revised by the descriptor that has taught it.
        instead=("cooperative",),
    ),
    Task(
        name="recovery",
        prefix="recovery",
        description="A 3D DescriptorNet that recovers hidden voxels: {category}.",
        picture="test shapes with hidden voxels, as recovered, and whole",
        command="recover {id} --input=damaged.off --visible=occupied --out=whole.obj",
        condition=Recovery,
        baselines=("mean training shape", "nearest training shape"),
        fine_tuning={"matching_steps": 1800, "matching_learning_rate": 5e-4},
    ),
    Task(
        name="super_resolution",
        prefix="superres",
        description="A 3D DescriptorNet that refines coarse shapes: {category}.",
        picture="coarse test shapes, as refined, and the truth",
        command="upscale {id} --input=coarse.npz --out=fine.png",
        condition=SuperResolution,
        baselines=("nearest up-scaling", "trilinear up-scaling", "nearest training shape"),
        fine_tuning={"matching_steps": 1800, "matching_learning_rate": 5e-4},
    ),
    Task(
        name="refinement",
        prefix="refinement",
        description="A 3D DescriptorNet of surfaces, which makes shapes of any kind twice as fine, "
        "again and again; it learned from: {category}.",
        picture="test shapes half as fine, as refined, and the truth",
        command="synthesize chair --num=4 --size=128 --out=chairs.png",
        steps=("denoising_steps",),
        condition=Refinement,
        baselines=("nearest up-scaling", "trilinear up-scaling"),
    ),
    Task(
        name="cooperative",
        prefix="cooperative",
        description="A 3D DescriptorNet that synthesises with a generator that it has taught: "
        "{category}.",
        picture="shapes of the generator, the same revised, and paths between two",
        command="generate {id} --num=64 --out=shapes.png",
        steps=("generator_steps", "cooperation_steps"),
        fine_tuning={"matching_steps": 2000, "matching_learning_rate": 1e-3},
    ),
    Task(
        name="features",
        prefix="features",
        description="A logistic regression on what a 3D DescriptorNet, trained without labels, "
        "sees in shapes; its categories: {classes}.",
        picture=_MISJUDGED,
        command="evaluate {id} --data=ARCHIVE",
    ),
    Task(
        name="classification",
        prefix="classifier",
        description="A supervised 3D CNN, by which generated shapes are judged; its categories: "
        "{classes}.",
        picture=_MISJUDGED,
        command="evaluate {id} --data=ARCHIVE",
        steps=("classifier_steps",),
    ),
)
TASKS = {task.name: task for task in _TASKS}
# What fine-tuning changes in the recipe of a task, where it can be.
TUNABLE = {task.name: task.fine_tuning for task in _TASKS if task.fine_tuning}
# And in that of annealed descriptors, whatever their task.
TUNABLE_ANNEALED: dict[str, Any] = {
    "denoising_steps": 2000,
    "denoising_learning_rate": 5e-4,
    "gradient_steps": 1000,
    "average": 0.995,
    "mirror_axes": None,
}


def condition_of(settings: Mapping[str, Any]) -> Condition | None:
    """What is known of shapes in a task, of settings by name (`task`, `corruption`, `ratio`).

    Args:
        settings: the recipe of a preset, or flags; what is missing there is the default.

    Returns:
        The condition; None where nothing is known, as in synthesis.
    """
    task = TASKS.get(settings.get("task") or "synthesis")
    if task is None or task.condition is None:
        return None
    told = {name: settings[name] for name in settings_of(task.condition) if name in settings}
    return changed(task.condition(), told)


def task_of(condition: Condition) -> Task:
    """The task in which this is what is known."""
    return next(task for task in TASKS.values() if task.condition is type(condition))
