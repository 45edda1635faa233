"""A triangle mesh in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from descnet3d.shapes.transform import Up

# Beyond this the squares of lengths would leave the range of float64.
MAX_COORDINATE = 1e100


class Mesh(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: float64 `[v, 3]`, in the mesh's own units.
        triangles: int32 `[t, 3]`, indices of vertices.
        up: the upward axis, "z" or "y", as its format has it.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    up: Up = "z"
