"""Where triangles meet a grid: the voxels that they pass through, the lines that they cross."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# So many pairs of a triangle and a column of voxels are worked on at once.
_PAIRS = 2**19
# Lines run this far beside the voxels' centres, lest they meet the edges of drawn, regular shapes.
_ASIDE = (3.1e-4, 5.3e-4)


def surface_voxels(corners: np.ndarray, size: int) -> np.ndarray:
    """The voxels that triangles pass through.

    A triangle passes through a voxel when no plane separates the two: it is enough to try the
    voxel's faces, the triangle's plane, and the planes through an edge of each.

    Args:
        corners: float64 `[t, 3, 3]`, the corners of each triangle in voxels, between 0 and `size`.
        size: the side of the grid.

    Returns:
        bool `[size, size, size]`. A triangle that only touches a voxel's upper faces passes it by.
    """
    filled = np.zeros((size, size, size), bool)
    # Most triangles of a fine mesh lie in a single voxel, and need no more than that.
    lowest, sides = _covered(corners, size)
    is_within = (sides == 1).all(axis=1)
    filled[tuple(lowest[is_within].T)] = True
    corners = corners[~is_within]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    along = np.abs(normals).argmax(axis=1)
    for axis in range(3):
        # The axes are renamed, so that the triangles are graphs over the last two of them.
        chosen = (along == axis) & (normals[:, axis] != 0)
        turned = np.roll(corners[chosen], -axis, axis=2)
        normal = np.roll(normals[chosen], -axis, axis=1)
        lowest, sides = _covered(turned, size)
        for some in _batches(sides):
            view = _from_axis(filled, axis)
            _fill(view, turned[some], normal[some], lowest[some], sides[some])
    return filled


def odd_below(corners: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Whether lines along an axis, through voxels' centres, cross the surface oddly often below.

    Args:
        corners: float64 `[t, 3, 3]`, the corners of each triangle in voxels.
        shape: the grid, `(D, H, W)`.
        axis: 0, 1 or 2.

    Returns:
        bool, the axis first and the others in their cyclic order, one longer than the grid along
        the first: below each voxel's centre, and along the whole line.
    """
    turned = np.roll(corners, -axis, axis=2)
    sizes = np.roll(shape, -axis)
    crossed = np.zeros(sizes + [1, 0, 0], np.uint8)
    # Only lines that run through a triangle's box can cross it.
    aside = np.array([0.0, *_ASIDE]) + 0.5
    low, high = _bounds(turned)
    lowest = np.clip(np.ceil(low - aside).astype(np.int64), 0, sizes)
    sides = np.clip(np.floor(high - aside).astype(np.int64) + 1, 0, sizes) - lowest
    meets = (sides[:, 1:] > 0).all(axis=1)
    turned, lowest, sides = turned[meets], lowest[meets], sides[meets]
    for some in _batches(sides):
        _cross(crossed, turned[some], lowest[some], sides[some])
    np.bitwise_xor.accumulate(crossed, axis=0, out=crossed)
    return crossed.view(bool)


def _from_axis(grid: np.ndarray, axis: int) -> np.ndarray:
    """A view of the grid whose axes begin at this one, in cyclic order."""
    return grid.transpose([(axis + step) % 3 for step in range(3)])


def _covered(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest voxel of each triangle's box, and how many it covers along each axis."""
    low, high = _bounds(corners)
    lowest = np.clip(np.floor(low).astype(np.int64), 0, size - 1)
    highest = np.clip(np.ceil(high).astype(np.int64), 1, size)
    return lowest, np.maximum(highest, lowest + 1) - lowest


def _bounds(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Reductions over an axis of three are ten times slower.
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    low = np.minimum(np.minimum(first, second), third)
    return low, np.maximum(np.maximum(first, second), third)


def _batches(sides: np.ndarray) -> Iterator[slice]:
    ends = np.cumsum(sides[:, 1] * sides[:, 2])
    start = 0
    while start < len(ends):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        yield slice(start, stop)
        start = stop


def _fill(filled, corners, normals, lowest, sides) -> None:
    size = len(filled)
    index, place = _runs(sides[:, 1] * sides[:, 2])
    j = lowest[index, 1] + place // sides[index, 2]
    k = lowest[index, 2] + place % sides[index, 2]
    kept = _overlap(corners, (1, 2), index, j, k)
    index, j, k = index[kept], j[kept], k[kept]

    # The heights between which the triangle's plane crosses the column of (j, k).
    slope_j, slope_k = -normals[:, 1] / normals[:, 0], -normals[:, 2] / normals[:, 0]
    anchor = corners[:, 0]
    middle = (
        anchor[index, 0]
        + slope_j[index] * (j + 0.5 - anchor[index, 1])
        + slope_k[index] * (k + 0.5 - anchor[index, 2])
    )
    half = (np.abs(slope_j) + np.abs(slope_k))[index] / 2
    bottom, top = _bounds(corners)
    low = np.maximum(middle - half, bottom[index, 0])
    high = np.minimum(middle + half, top[index, 0])
    first = np.clip(np.floor(low).astype(np.int64), 0, size - 1)
    last = np.clip(np.ceil(high).astype(np.int64), first + 1, size)
    pair, above = _runs(last - first)
    index, i, j, k = index[pair], first[pair] + above, j[pair], k[pair]
    kept = _overlap(corners, (0, 1), index, i, j) & _overlap(corners, (0, 2), index, i, k)
    filled[i[kept], j[kept], k[kept]] = True


def _cross(crossed, corners, lowest, sides) -> None:
    index, place = _runs(sides[:, 1] * sides[:, 2])
    j = lowest[index, 1] + place // sides[index, 2]
    k = lowest[index, 2] + place % sides[index, 2]
    flat = corners[:, :, 1:]
    at = np.stack([j + 0.5 + _ASIDE[0], k + 0.5 + _ASIDE[1]], axis=1)
    # Barycentric weights, times twice the signed area.
    weights = np.empty((len(index), 3))
    for corner in range(3):
        start, end = flat[:, (corner + 1) % 3], flat[:, (corner + 2) % 3]
        edge, away = (end - start)[index], at - start[index]
        weights[:, corner] = edge[:, 0] * away[:, 1] - edge[:, 1] * away[:, 0]
    inside = np.abs(np.sign(weights) @ np.ones(3)) == 3  # all of one sign
    index, j, k, weights = index[inside], j[inside], k[inside], weights[inside]
    height = (weights * corners[index, :, 0]).sum(axis=1) / weights.sum(axis=1)
    above = np.clip(np.ceil(height - 0.5).astype(np.int64), 0, len(crossed) - 1)
    np.bitwise_xor.at(crossed, (above, j, k), 1)


def _runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For runs of these lengths, one after the other: each element's run and its place in it."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _overlap(corners, axes, index, first, second) -> np.ndarray:
    """Whether triangles, seen along the third axis, overlap the unit squares at (first, second)."""
    flat = corners[:, :, axes]
    edges = np.roll(flat, -1, axis=1) - flat
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    edges = edges * np.where(area < 0, -1.0, 1.0)[:, None, None]
    # The signed distance from an edge, times its length, of the square's corner farthest inside.
    reach = (np.abs(edges[..., 0]) + np.abs(edges[..., 1])) / 2
    constant = edges[..., 1] * flat[..., 0] - edges[..., 0] * flat[..., 1] + reach
    inside = np.ones(len(index), bool)
    for edge in range(3):
        distance = (
            edges[index, edge, 0] * (second + 0.5)
            - edges[index, edge, 1] * (first + 0.5)
            + constant[index, edge]
        )
        inside &= distance >= -1e-9
    return inside
