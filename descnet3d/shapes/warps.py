"""Shapes slightly scaled along each axis and shifted upwards or down, as whole voxels allow."""

from __future__ import annotations

import numpy as np

# What a warp is told by: the scale of each axis and its shift, each in [-1, 1] of the largest.
NUMBERS = 6
LARGEST_SCALE = 1.1275
LARGEST_SHIFT = 2


def draw_warps(count: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Random warps.

    Shapes are shifted along the up axis alone: about the others many are symmetric, and stay so,
    which networks that see mirrored places build on.

    Args:
        count: how many.
        share: the share of shapes that are warped at all.
        generator: where the numbers come from.

    Returns:
        float32 `[count, 6]`: the logarithm of the scale of each axis relative to that of
        `LARGEST_SCALE`, then the shift of each (0 for axes 0 and 1) in parts of
        `LARGEST_SHIFT`; zeros for none.
    """
    numbers = generator.uniform(-1, 1, (count, NUMBERS))
    numbers[:, 3:5] = 0
    numbers[:, 3:] = np.round(numbers[:, 3:] * LARGEST_SHIFT) / LARGEST_SHIFT
    numbers[generator.random(count) >= share] = 0
    return numbers.astype(np.float32)


def warp(occupancy: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Shapes, scaled about the middle of the grid and shifted.

    An enlarged shape repeats slices; in a shrunk one each voxel is occupied where any of those
    that it stands for is, so that thin parts stay.

    Args:
        occupancy: `[n, D, H, W]`, 0 or 1.
        warps: `[n, 6]`, as `draw_warps` gives them.

    Returns:
        float32 `[n, D, H, W]`, 0 or 1.
    """
    warped = np.asarray(occupancy, np.float32)
    for axis in range(3):
        sources = _sources(
            warped.shape[axis + 1],
            LARGEST_SCALE ** warps[:, axis],
            LARGEST_SHIFT * warps[:, axis + 3],
        )
        moved = np.moveaxis(warped, axis + 1, 1)
        flat = moved.reshape(*moved.shape[:2], -1)
        warped = np.moveaxis((sources @ flat).reshape(moved.shape), 1, axis + 1)
    return (warped > 0.5).astype(np.float32)


def _sources(side: int, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Which voxels along an axis each voxel stands for, `[n, side, side]`."""
    middle = (side - 1) / 2
    centre = (np.arange(side) - middle - shift[:, None]) / scale[:, None] + middle
    reach = np.maximum(0.5 / scale - 0.5, 0)[:, None]
    first, last = np.floor(centre - reach + 0.5), np.floor(centre + reach + 0.5)
    source = np.arange(side)
    inside = (source >= first[..., None]) & (source <= last[..., None])
    return inside.astype(np.float32)
