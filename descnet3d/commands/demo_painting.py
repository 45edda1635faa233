"""Shapes that are painted as silhouettes: what all of them allow is filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The sides that one looks from, and the axes that a picture's columns and rows, from below, follow.
VIEWS = {
    "From the front (where it faces you)": (1, 2),
    "From the side (where it faces right)": (0, 2),
    "From above (where it faces right)": (0, 1),
}
SHARE = 0.75  # of the grid's side is what can be painted, as much as shapes fill
CANVAS = 288  # pixels, the side of what is painted on


def hull(paintings: Sequence[Any], side: int) -> np.ndarray:
    """The largest shape with the silhouettes that were painted, in the middle of a grid.

    Args:
        paintings: of each of `VIEWS`, what Gradio's sketchpad gives: a dictionary with `layers`,
            uint8 `[height, width, 4]`, which are opaque where something is painted. A view on which
            nothing is painted allows everything.
        side: of the grid, in voxels.

    Returns:
        bool `[side, side, side]`.

    Raises:
        ValueError: when nothing is painted, on one view alone, or no voxel is allowed by all.
    """
    inner = round(SHARE * side)
    seen = [_silhouette(painting, inner) for painting in paintings]
    if sum(silhouette.any() for silhouette in seen) < 2:
        raise ValueError("paint two silhouettes at least: one says nothing of the shape's depth")
    shape = np.ones((inner, inner, inner), bool)
    for silhouette, axes in zip(seen, VIEWS.values(), strict=True):
        if silhouette.any():
            [across] = {0, 1, 2} - set(axes)
            shape &= np.expand_dims(silhouette, across)
    if not shape.any():
        raise ValueError("the silhouettes have no shape in common: paint them at one height")
    return _in_the_middle(shape, side)


def _silhouette(painting: Any, side: int) -> np.ndarray:
    """Where something is painted, bool `[side, side]`: from left to right, from below upwards."""
    from PIL import Image

    painted = np.zeros((side, side), bool)
    for layer in (painting or {}).get("layers", ()):
        opacity = Image.fromarray(np.ascontiguousarray(layer[..., 3]))
        covered = np.asarray(opacity.resize((side, side), Image.Resampling.BOX))
        painted |= covered[::-1].T > 127
    return painted


def _in_the_middle(shape: np.ndarray, side: int) -> np.ndarray:
    filled = np.argwhere(shape)
    low, high = filled.min(0), filled.max(0) + 1
    first = (side - (high - low)) // 2
    grid = np.zeros((side, side, side), bool)
    grid[tuple((filled - low + first).T)] = True
    return grid
