"""Surfaces of occupancy grids as triangle meshes.

Coordinates are in voxels: voxel `[i, j, k]` fills the cube from (i, j, k) to (i+1, j+1, k+1),
z up. open3d makes the meshes; it is imported when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descnet3d.shapes.occupancy import as_occupancy

if TYPE_CHECKING:
    from types import ModuleType

    from open3d.geometry import TriangleMesh

SURFACES = ("cubes", "isosurface")


def open3d() -> ModuleType:
    """Imports open3d.

    Returns:
        The module.

    Raises:
        ImportError: open3d is not installed, or a system library that it loads is missing; the
            message says how to install it.
    """
    try:
        import open3d as module
    except (ImportError, OSError) as error:
        raise ImportError(
            f"open3d cannot be imported ({error}). Install it with: pip install open3d. Where a "
            "shared library is missing, on Debian or Ubuntu: "
            "apt-get install libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1"
        ) from error
    return module


def from_occupancy(occupancy, threshold: float = 0.5, surface: str = "cubes") -> TriangleMesh:
    """The closed surface around the occupied voxels of one grid.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1].
        threshold: voxels above it are occupied; between 0 and 1.
        surface: as in `extract_surface`.

    Returns:
        An `open3d.geometry.TriangleMesh` in voxel coordinates, triangles facing outwards, with
        vertex and triangle normals.

    Raises:
        ValueError: `occupancy` is not one grid of occupancy, or no voxel of it is occupied.
        ImportError: open3d cannot be imported.
    """
    vertices, triangles = extract_surface(occupancy, threshold, surface)
    geometry = open3d()
    mesh = geometry.geometry.TriangleMesh(
        geometry.utility.Vector3dVector(vertices), geometry.utility.Vector3iVector(triangles)
    )
    mesh.compute_triangle_normals()
    mesh.compute_vertex_normals()
    return mesh


def extract_surface(
    occupancy, threshold: float = 0.5, surface: str = "cubes"
) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface around the occupied voxels of one grid, as arrays.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1].
        threshold: voxels above it are occupied; between 0 and 1.
        surface: "cubes" for the exposed faces of the voxels, whose volume is exactly the number of
            occupied voxels. Where two of them touch along an edge alone, four triangles share
            that edge. "isosurface" for marching cubes through the voxels' centres, where every
            edge has two triangles.

    Returns:
        Vertices, float64 `[v, 3]` in voxels, and triangles, int32 `[t, 3]`: indices of
        vertices, counter-clockwise seen from outside.

    Raises:
        ValueError: `occupancy` is not one grid of occupancy, no voxel of it is occupied, or
            another argument is not one of the above.
    """
    check_options(threshold, surface)
    if np.ndim(occupancy) != 3:
        raise ValueError(
            f"occupancy must be one grid [D, H, W], and came with shape "
            f"{list(np.shape(occupancy))}; pass one of the batch: occupancy[0]"
        )
    grid = as_occupancy(np.asarray(occupancy)[None], "occupancy")[0]
    if not (grid > threshold).any():
        raise ValueError(
            f"occupancy has no voxel above the threshold {threshold}, so it has no surface (the "
            f"highest is {grid.max():g})"
        )
    # Air all around closes the surface of shapes that reach the side of the grid.
    grid = np.pad(grid, 1)
    if surface == "cubes":
        return _exposed_faces(grid > threshold)
    return _isosurface(grid, threshold)


def check_options(threshold: float, surface: str) -> None:
    """Makes sure that a surface can be asked for in this way.

    Args:
        threshold: as in `extract_surface`.
        surface: as in `extract_surface`.

    Raises:
        ValueError: one of them is not as `extract_surface` takes it.
    """
    if surface not in SURFACES:
        raise ValueError(f'surface must be "cubes" or "isosurface", and came as {surface!r}')
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, and came as {threshold}")


def _exposed_faces(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners_shape = tuple(side + 1 for side in filled.shape)
    quads = []
    for axis in range(3):
        # The two other axes, in the order that makes (axis, first, second) right-handed.
        first, second = (axis + 1) % 3, (axis + 2) % 3
        square = np.zeros((4, 3), dtype=np.int64)
        square[:, first] = [0, 1, 1, 0]
        square[:, second] = [0, 0, 1, 1]
        for side in (0, 1):
            neighbour = np.roll(filled, 1 - 2 * side, axis=axis)
            voxel = np.argwhere(filled & ~neighbour)
            corners = voxel[:, None, :] + square
            corners[..., axis] += side
            quads.append(corners if side == 1 else corners[:, ::-1])
    corners = np.concatenate(quads)
    index = np.ravel_multi_index(tuple(np.moveaxis(corners, -1, 0)), corners_shape)
    used, quad = np.unique(index, return_inverse=True)
    quad = quad.reshape(-1, 4)
    triangles = np.stack([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]], axis=1).reshape(-1, 3)
    vertices = np.stack(np.unravel_index(used, corners_shape), axis=1) - 1.0
    return vertices, triangles.astype(np.int32)


def _isosurface(grid: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    from skimage.measure import marching_cubes

    values = grid.astype(np.float64) - threshold
    # A value exactly at the threshold would put several vertices on one voxel's centre and leave
    # holes where the triangles between them are dropped.
    smallest = 1e-3
    # Four voxels of 0 and 1 in a checkerboard are a tie, which neighbouring cubes may break in
    # different ways and so leave edges with four triangles: lean all ties to the occupied side.
    lean = 1 + 1e-4
    values = np.where(
        values > 0, np.maximum(values, smallest) * lean, np.minimum(values, -smallest)
    )
    vertices, triangles, _, _ = marching_cubes(values, 0.0, gradient_direction="ascent")
    # marching_cubes counts from the centre of the padding's first voxel.
    return vertices.astype(np.float64) - 0.5, triangles.astype(np.int32)
