"""Coarse shapes: the averages of blocks of voxels, and fine shapes that have them."""

from __future__ import annotations

from typing import Any

import numpy as np

from descnet3d.shapes.occupancy import as_occupancy

# Bisection halves an interval of length 2: float32 tells no more apart after so many times.
BISECTIONS = 30


def average(shapes: Any, ratio: int) -> np.ndarray:
    """The coarse shapes that super-resolution starts from.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        ratio: the side of a block, in voxels.

    Returns:
        The blocks' averages, float32 `[n, D/ratio, H/ratio, W/ratio]`.

    Raises:
        ValueError: when the shapes aren't occupancy, or blocks don't fill their grid.
    """
    shapes = as_occupancy(shapes, "shapes")
    if not isinstance(ratio, int) or ratio < 1 or any(side % ratio for side in shapes.shape[1:]):
        raise ValueError(
            f"ratio must be a whole number that divides the grid {shapes.shape[1:]}, but it is "
            f"{ratio!r}."
        )
    grid = [side // ratio for side in shapes.shape[1:]]
    return _gathered(shapes, grid).mean(axis=-1, dtype=np.float64).astype(np.float32)


def require_whole(coarse: tuple[int, ...], grid: tuple[int, ...]) -> None:
    """Raises a ValueError where a grid is not the same whole multiple of each coarse side."""
    ratios = {fine / side for fine, side in zip(grid, coarse, strict=True)}
    if len(ratios) > 1 or not ratios.pop().is_integer():
        raise ValueError(
            f"coarse must have grids of which the model's {list(grid)} is a whole multiple, but "
            f"they are {list(coarse)}: average blocks of the same number of voxels along each axis."
        )


def spread(coarse: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Each number repeated over its block: `[n, d, h, w]` to `[n, D, H, W]`."""
    for axis, side in enumerate(grid, start=1):
        coarse = np.repeat(coarse, side // coarse.shape[axis], axis=axis)
    return coarse


def with_means(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The occupancy nearest to given values whose blocks have given averages.

    In each block it is clip(v + t, 0, 1) with the t that gives the average: the Euclidean
    projection on the intersection of the box and the plane.

    Args:
        values: `[n, D, H, W]`, any numbers.
        means: the averages in [0, 1], `[n, d, h, w]`.

    Returns:
        float32 `[n, D, H, W]` in [0, 1].
    """
    blocks = _gathered(values, means.shape[1:]).astype(np.float64)
    wanted = means[..., None].astype(np.float64)
    low, high = -blocks.max(-1, keepdims=True), 1 - blocks.min(-1, keepdims=True)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_much = np.clip(blocks + middle, 0, 1).mean(-1, keepdims=True) > wanted
        low, high = np.where(too_much, low, middle), np.where(too_much, middle, high)
    solved = np.clip(blocks + (low + high) / 2, 0, 1).astype(np.float32)
    return _scattered(solved, values.shape)


def _gathered(fine: np.ndarray, grid: Any) -> np.ndarray:
    """`[n, d, h, w, voxels of a block]`."""
    (depth, height, width), count = grid, len(fine)
    split = fine.reshape(
        count, depth, -1, height, fine.shape[2] // height, width, fine.shape[3] // width
    )
    return split.transpose(0, 1, 3, 5, 2, 4, 6).reshape(count, depth, height, width, -1)


def _scattered(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `_gathered` gathered, in its places."""
    count, depth, height, width, _ = blocks.shape
    sides = (shape[1] // depth, shape[2] // height, shape[3] // width)
    split = blocks.reshape(count, depth, height, width, *sides)
    return np.ascontiguousarray(split.transpose(0, 1, 4, 2, 5, 3, 6)).reshape(shape)
