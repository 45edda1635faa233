"""Where a picture is taken from, and the rays that its pixels see along."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# A narrow lens: nearly parallel, so that near and far voxels keep about the same size.
_FIELD_OF_VIEW = 18.0
_MARGIN = 0.96


class Camera(NamedTuple):
    """A pinhole camera that looks at the centre of a grid.

    Attributes:
        position: where it is, float64 `[3]`, in voxels.
        axes: float64 `[3, 3]`; the rows are the directions right, up and away in the picture.
        focal: the focal length, as a share of the picture's side.
    """

    position: np.ndarray
    axes: np.ndarray
    focal: float


def place_camera(
    grid: tuple[int, int, int], azimuth: float, elevation: float, span: float
) -> Camera:
    """The camera that frames the middle part of a grid, the same from all sides.

    Args:
        grid: the grid's size `(D, H, W)`.
        azimuth: as in `rendering.render`.
        elevation: as in `rendering.render`.
        span: as in `rendering.render`.

    Returns:
        The camera. The upright cylinder around the middle `span` of the grid just fits its picture,
        and the grid's centre is the picture's centre.
    """
    center = np.array(grid, dtype=np.float64) / 2
    turn, rise = math.radians(azimuth), math.radians(elevation)
    away = -np.array(
        [math.cos(turn) * math.cos(rise), math.sin(turn) * math.cos(rise), math.sin(rise)]
    )
    right = np.array([-math.sin(turn), math.cos(turn), 0.0])
    axes = np.stack([right, np.cross(right, away), away])

    radius, height = span * math.hypot(center[0], center[1]), span * center[2]
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    rim = np.concatenate([np.pad(ring, ((0, 0), (0, 1)), constant_values=z) for z in (-1, 1)])
    rim[:, 2] *= height
    across, depth = np.abs(rim @ axes[:2].T).max(axis=1), rim @ axes[2]
    tangent = math.tan(math.radians(_FIELD_OF_VIEW / 2))
    distance = (across / (tangent * _MARGIN) - depth).max()
    return Camera(center - distance * away, axes, 0.5 / tangent)


def in_sight(camera: Camera, low: np.ndarray, high: np.ndarray, side: int) -> tuple[slice, slice]:
    """Which rows and columns of a picture may show what lies in a box, from its low corner on."""
    corners = np.stack(np.meshgrid(*np.stack([low, high], axis=1)), axis=-1)
    right, up, away = camera.axes @ (corners.reshape(-1, 3) - camera.position).T
    places = side * (0.5 + camera.focal * np.stack([-up, right]) / away)
    first = np.clip(np.floor(places.min(axis=1)) - 1, 0, side).astype(int)
    last = np.clip(np.ceil(places.max(axis=1)) + 1, 0, side).astype(int)
    return slice(first[0], last[0]), slice(first[1], last[1])


def rays_of(
    camera: Camera, side: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """float32 `[r, 6]`, origins and unit directions, row by row from the top left."""
    offsets = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    down, across = offsets[rows, None, None], offsets[None, columns, None]
    right, up, away = camera.axes.astype(np.float32)
    directions = (across * right - down * up + camera.focal * away).reshape(-1, 3)
    rays = np.empty((len(directions), 6), dtype=np.float32)
    rays[:, :3] = camera.position
    rays[:, 3:] = unit(directions)
    return rays


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[n, 3]`, of length one each."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors / np.maximum(lengths, 1e-12)
