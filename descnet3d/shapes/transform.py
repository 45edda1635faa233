"""Where a grid lies in the coordinates of the mesh that it was made from.

Voxel `[i, j, k]` fills the cube from (i, j, k) to (i+1, j+1, k+1) of the grid's coordinates, in
which z is up; a mesh has units of its own, and may have y up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Up = Literal["z", "y"]


@dataclass(frozen=True)
class GridTransform:
    """The place of a grid in a mesh's coordinates: the mesh is stood up, turned, moved and scaled.

    Attributes:
        scale: the side of a voxel, in the mesh's units.
        offset: where the grid's corner (0, 0, 0) lies in the mesh that was stood up and turned, in
            its units.
        up: the mesh's upward axis, "z" or "y".
        turn: by how many degrees the mesh is turned about the upward axis, counter-clockwise seen
            from above.
    """

    scale: float
    offset: tuple[float, float, float]
    up: Up = "z"
    turn: float = 0.0

    def __post_init__(self):
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be a positive number, but it is {self.scale}.")
        if len(self.offset) != 3 or not all(map(math.isfinite, self.offset)):
            raise ValueError(f"offset must be three numbers, but it is {self.offset}.")
        object.__setattr__(self, "offset", tuple(map(float, self.offset)))
        if not math.isfinite(self.turn):
            raise ValueError(f"turn must be a number of degrees, but it is {self.turn}.")
        check_up(self.up)

    def to_grid(self, points) -> np.ndarray:
        """Points of the mesh, in the grid's coordinates.

        Args:
            points: `[..., 3]`, in the mesh's units.

        Returns:
            float64 `[..., 3]`, in voxels.
        """
        turned = np.asarray(points, np.float64) @ upright(self.up, self.turn).T
        return (turned - self.offset) / self.scale

    def to_mesh(self, points) -> np.ndarray:
        """Points of the grid, in the mesh's coordinates.

        Args:
            points: `[..., 3]`, in voxels.

        Returns:
            float64 `[..., 3]`, in the mesh's units.
        """
        placed = np.asarray(points, np.float64) * self.scale + self.offset
        return placed @ upright(self.up, self.turn)


def check_up(up: str) -> None:
    """Raises a ValueError where `up` is neither "z" nor "y"."""
    if up not in ("z", "y"):
        raise ValueError(f'up must be "z" or "y", but it is {up!r}.')


def upright(up: Up, turn: float) -> np.ndarray:
    """The rotation that stands a mesh up and turns it.

    Args:
        up: the mesh's upward axis, "z" or "y".
        turn: degrees about the upward axis, counter-clockwise seen from above.

    Returns:
        float64 `[3, 3]`, for column vectors: whole numbers for the multiples of 90 degrees.
    """
    quarters, rest = divmod(turn, 90.0)
    angle = math.radians(rest)
    cosine, sine = math.cos(angle), math.sin(angle)
    for _ in range(int(quarters) % 4):
        cosine, sine = -sine, cosine
    about_z = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    if up == "z":
        return about_z
    return about_z @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
