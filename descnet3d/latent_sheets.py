"""What the latents of a cooperative model do, laid out for sheets."""

from __future__ import annotations

import numpy as np

from descnet3d import latents
from descnet3d.models.cooperative import CooperativeNet

COLUMNS = 9


def paths(
    model: CooperativeNet,
    ends: np.ndarray,
    steps: int,
    *,
    kind: str = "spherical",
    revised: bool = False,
    progress: bool = False,
) -> np.ndarray:
    """Rows of shapes, each on the way between two latents.

    Args:
        model: a cooperative model.
        ends: latents, ``[m, 2, d]``.
        steps: the shapes of a row.
        kind: "spherical" or "linear".
        revised: whether Langevin dynamics revises the shapes.
        progress: whether to show a progress bar of the revision.

    Returns:
        Occupancy ``[m·steps, D, H, W]``.
    """
    rows = np.concatenate([latents.path(a, b, steps, kind) for a, b in ends])
    return model.generate(latents=rows, revised=revised, seed=0, progress=progress)


def sums(
    model: CooperativeNet, operands: np.ndarray, *, revised: bool = False, progress: bool = False
) -> np.ndarray:
    """Rows of a, b, c and what the generator makes of a - b + c.

    Args:
        model: a cooperative model.
        operands: latents, ``[m, 3, d]``.
        revised: whether Langevin dynamics revises the shapes.
        progress: whether to show a progress bar of the revision.

    Returns:
        Occupancy ``[m·4, D, H, W]``.
    """
    results = operands[:, 0] - operands[:, 1] + operands[:, 2]
    rows = np.concatenate([operands, results[:, None]], axis=1).reshape(-1, operands.shape[-1])
    return model.generate(latents=rows, revised=revised, seed=0, progress=progress)


def cooperation(model: CooperativeNet, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A sheet of `COLUMNS` columns: generated, the same revised, and two paths, revised.

    Returns:
        Shapes ``[n, D, H, W]``, and a label for each.
    """
    generated = model.generate(COLUMNS, seed=seed)
    revised = model.synthesize(COLUMNS, seed=seed)
    ends = model.draw_latents(COLUMNS, seed)[:4].reshape(2, 2, -1)
    between = paths(model, ends, COLUMNS, revised=True)
    labels = [name for name in ("generated", "revised") for _ in range(COLUMNS)]
    labels += [f"path {row + 1}, {step + 1}" for row in range(2) for step in range(COLUMNS)]
    return np.concatenate([generated, revised, between]), labels
