"""What a surface encloses, watertight or not.

Two things count as inside. One is what a flood from outside does not reach: exact where the surface
has no holes, whatever way its triangles face and however often they are repeated. The other is for
surfaces with holes, through which a flood would empty the whole shape: what no straight look along
an axis from outside reaches, where most of those looks have crossed the surface an odd number of
times. A cup or a bathtub of thin walls is looked into from above, and stays empty.
"""

from __future__ import annotations

import numpy as np

from descnet3d.shapes.rasterize import odd_below


def enclose(surface: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The surface, and what it encloses.

    Args:
        surface: bool `[size, size, size]`, the voxels that the triangles pass through.
        corners: float64 `[t, 3, 3]`, the triangles' corners in voxels.

    Returns:
        bool `[size, size, size]`.
    """
    filled = np.argwhere(surface)
    if len(filled) == 0:
        return surface.copy()
    # Nothing is enclosed outside of the surface's box.
    lowest, beyond = filled.min(axis=0), filled.max(axis=0) + 1
    x, y, z = (slice(start, stop) for start, stop in zip(lowest, beyond, strict=True))
    part = surface[x, y, z]
    inside = unreachable(part)
    doubtful = hidden(part) & ~inside
    if doubtful.any():
        inside |= doubtful & (odd_crossings(corners - lowest, part.shape) > 3)
    solid = surface.copy()
    solid[x, y, z] = inside
    return solid


def unreachable(surface: np.ndarray) -> np.ndarray:
    """The surface's voxels, and those that no path from outside, from face to face, reaches.

    Args:
        surface: bool `[D, H, W]`.

    Returns:
        bool `[D, H, W]`.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(np.pad(~surface, 1, constant_values=True))
    return (parts != parts[0, 0, 0])[1:-1, 1:-1, 1:-1]


def hidden(surface: np.ndarray) -> np.ndarray:
    """The surface's voxels, and those that lie behind one of them from all six sides.

    Args:
        surface: bool `[D, H, W]`.

    Returns:
        bool `[D, H, W]`.
    """
    kept = np.ones_like(surface)
    for axis in range(3):
        kept &= np.maximum.accumulate(surface, axis=axis)
        kept &= np.flip(np.maximum.accumulate(np.flip(surface, axis), axis=axis), axis)
    return kept


def odd_crossings(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How many of the six rays along the axes cross the surface an odd number of times.

    Args:
        corners: float64 `[t, 3, 3]`, the triangles' corners in voxels.
        shape: the grid, `(D, H, W)`.

    Returns:
        int8 `[D, H, W]`, 0 to 6, for the voxels' centres.
    """
    votes = np.zeros(shape, np.int8)
    for axis in range(3):
        below = odd_below(corners, shape, axis)
        odd = below[:-1].astype(np.int8) + (below[:-1] ^ below[-1])
        votes += odd.transpose([(place - axis) % 3 for place in range(3)])
    return votes
