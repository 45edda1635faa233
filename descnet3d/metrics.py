"""Figures of merit of sets of shapes, on thresholded occupancy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"both sets need the same grid, but they have {first.shape[1:]} and {second.shape[1:]}."
        )
    rows = (first > THRESHOLD).reshape(len(first), -1).astype(np.float32)
    columns = (second > THRESHOLD).reshape(len(second), -1).astype(np.float32)
    intersection = (rows @ columns.T).astype(np.float64)
    union = rows.sum(1)[:, None] + columns.sum(1)[None, :] - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


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


def coverage(shapes: np.ndarray, real: np.ndarray) -> float:
    """The share of the real shapes that are the nearest, by IoU, of at least one other shape.

    As Achlioptas et al. (*Learning Representations and Generative Models for 3D Point Clouds*,
    2018) have it, with the IoU for a distance. A set that repeats itself covers little.

    Args:
        shapes: occupancy ``[n, D, H, W]``.
        real: occupancy ``[m, D, H, W]``.
    """
    return len(np.unique(nearest_shapes(shapes, real).row)) / len(real)


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
