"""Recovery and super-resolution, measured beside simple baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from descnet3d.datasets.archives import VoxelArchive, find_label
from descnet3d.energy.conditions import Recovery, Task
from descnet3d.evaluation import shape_distances
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.shapes import blocks, corruptions


class Problem(NamedTuple):
    """What is known of shapes, and what is to be found.

    Attributes:
        truth: occupancy, float32 `[n, D, H, W]`.
        known: what can be seen of it, float32 `[n, D, H, W]`: the visible voxels, or the block
            averages spread over their blocks.
        hidden: bool `[n, D, H, W]`: the voxels whose error counts.
        coarse: the block averages `[n, d, h, w]`; None in recovery.
    """

    truth: np.ndarray
    known: np.ndarray
    hidden: np.ndarray
    coarse: np.ndarray | None


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


def pose(task: Task, shapes: np.ndarray, seed: int = 0) -> Problem:
    """Make problems of known solution: the same for the same shapes and seed, everywhere.

    Args:
        task: recovery or super-resolution.
        shapes: the truth, occupancy `[n, D, H, W]`.
        seed: chooses the hidden voxels.
    """
    truth = np.asarray(shapes, dtype=np.float32)
    if isinstance(task, Recovery):
        generator = np.random.default_rng(seed)
        visible = corruptions.visible_voxels(truth, task.corruption, generator)
        return Problem(truth, np.where(visible, truth, 0.0), ~visible, None)
    return pose_blocks(truth, task.ratio)


def pose_blocks(truth: np.ndarray, ratio: int) -> Problem:
    """Problems of super-resolution by a ratio, of occupancy `[n, D, H, W]`."""
    coarse = blocks.average(truth, ratio)
    known = blocks.spread(coarse, truth.shape[1:])
    return Problem(truth, known, np.ones(truth.shape, dtype=bool), coarse)


def batch_size(grid: tuple[int, ...]) -> int:
    """How many shapes to work on at a time: 32 at 32³, fewer on larger grids, for the memory."""
    return max(1, min(32, 2**20 // int(np.prod(grid))))


def solve(
    model: EnergyBasedModel, problem: Problem, *, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """What a model makes of the problems, occupancy `[n, D, H, W]`."""
    options: dict[str, Any] = {
        "seed": seed,
        "batch_size": batch_size(model.grid),
        "progress": progress,
    }
    if problem.coarse is not None:
        return model.super_resolve(problem.coarse, **options)
    return model.recover(problem.known, ~problem.hidden, **options)


def score(found: np.ndarray, problem: Problem) -> ReconstructionScores:
    """The scores of what was found, `[n, D, H, W]` in [0, 1]."""
    difference = np.abs(found - problem.truth)[problem.hidden].astype(np.float64)
    one, other = found > shape_distances.THRESHOLD, problem.truth > shape_distances.THRESHOLD
    both = (one & other & problem.hidden).sum(axis=(1, 2, 3))
    either = ((one | other) & problem.hidden).sum(axis=(1, 2, 3))
    return ReconstructionScores(
        shapes=len(found),
        absolute_error=float(difference.mean()),
        squared_error=float(np.square(difference).mean()),
        iou=float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean()),
    )


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


def baselines(task: Task) -> dict[str, Callable[[Problem, np.ndarray], np.ndarray]]:
    """The baselines of a task, by name."""
    if isinstance(task, Recovery):
        return {"mean training shape": mean_shape, "nearest training shape": nearest_training_shape}
    return {
        "nearest up-scaling": nearest_upscaling,
        "trilinear up-scaling": trilinear_upscaling,
        "nearest training shape": nearest_training_shape,
    }


def evaluate_reconstruction(
    model: EnergyBasedModel,
    task: Task,
    archive: VoxelArchive,
    category: str,
    *,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, ReconstructionScores]:
    """A model's scores on the test shapes of a category, and the baselines' on the same problems.

    Args:
        model: a descriptor.
        task: what it is asked.
        archive: shapes with their official split.
        category: which of them.
        seed: chooses the hidden voxels, and what is random in the model.
        progress: whether to show a progress bar.

    Returns:
        Scores by name, the model's first.

    Raises:
        ValueError: when the archive lacks the category, or has other grids than the model.
    """
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
    if archive.occupancy.shape[1:] != model.grid:
        raise ValueError(
            f"the archive has grids of size {archive.occupancy.shape[1:]}, and the model makes "
            f"{model.grid}; give an archive of the model's size."
        )
    problem = pose(task, test, seed)
    scores = {"this model": score(solve(model, problem, seed=seed, progress=progress), problem)}
    for name, baseline in baselines(task).items():
        scores[name] = score(baseline(problem, training), problem)
    return scores


def table(scores: dict[str, ReconstructionScores]) -> str:
    """Scores by name, as a Markdown table."""
    fields = list(asdict(next(iter(scores.values()))))
    lines = [f"| | {' | '.join(fields)} |", "|---" * (len(fields) + 1) + "|"]
    for name, row in scores.items():
        cells = " | ".join(f"{value:.4g}" for value in asdict(row).values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def sheet_rows(
    known: np.ndarray, found: np.ndarray, truth: np.ndarray | None, count: int = 6
) -> tuple[np.ndarray, list[str]]:
    """The shapes of a sheet of `count` columns, a row before, a row after, a row of the truth.

    Args:
        known: as `Problem.known`.
        found: what was found.
        truth: what it should be; None where nobody knows.
        count: how many shapes.

    Returns:
        Shapes `[m, D, H, W]`, and a label for each.
    """
    rows = {"before": known, "after": found, **({} if truth is None else {"truth": truth})}
    shapes = np.concatenate([row[:count] for row in rows.values()])
    labels = [name for name, row in rows.items() for _ in row[:count]]
    return shapes, labels
