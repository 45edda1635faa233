"""A triangle mesh in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from descnet3d.shapes.transform import GridTransform, Up

# Beyond this the squares of lengths would leave the range of float64.
MAX_COORDINATE = 1e100


class OwnGrid(NamedTuple):
    """The grid whose surface a mesh is.

    Attributes:
        transform: where it lies in the mesh's coordinates.
        side: its side in voxels; 0 where that is not known.
    """

    transform: GridTransform
    side: int


class Mesh(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: float64 `[v, 3]`, in the mesh's own units.
        triangles: int32 `[t, 3]`, indices of vertices.
        up: the upward axis, "z" or "y", as its format has it.
        grid: the grid that it was made from, where this package made it.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    up: Up = "z"
    grid: OwnGrid | None = None
