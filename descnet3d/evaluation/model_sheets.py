"""Sheets of what a model does: shapes, paths between latents, repaired shapes, misjudged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from descnet3d.energy import latents
from descnet3d.energy.tasks import Condition
from descnet3d.evaluation import classification, reconstruction
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.latent_model import LatentModel
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.shapes import sheets

COLUMNS = 9


def paths(
    model: LatentModel,
    ends: np.ndarray,
    steps: int,
    *,
    kind: str = "spherical",
    revised: bool = False,
    progress: bool = False,
) -> np.ndarray:
    """Rows of shapes, each on the way between two latents.

    Args:
        model: whose shapes have latents.
        ends: latents, `[m, 2, d]`.
        steps: the shapes of a row.
        kind: "spherical" or "linear".
        revised: whether Langevin dynamics revises the shapes.
        progress: whether to show a progress bar of the revision.

    Returns:
        Occupancy `[m·steps, D, H, W]`.
    """
    rows = np.concatenate([latents.path(a, b, steps, kind) for a, b in ends])
    return model.generate(latents=rows, revised=revised, seed=0, progress=progress)


def sums(
    model: LatentModel, operands: np.ndarray, *, revised: bool = False, progress: bool = False
) -> np.ndarray:
    """Rows of a, b, c and what is made of a - b + c.

    Args:
        model: whose shapes have latents.
        operands: latents, `[m, 3, d]`.
        revised: whether Langevin dynamics revises the shapes.
        progress: whether to show a progress bar of the revision.

    Returns:
        Occupancy `[m·4, D, H, W]`.
    """
    results = operands[:, 0] - operands[:, 1] + operands[:, 2]
    rows = np.concatenate([operands, results[:, None]], axis=1).reshape(-1, operands.shape[-1])
    return model.generate(latents=rows, revised=revised, seed=0, progress=progress)


def cooperation(model: CooperativeNet, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A sheet of `COLUMNS` columns: generated, the same revised, and two paths, revised.

    Returns:
        Shapes `[n, D, H, W]`, and a label for each.
    """
    generated = model.generate(COLUMNS, seed=seed)
    revised = model.synthesize(COLUMNS, seed=seed)
    ends = model.draw_latents(COLUMNS, seed)[:4].reshape(2, 2, -1)
    between = paths(model, ends, COLUMNS, revised=True)
    labels = [name for name in ("generated", "revised") for _ in range(COLUMNS)]
    labels += [f"path {row + 1}, {step + 1}" for row in range(2) for step in range(COLUMNS)]
    return np.concatenate([generated, revised, between]), labels


SHEET_SHAPES = 16
SHEET_COLUMNS = 6


def save_judged(
    model: classification.Classifier, shapes: np.ndarray, labels: np.ndarray, path: Path
) -> None:
    """A sheet of shapes that a classifier takes for something else, or of the first where none."""
    found = model.probabilities(shapes).argmax(axis=1)
    rows = np.flatnonzero(found != labels)[: 3 * SHEET_COLUMNS]
    rows = rows if len(rows) else np.arange(min(len(shapes), SHEET_COLUMNS))
    names = [name.replace("_", " ") for name in model.classes]
    captions = [f"{names[labels[row]]}, as {names[found[row]]}" for row in rows]
    sheets.save_sheet(shapes[rows], path, labels=captions, columns=SHEET_COLUMNS)


def save_model_sheet(
    model: EnergyBasedModel | SurfaceDescriptor,
    condition: Condition | None,
    shapes: np.ndarray,
    path: Path,
    title: str | None = None,
) -> None:
    """Shapes from fresh noise; or given shapes before, after, and as they are."""
    if isinstance(model, CooperativeNet):
        tiles, labels = cooperation(model)
        sheets.save_sheet(tiles, path, labels=labels, columns=COLUMNS, title=title)
        return
    if condition is None:
        assert isinstance(model, EnergyBasedModel)  # whatever else there is knows something
        sheets.save_sheet(model.synthesize(SHEET_SHAPES, seed=0), path, title=title)
        return
    problem = condition.pose(shapes)
    found = reconstruction.solve(model, condition, problem)
    tiles, labels = reconstruction.sheet_rows(problem.known, found, problem.truth)
    sheets.save_sheet(tiles, path, labels=labels, columns=len(shapes), title=title)
