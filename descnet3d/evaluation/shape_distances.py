"""Figures of merit of sets of shapes, on thresholded occupancy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

THRESHOLD = 0.5
_PIECE = 256


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every shape of one set with every shape of another: `|A ∩ B| / |A ∪ B|`.

    Args:
        first: occupancy `[n, D, H, W]`, thresholded at 0.5.
        second: occupancy `[m, D, H, W]`, likewise.

    Returns:
        A float64 array `[n, m]`; two empty shapes have an IoU of 1.

    Raises:
        ValueError: when the grids differ.
    """
    _require_same_grid(first.shape[1:], second.shape[1:])
    first, second = _solid(first), _solid(second)
    rows = first.astype(np.float32)
    # Counts are exact in float32; pieces of the second set stay in the processor's cache.
    pieces = [second[at : at + _PIECE] for at in range(0, len(second), _PIECE)]
    counts = [rows @ piece.astype(np.float32).T for piece in pieces]
    intersection = np.concatenate([np.empty((len(rows), 0)), *counts], axis=1)
    union = first.sum(axis=1)[:, None] + second.sum(axis=1) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def surface_voxels(shapes: np.ndarray) -> np.ndarray:
    """Occupied voxels of which a face touches an empty voxel or the grid's end, bool."""
    solid = np.pad(np.asarray(shapes) > THRESHOLD, ((0, 0), *[(1, 1)] * 3))
    inner = solid[:, 1:-1, 1:-1, 1:-1]
    buried = inner.copy()
    for axis in (1, 2, 3):
        for step in (1, -1):
            buried &= np.roll(solid, step, axis=axis)[:, 1:-1, 1:-1, 1:-1]
    return inner & ~buried


@dataclass(frozen=True)
class Surfaces:
    """The surfaces of shapes, and how far all voxels are from them: for many Chamfer distances.

    Attributes:
        grid: `(D, H, W)`.
        points: which voxels are on the surface, bool `[n, D·H·W]`.
        reach: each voxel's squared distance to it, in voxels, float32 `[n, D·H·W]`.
    """

    grid: tuple[int, ...]
    points: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, shapes: np.ndarray) -> Surfaces:
        """Those of occupancy `[n, D, H, W]`, thresholded at 0.5."""
        surfaces = surface_voxels(shapes)
        reach = np.zeros(surfaces.shape, np.float32)
        for out, surface in zip(reach, surfaces, strict=True):
            if surface.any():
                # Whole numbers, which float32 holds as they are.
                out[:] = np.rint(ndimage.distance_transform_edt(~surface) ** 2)
        return cls(surfaces.shape[1:], _flat(surfaces), _flat(reach))

    def __getitem__(self, rows: slice) -> Surfaces:
        """Those of some of the shapes."""
        return replace(self, points=self.points[rows], reach=self.reach[rows])

    def chamfer_distance(self, other: Surfaces) -> np.ndarray:
        """Chamfer distance of every shape to every other's, a float64 array `[n, m]`.

        CD(A, B) = mean over a in A of min over b in B of ‖a - b‖², plus the same with A and B
        changed over, of the centres of occupied voxels that touch an empty one, where the grid's
        side is 1. An empty shape is as far from any other as the grid's diagonal goes, each way.

        Raises:
            ValueError: when the grids differ.
        """
        _require_same_grid(self.grid, other.grid)
        return self._one_way(other) + other._one_way(self).T

    def _one_way(self, targets: Surfaces) -> np.ndarray:
        """Mean squared distance of each shape's points to the nearest of each target."""
        side = max(self.grid)
        farthest = 3.0  # the squared diagonal, in sides
        count = self.points.sum(axis=1)[:, None]
        sums = self.points.astype(np.float32) @ targets.reach.T
        mean = sums.astype(np.float64) / (np.maximum(count, 1) * side**2)
        nothing = count == 0, ~targets.points.any(axis=1)
        return np.where(
            nothing[0] & nothing[1], 0.0, np.where(nothing[0] | nothing[1], farthest, mean)
        )


def _solid(shapes: np.ndarray) -> np.ndarray:
    """Which voxels are occupied, bool `[n, D·H·W]`."""
    return _flat(shapes if shapes.dtype == bool else shapes > THRESHOLD)


def _flat(grids: np.ndarray) -> np.ndarray:
    """`[n, D, H, W]` as `[n, D·H·W]`."""
    return grids.reshape(len(grids), math.prod(grids.shape[1:]))


def _require_same_grid(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise ValueError(f"both sets need the same grid, but they have {first} and {second}.")


class NearestShapes(NamedTuple):
    """For each shape of a set, the nearest of a reference set by IoU.

    Attributes:
        row: where it is in that set, int64 `[n]`.
        iou: its IoU, float64 `[n]`.
    """

    row: np.ndarray
    iou: np.ndarray


def nearest_shapes(shapes: np.ndarray, reference: np.ndarray) -> NearestShapes:
    """The nearest reference shape of each shape, by IoU.

    Args:
        shapes: occupancy `[n, D, H, W]`.
        reference: occupancy `[m, D, H, W]`.
    """
    overlap = intersection_over_union(shapes, reference)
    row = overlap.argmax(axis=1)
    return NearestShapes(row, overlap[np.arange(len(overlap)), row])


def path_steps(path: np.ndarray) -> np.ndarray:
    """1 - IoU of each shape of a path and the next, `[n - 1]`.

    Args:
        path: occupancy `[n, D, H, W]`.
    """
    return 1 - np.diagonal(intersection_over_union(path, path), offset=1)


def occupied_share(shapes: np.ndarray) -> np.ndarray:
    """The share of occupied voxels of each shape, `[n]`."""
    return (shapes > THRESHOLD).reshape(len(shapes), -1).mean(axis=1)


def mean_pairwise_iou(shapes: np.ndarray) -> float:
    """Mean IoU of the pairs within a set: the lower, the more diverse."""
    if len(shapes) < 2:
        raise ValueError(f"shapes must be at least two to make a pair, but there is {len(shapes)}.")
    overlap = intersection_over_union(shapes, shapes)
    return float((overlap.sum() - np.trace(overlap)) / (len(shapes) * (len(shapes) - 1)))
