"""Recovery and super-resolution, measured beside simple baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from descnet3d.datasets.archives import VoxelArchive, find_label
from descnet3d.energy.tasks import Condition, Problem, task_of
from descnet3d.evaluation import shape_distances
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.shapes import blocks
from descnet3d.tables import table


@dataclass(frozen=True)
class ReconstructionScores:
    """How far shapes are from the truth, over the voxels that had to be found.

    Attributes:
        shapes: how many there are.
        absolute_error: the mean of `|Y - Ŷ|` over those voxels.
        squared_error: the mean of (Y - Ŷ)².
        iou: the IoU of both, thresholded at 0.5, within those voxels; a mean over the shapes.
    """

    shapes: int
    absolute_error: float
    squared_error: float
    iou: float


def batch_size(grid: tuple[int, ...]) -> int:
    """How many shapes to work on at a time: 32 at 32³, fewer on larger grids, for the memory."""
    return max(1, min(32, 2**20 // int(np.prod(grid))))


def solve(
    model: EnergyBasedModel | SurfaceDescriptor,
    condition: Condition,
    problem: Problem,
    *,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """What a model makes of the problems of a condition, occupancy `[n, D, H, W]`."""
    at_once = batch_size(problem.truth.shape[1:])
    return condition.solve(model, problem, seed=seed, batch_size=at_once, progress=progress)


class Tally:
    """Scores of shapes that come in batches."""

    def __init__(self) -> None:
        self._shapes = self._voxels = 0
        self._absolute = self._squared = self._iou = 0.0

    def add(self, found: np.ndarray, problem: Problem) -> None:
        """Count what was found, `[n, D, H, W]` in [0, 1]."""
        difference = np.abs(found - problem.truth)[problem.hidden].astype(np.float64)
        self._shapes += len(found)
        self._voxels += len(difference)
        self._absolute += float(difference.sum())
        self._squared += float(np.square(difference).sum())
        self._iou += float(_hidden_iou(found, problem).sum())

    def scores(self) -> ReconstructionScores:
        """Those of all that was counted; not a number where there was nothing to find."""
        voxels, shapes = self._voxels or np.nan, self._shapes or np.nan
        return ReconstructionScores(
            self._shapes, self._absolute / voxels, self._squared / voxels, self._iou / shapes
        )


def best_of(samples: np.ndarray, problem: Problem) -> np.ndarray:
    """Of several wholes of each shape the one with the highest IoU over the hidden voxels.

    Args:
        samples: occupancy, `[n, k, D, H, W]`.
        problem: that they were found of.

    Returns:
        `[n, D, H, W]`.
    """
    each = [_hidden_iou(samples[:, index], problem) for index in range(samples.shape[1])]
    return samples[np.arange(len(samples)), np.argmax(each, axis=0)]


def _hidden_iou(found: np.ndarray, problem: Problem) -> np.ndarray:
    """The IoU of each shape with the truth over the hidden voxels, `[n]`; 1 of two empty ones."""
    one, other = found > shape_distances.THRESHOLD, problem.truth > shape_distances.THRESHOLD
    both = (one & other & problem.hidden).sum(axis=(1, 2, 3))
    either = ((one | other) & problem.hidden).sum(axis=(1, 2, 3))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def score(found: np.ndarray, problem: Problem) -> ReconstructionScores:
    """The scores of what was found, `[n, D, H, W]` in [0, 1]."""
    tally = Tally()
    tally.add(found, problem)
    return tally.scores()


def mean_shape(problem: Problem, training: np.ndarray) -> np.ndarray:
    """The mean training shape, where voxels are hidden."""
    return np.where(problem.hidden, training.mean(axis=0, dtype=np.float32), problem.known)


def nearest_training_shape(problem: Problem, training: np.ndarray) -> np.ndarray:
    """The training shape that differs least in what is known, where voxels are hidden."""
    if problem.coarse is not None:
        known = problem.coarse.reshape(len(problem.coarse), -1)
        ratio = problem.truth.shape[1] // problem.coarse.shape[1]
        candidates = np.concatenate([blocks.average(shape[None], ratio) for shape in training])
        candidates = candidates.reshape(len(training), -1)
        distance = (candidates**2).sum(axis=1)[None] - 2 * known @ candidates.T
        return training[distance.argmin(axis=1)].astype(np.float32)
    visible = (~problem.hidden).reshape(len(problem.known), -1).astype(np.float32)
    known = problem.known.reshape(len(problem.known), -1)
    candidates = training.reshape(len(training), -1).astype(np.float32)
    # ‖v·(x - t)‖² of 0-or-1 shapes, but for ‖v·x‖², which is the same for every t.
    distance = visible @ candidates.T - 2 * known @ candidates.T
    nearest = training[distance.argmin(axis=1)].astype(np.float32)
    return np.where(problem.hidden, nearest, problem.known)


def nearest_upscaling(problem: Problem, training: np.ndarray) -> np.ndarray:
    """Each block filled with its average."""
    return problem.known


def trilinear_upscaling(problem: Problem, training: np.ndarray) -> np.ndarray:
    """Trilinear interpolation between the blocks' centres."""
    assert problem.coarse is not None
    ratio = problem.truth.shape[1] // problem.coarse.shape[1]
    zoom = (1, ratio, ratio, ratio)
    fine = ndimage.zoom(problem.coarse, zoom, order=1, mode="nearest", grid_mode=True)
    return np.clip(fine, 0.0, 1.0)


