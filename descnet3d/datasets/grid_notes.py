"""A line in a mesh's file that says on which grid its shape lay, so that it comes back exactly.

It names the side of the grid in voxels (0 where that is not known), its place as `GridTransform`
has it, and a checksum of the mesh's bounds, lest it be believed of a mesh that was changed since.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

from descnet3d.shapes.mesh import OwnGrid
from descnet3d.shapes.transform import GridTransform

_NOTE = re.compile(
    rb"descnet3d grid (\d{1,4}) (\S{1,25}) (\S{1,25}) (\S{1,25}) (\S{1,25}) ([zy]) (\S{1,25}) "
    rb"([0-9a-f]{8})(?![0-9a-f])"
)
_LOOKED_AT = 4096  # bytes at each end of a file


def grid_note(vertices: np.ndarray, transform: GridTransform, side: int) -> str:
    """The line.

    Args:
        vertices: `[v, 3]`, as they are written.
        transform: where the grid lies in their coordinates.
        side: the grid's side in voxels, 0 where it is not known.
    """
    numbers = " ".join(f"{value:.17g}" for value in (transform.scale, *transform.offset))
    checksum = _checksum(vertices, transform)
    return f"descnet3d grid {side} {numbers} {transform.up} {transform.turn:.17g} {checksum}"


def find_grid(content: bytes, vertices: np.ndarray) -> OwnGrid | None:
    """The grid that a mesh's file tells of.

    Args:
        content: the file.
        vertices: `[v, 3]`, those of its mesh.

    Returns:
        The grid; None where the file tells of none, or its mesh is another one by now.
    """
    found = _NOTE.search(content, 0, _LOOKED_AT) or _NOTE.search(
        content, max(len(content) - _LOOKED_AT, 0)
    )
    if found is None:
        return None
    side, scale, x, y, z, up, turn, checksum = (
        word.decode("ascii", "replace") for word in found.groups()
    )
    try:
        offset = (float(x), float(y), float(z))
        transform = GridTransform(float(scale), offset, up, float(turn))  # type: ignore[arg-type]
    except ValueError:
        return None
    if _checksum(vertices, transform) != checksum:
        return None
    return OwnGrid(transform, int(side))


def _checksum(vertices: np.ndarray, transform: GridTransform) -> str:
    placed = transform.to_grid(vertices)
    bounds = np.stack([placed.min(axis=0), placed.max(axis=0)])
    if not np.abs(bounds).max() < 1e6:
        return "none"
    return f"{zlib.crc32(np.round(bounds * 64).astype('<i4').tobytes()):08x}"
