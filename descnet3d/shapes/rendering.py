"""The renderer: a picture of one shape, without a display.

Rays are cast by open3d's `RaycastingScene` (Embree), on the CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from descnet3d.shapes.camera import place_camera
from descnet3d.shapes.lighting import (
    SUPERSAMPLING,
    Body,
    light_on_body,
    light_on_ground,
    place_lights,
)
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.surfaces import check_options, extract_surface

# In the aligned ModelNet grids chairs, toilets and beds face -y, and sofas and monitors -x: from
# here, between the two, all of them show their front.
AZIMUTH = 233.0
ELEVATION = 26.0
COLOR = (96, 149, 196)
BACKGROUND = (250, 250, 251)
# The longest side of a shape is 0.75 of its grid by the convention of all our data.
_TYPICAL_SPAN = 0.75


def render(
    occupancy,
    size: int = 256,
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
    threshold: float = 0.5,
    surface: str = "cubes",
    color: Sequence[int] = COLOR,
    span: float | None = None,
    transparent: bool = False,
) -> np.ndarray:
    """A picture of one shape, seen from above its front.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1], the last axis up.
        size: the side of the picture, in pixels.
        azimuth: where the camera stands, in degrees about the up axis: 0 on the side of +x, 90 on
            the side of +y.
        elevation: how high it stands, in degrees above the horizon, -90 to 90.
        threshold: voxels above it are shown; between 0 and 1.
        surface: "cubes" or "isosurface", as in `surfaces.extract_surface`.
        color: of the shape, red, green and blue, 0 to 255.
        span: the part of the grid, about its centre, that the picture is framed for, as a share of
            its side. None for 0.75, which holds any shape voxelized by our convention, or for 1
            where the shape reaches further. Pictures of the same span have the same scale.
        transparent: whether the background is left out, for pages of any color; the shadow is then
            translucent.

    Returns:
        uint8 `[size, size, 3]`, or `[size, size, 4]` where it is transparent. Without a voxel above
        the threshold, the bare background.

    Raises:
        ValueError: an argument is not one of the above.
        ImportError: open3d cannot be imported.
    """
    if np.ndim(occupancy) != 3:
        raise ValueError(
            f"occupancy must be one grid [D, H, W], but its shape is "
            f"{list(np.shape(occupancy))}; pass one of the batch, or draw all with view.sheet"
        )
    grid = as_occupancy(np.asarray(occupancy)[None], "occupancy")[0]
    check_options(threshold, surface)
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, but it is {size}.")
    if not -90 <= elevation <= 90:
        raise ValueError(f"elevation must lie between -90 and 90 degrees, but it is {elevation}.")
    paint = np.asarray(color)
    if paint.shape != (3,) or paint.min() < 0 or paint.max() > 255:
        raise ValueError(f"color must be three numbers, 0 to 255, but it is {color}.")
    if span is None:
        span = common_span(grid[None], threshold)
    elif not 0 < span <= 1:
        raise ValueError(f"span must be above 0 and at most 1, but it is {span}.")
    side = size * SUPERSAMPLING
    rows, light, ground = np.zeros(0, int), np.zeros(0), np.ones(side * side)
    if (grid > threshold).any():
        camera = place_camera(grid.shape, azimuth, elevation, span)
        body = Body(*extract_surface(grid, threshold, surface), is_smooth=surface != "cubes")
        lights = place_lights(azimuth)
        ground = light_on_ground(body, camera, lights, side)
        rows, light = light_on_body(body, camera, lights, side)
    painted = _linear(paint) * light[:, None]
    if transparent:
        return _cut_out(rows, painted, ground, size)
    picture = _linear(np.array(BACKGROUND)) * ground[:, None]
    picture[rows] = painted
    return _encode(_reduced(picture, size))


def _reduced(samples: np.ndarray, size: int) -> np.ndarray:
    """The means of the samples of each pixel, `[size, size, channels]`."""
    times = SUPERSAMPLING
    samples = samples.reshape(times * size, times * size, -1)
    parts = [samples[row::times, column::times] for row in range(times) for column in range(times)]
    return functools.reduce(np.add, parts) / len(parts)


def _cut_out(rows: np.ndarray, body: np.ndarray, ground: np.ndarray, size: int) -> np.ndarray:
    """The shape's samples, and a black veil where its shadow lies, over nothing."""
    covered, colors = np.zeros((len(ground), 1)), np.zeros((len(ground), 3))
    covered[rows], colors[rows] = 1.0, body
    # Browsers lay a veil over encoded colors, so that its weight is one of those.
    veil = (1 - np.clip(ground, 0, 1) ** (1 / 2.2))[:, None] * (1 - covered)
    share, opacity = _reduced(covered, size), _reduced(covered + veil, size)
    own = _encode(_reduced(colors, size) / np.maximum(share, 1e-6))
    painted = np.round(own * share / np.maximum(opacity, 1e-6)).astype(np.uint8)
    return np.concatenate([painted, np.round(255 * opacity).astype(np.uint8)], axis=-1)


def common_span(shapes: np.ndarray, threshold: float) -> float:
    """The span for pictures of several shapes that are to have one scale.

    Args:
        shapes: `[n, D, H, W]`.
        threshold: voxels above it are shown.

    Returns:
        0.75 where all shapes keep to the middle 0.75 of the grid, else 1.
    """
    voxel = np.argwhere((shapes > threshold).any(axis=0))
    side = np.array(shapes.shape[1:])
    rim = side * (1 - _TYPICAL_SPAN) / 2
    return _TYPICAL_SPAN if ((voxel >= rim) & (voxel + 1 <= side - rim)).all() else 1.0


def _linear(color: np.ndarray) -> np.ndarray:
    return (color / 255.0) ** 2.2


def _encode(light: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)