# By the names that tasks give them; each maps problems and the training shapes to shapes.
BASELINES: dict[str, Callable[[Problem, np.ndarray], np.ndarray]] = {
    "mean training shape": mean_shape,
    "nearest training shape": nearest_training_shape,
    "nearest up-scaling": nearest_upscaling,
    "trilinear up-scaling": trilinear_upscaling,
}


def evaluate_reconstruction(
    model: EnergyBasedModel | SurfaceDescriptor,
    condition: Condition,
    archive: VoxelArchive,
    category: str | None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, ReconstructionScores]:
    """A model's scores on the test shapes of a category, and the baselines' on the same problems.

    Args:
        model: a descriptor.
        condition: what is known of the shapes.
        archive: shapes with their official split.
        category: which of them; None for all, each told to a model that knows them.
        seed: chooses the hidden voxels, and what is random in the model.
        progress: whether to show a progress bar.

    Returns:
        Scores by name, the model's first.

    Raises:
        ValueError: when the archive lacks the category, or has other grids than the model.
    """
    tallies: dict[str, Tally] = {}
    for name in archive.classes if category is None else [category]:
        is_to_be_told = category is None and isinstance(model, AnnealedDescriptor)
        asked = model.bound_to(name) if is_to_be_told else model
        problem, found = _of_category(asked, condition, archive, name, seed, progress)
        for row, shapes in found.items():
            tallies.setdefault(row, Tally()).add(shapes, problem)
    return {row: tally.scores() for row, tally in tallies.items()}


def _of_category(
    model: EnergyBasedModel | SurfaceDescriptor,
    condition: Condition,
    archive: VoxelArchive,
    category: str,
    seed: int,
    progress: bool,
) -> tuple[Problem, dict[str, np.ndarray]]:
    """The problems of a category's test shapes, and what each way to solve them finds."""
    label = find_label(category, archive.classes, "the archive")
    own = archive.labels == label
    test, training = (
        archive.occupancy[own & archive.is_test],
        archive.occupancy[own & ~archive.is_test],
    )
    if not len(test) or not len(training):
        raise ValueError(
            f"the archive has {len(training)} training and {len(test)} test shapes of the category "
            f"{category!r}; give one with both."
        )
    is_of_any_grid = isinstance(model, SurfaceDescriptor)
    if archive.occupancy.shape[1:] != model.grid and not is_of_any_grid:
        raise ValueError(
            f"the archive has grids of size {archive.occupancy.shape[1:]}, and the model makes "
            f"{model.grid}; give an archive of the model's size."
        )
    problem = condition.pose(test, seed)
    found = solve(model, condition, problem, seed=seed, progress=progress)
    others = {name: BASELINES[name](problem, training) for name in task_of(condition).baselines}
    return problem, {"this model": found, **others}


def scores_by_name(scores: dict[str, ReconstructionScores]) -> str:
    """Scores by name, as a Markdown table."""
    rows = {name: asdict(row) for name, row in scores.items()}
    return table({name: row.values() for name, row in rows.items()}, next(iter(rows.values())))


def sheet_rows(
    known: np.ndarray, found: np.ndarray, truth: np.ndarray | None, count: int = 6
) -> tuple[np.ndarray, list[str]]:
    """The shapes of a sheet of `count` columns, a row before, a row after, a row of the truth.

    Args:
        known: as `Problem.known`.
        found: what was found, `[n, D, H, W]`, or several of each shape, `[n, k, D, H, W]`.
        truth: what it should be; None where nobody knows.
        count: how many shapes.

    Returns:
        Shapes `[m, D, H, W]`, and a label for each.
    """
    each = found.reshape(len(found), -1, *found.shape[-3:])
    names = ["after", *(f"or {number}" for number in range(2, each.shape[1] + 1))]
    after = {name: each[:, index] for index, name in enumerate(names)}
    rows = {"before": known, **after, **({} if truth is None else {"truth": truth})}
    shapes = np.concatenate([row[:count] for row in rows.values()])
    labels = [name for name, row in rows.items() for _ in row[:count]]
    return shapes, labels
