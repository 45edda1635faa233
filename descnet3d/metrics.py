"""Figures of merit of sets of shapes, on thresholded occupancy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

THRESHOLD = 0.5


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every shape of one set with every shape of another: |A ∩ B| / |A ∪ B|.

    Args:
        first: occupancy ``[n, D, H, W]``, thresholded at 0.5.
        second: occupancy ``[m, D, H, W]``, likewise.

    Returns:
        A float64 array ``[n, m]``; two empty shapes have an IoU of 1.

    Raises:
        ValueError: when the grids differ.
    """
    _require_same_grid(first, second)
    rows = (first > THRESHOLD).reshape(len(first), -1).astype(np.float32)
    columns = (second > THRESHOLD).reshape(len(second), -1).astype(np.float32)
    intersection = (rows @ columns.T).astype(np.float64)
    union = rows.sum(1)[:, None] + columns.sum(1)[None, :] - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def chamfer_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Chamfer distance of every shape of one set to every shape of another.

    CD(A, B) = mean over a in A of min over b in B of ‖a - b‖², plus the same with A and B changed
    over, of the centres of occupied voxels that touch an empty one, where the grid's side is 1. An
    empty shape is as far from any other as the grid's diagonal goes, each way.

    Args:
        first: occupancy ``[n, D, H, W]``, thresholded at 0.5.
        second: occupancy ``[m, D, H, W]``, likewise.

    Returns:
        A float64 array ``[n, m]``.

    Raises:
        ValueError: when the grids differ.
    """
    _require_same_grid(first, second)
    rows, columns = surface_voxels(first), surface_voxels(second)
    return _one_way(rows, columns) + _one_way(columns, rows).T


def surface_voxels(shapes: np.ndarray) -> np.ndarray:
    """Occupied voxels of which a face touches an empty voxel or the grid's end, bool."""
    solid = np.pad(np.asarray(shapes) > THRESHOLD, ((0, 0), *[(1, 1)] * 3))
    inner = solid[:, 1:-1, 1:-1, 1:-1]
    buried = inner.copy()
    for axis in (1, 2, 3):
        for step in (1, -1):
            buried &= np.roll(solid, step, axis=axis)[:, 1:-1, 1:-1, 1:-1]
    return inner & ~buried


def _one_way(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean squared distance of each set's points to the nearest target of each other set."""
    side = max(points.shape[1:])
    farthest = 3.0  # the squared diagonal, in sides
    reach = [
        ndimage.distance_transform_edt(~target).ravel() ** 2 / side**2
        if target.any()
        else np.full(target.size, farthest)
        for target in targets
    ]
    inside = points.reshape(len(points), -1).astype(np.float64)
    count = inside.sum(axis=1, keepdims=True)
    mean = inside @ np.array(reach).T / np.maximum(count, 1)
    either = (count > 0) | ~targets.reshape(len(targets), -1).any(axis=1)
    return np.where(count > 0, mean, np.where(either, 0.0, farthest))


def _require_same_grid(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"both sets need the same grid, but they have {first.shape[1:]} and {second.shape[1:]}."
        )


class NearestShapes(NamedTuple):
    """For each shape of a set, the nearest of a reference set by IoU.

    Attributes:
        row: where it is in that set, int64 ``[n]``.
        iou: its IoU, float64 ``[n]``.
    """

    row: np.ndarray
    iou: np.ndarray


def nearest_shapes(shapes: np.ndarray, reference: np.ndarray) -> NearestShapes:
    """The nearest reference shape of each shape, by IoU.

    Args:
        shapes: occupancy ``[n, D, H, W]``.
        reference: occupancy ``[m, D, H, W]``.
    """
    overlap = intersection_over_union(shapes, reference)
    row = overlap.argmax(axis=1)
    return NearestShapes(row, overlap[np.arange(len(overlap)), row])


def path_steps(path: np.ndarray) -> np.ndarray:
    """1 - IoU of each shape of a path and the next, ``[n - 1]``.

    Args:
        path: occupancy ``[n, D, H, W]``.
    """
    return 1 - np.diagonal(intersection_over_union(path, path), offset=1)


def occupied_share(shapes: np.ndarray) -> np.ndarray:
    """The share of occupied voxels of each shape, ``[n]``."""
    return (shapes > THRESHOLD).reshape(len(shapes), -1).mean(axis=1)


def mean_pairwise_iou(shapes: np.ndarray) -> float:
    """Mean IoU of the pairs within a set: the lower, the more diverse."""
    if len(shapes) < 2:
        raise ValueError(f"shapes must be at least two to make a pair, but there is {len(shapes)}.")
    overlap = intersection_over_union(shapes, shapes)
    return float((overlap.sum() - np.trace(overlap)) / (len(shapes) * (len(shapes) - 1)))
