"""A triangle mesh in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Beyond this the squares of lengths would leave the range of float64.
MAX_COORDINATE = 1e100


class Mesh(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: float64 `[v, 3]`, in the mesh's own units.
        triangles: int32 `[t, 3]`, indices of vertices.
    """

    vertices: np.ndarray
    triangles: np.ndarray
