"""Meshes as occupancy grids, surface or solid, watertight or not."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from descnet3d.shapes.fill import enclose
from descnet3d.shapes.mesh import MAX_COORDINATE, Mesh
from descnet3d.shapes.rasterize import odd_below, surface_voxels
from descnet3d.shapes.transform import GridTransform as GridTransform
from descnet3d.shapes.transform import Up, check_up, upright

Fill = Literal["solid", "surface"]
FILLS = ("solid", "surface")
MAX_SIZE = 256
DEFAULT_SPAN = 0.75
# Coordinates are rounded to this part of a voxel: what lies on a voxel's boundary then does so
# whatever the mesh's units are.
_STEPS = 2.0**20


class Voxelized(NamedTuple):
    """A mesh as a grid.

    Attributes:
        occupancy: bool `[size, size, size]`.
        transform: where the grid lies in the mesh's coordinates.
    """

    occupancy: np.ndarray
    transform: GridTransform


def voxelize(
    mesh: Mesh,
    size: int = 32,
    *,
    fill: Fill = "solid",
    span: float = DEFAULT_SPAN,
    up: Up | None = None,
    turn: float = 0.0,
) -> Voxelized:
    """Puts a mesh on a grid: centred, its longest side `span` of the grid's.

    The surface of a grid that this package wrote comes back as that very grid, where it has the
    size asked for, is to be solid, and neither `span` nor `turn` says otherwise.

    Args:
        mesh: the mesh. Vertices that no triangle uses have no say.
        size: the side of the grid, in voxels.
        fill: "surface" for the voxels that the surface passes through; "solid" for what it
            encloses as well.
        span: the longest side of the mesh, as a share of the grid's, up to 1.
        up: the mesh's upward axis, "z" or "y"; what the mesh says where None. The grid's is z.
        turn: by how many degrees the mesh is turned about the upward axis first, counter-clockwise
            seen from above. Multiples of 90 give exactly the turned grid.

    Returns:
        The grid, and where it lies in the mesh's coordinates.

    Raises:
        ValueError: an argument is not as above.
    """
    up = up or mesh.up
    check_options(size, fill=fill, span=span, up=up, turn=turn)
    corners = _corners(mesh)
    if fill == "solid" and span == DEFAULT_SPAN:
        own = _on_own_grid(mesh, corners, size, up, turn)
        if own is not None:
            return own
    quarters, rest = divmod(turn, 90.0)
    standing = corners @ upright(up, rest).T
    lowest, highest = standing.min(axis=(0, 1)), standing.max(axis=(0, 1))
    scale = float((highest - lowest).max()) / (span * size)
    if not scale > 0:
        raise ValueError("mesh is a single point, so it has no surface")
    middle = lowest / 2 + highest / 2
    placed = (standing - middle) / scale
    # Whatever lies between two voxels belongs to the one nearer to the middle of the grid, so that
    # a box of whole voxels becomes just these.
    placed = np.round(placed * _STEPS) / _STEPS * (1 - 0.25 / (_STEPS * size)) + size / 2
    occupancy = surface_voxels(placed, size)
    if fill == "solid":
        occupancy = enclose(occupancy, placed)
    occupancy = np.ascontiguousarray(np.rot90(occupancy, int(quarters) % 4, axes=(0, 1)))
    offset = upright("z", 90.0 * quarters) @ middle - scale * size / 2
    return Voxelized(occupancy, GridTransform(scale, tuple(offset.tolist()), up, turn))


def _on_own_grid(
    mesh: Mesh, corners: np.ndarray, size: int, up: Up, turn: float
) -> Voxelized | None:
    """The grid whose surface this is: the voxels whose centres lie inside."""
    if mesh.grid is None or mesh.grid.side not in (0, size):
        return None
    transform = mesh.grid.transform
    placed = transform.to_grid(corners)
    # Of a grid of unknown size the shape filled about as much as voxelised ones do.
    fits = placed.min() > -0.5 and placed.max() < size + 0.5
    if mesh.grid.side == 0:
        fits = fits and np.ptp(placed, axis=(0, 1)).max() > size / 2
    if not fits or (transform.up, transform.turn) != (up, turn):
        return None
    inside = np.moveaxis(odd_below(placed, (size,) * 3, 2)[:-1], 0, 2)
    return Voxelized(np.ascontiguousarray(inside), transform) if inside.any() else None


def check_options(
    size: int,
    *,
    fill: str = "solid",
    span: float = DEFAULT_SPAN,
    up: str = "z",
    turn: float = 0.0,
) -> None:
    """Makes sure that a mesh can be voxelised in this way.

    Args:
        size: as in `voxelize`, and so the others.
        fill: "solid" or "surface".
        span: above 0, at most 1.
        up: "z" or "y".
        turn: degrees.

    Raises:
        ValueError: one of them is not as `voxelize` takes it.
    """
    if not 2 <= size <= MAX_SIZE or size != int(size):
        raise ValueError(f"size must be a whole number from 2 to {MAX_SIZE}, but it is {size}.")
    if fill not in FILLS:
        raise ValueError(f'fill must be "solid" or "surface", but it is {fill!r}.')
    if not 0 < span <= 1:
        raise ValueError(f"span must be above 0 and at most 1, but it is {span}.")
    check_up(up)
    if not np.isfinite(turn):
        raise ValueError(f"turn must be a number of degrees, but it is {turn}.")


def _corners(mesh: Mesh) -> np.ndarray:
    vertices, triangles = np.asarray(mesh[0], np.float64), np.asarray(mesh[1])
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"mesh.vertices must be [v, 3], but they are {list(vertices.shape)}.")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        raise ValueError(
            f"mesh.triangles must be whole numbers [t, 3], but they are {triangles.dtype} "
            f"{list(triangles.shape)}"
        )
    if len(triangles) == 0:
        raise ValueError("mesh.triangles is empty, so the mesh has no surface")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(
            f"mesh.triangles run from {triangles.min()} to {triangles.max()}, and there are "
            f"{len(vertices)} vertices"
        )
    corners = vertices[triangles]
    if not np.abs(corners).max() <= MAX_COORDINATE:  # NaN compares with nothing
        raise ValueError("mesh.vertices holds NaN, infinity, or numbers above 1e100")
    return corners
