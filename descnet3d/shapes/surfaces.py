"""Surfaces of occupancy grids as triangle meshes.

Coordinates are in voxels: voxel `[i, j, k]` fills the cube from (i, j, k) to (i+1, j+1, k+1),
z up. open3d makes the meshes; it is imported when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descnet3d.shapes.mesh_form import SURFACES
from descnet3d.shapes.occupancy import as_occupancy

if TYPE_CHECKING:
    from types import ModuleType

    from open3d.geometry import TriangleMesh

# A smooth surface stays so near to the isosurface, in voxels, that it goes around the same centres:
# where it is nearest to one, about a lone voxel, they are 1 / √12 apart, and this is less along any
# direction.
_REACH = 0.16


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


def from_occupancy(
    occupancy, threshold: float = 0.5, surface: str = "cubes", watertight: bool = False
) -> TriangleMesh:
    """The closed surface around the occupied voxels of one grid.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1].
        threshold: voxels above it are occupied; between 0 and 1.
        surface: as in `extract_surface`.
        watertight: as in `extract_surface`.

    Returns:
        An `open3d.geometry.TriangleMesh` in voxel coordinates, triangles facing outwards, with
        vertex and triangle normals.

    Raises:
        ValueError: `occupancy` is not one grid of occupancy, or no voxel of it is occupied.
        ImportError: open3d cannot be imported.
    """
    mesh = as_mesh(*extract_surface(occupancy, threshold, surface, watertight))
    mesh.compute_triangle_normals()
    mesh.compute_vertex_normals()
    return mesh


def as_mesh(vertices: np.ndarray, triangles: np.ndarray) -> TriangleMesh:
    """Arrays, `[v, 3]` and `[t, 3]`, as an `open3d.geometry.TriangleMesh`."""
    geometry = open3d()
    return geometry.geometry.TriangleMesh(
        geometry.utility.Vector3dVector(vertices), geometry.utility.Vector3iVector(triangles)
    )


def extract_surface(
    occupancy, threshold: float = 0.5, surface: str = "cubes", watertight: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface around the occupied voxels of one grid, as arrays.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1].
        threshold: voxels above it are occupied; between 0 and 1.
        surface: "cubes" for the exposed faces of the voxels, whose volume is exactly the number of
            occupied voxels. Where two of them touch along an edge alone, four triangles share
            that edge. "isosurface" for marching cubes through the voxels' centres, where every
            edge has two triangles. "smooth" for the same, its steps smoothed away.
        watertight: whether every edge of cubes has two triangles as well: where two voxels touch
            along an edge alone, each has an edge of its own there, cut at another point. The volume
            is as exact.

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
            f"occupancy must be one grid [D, H, W], but its shape is "
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
        return _exposed_faces(grid > threshold, watertight)
    vertices, triangles = _isosurface(grid, threshold)
    return (_smoothed(vertices, triangles) if surface == "smooth" else vertices), triangles


def check_options(threshold: float, surface: str) -> None:
    """Makes sure that a surface can be asked for in this way.

    Args:
        threshold: as in `extract_surface`.
        surface: as in `extract_surface`.

    Raises:
        ValueError: one of them is not as `extract_surface` takes it.
    """
    if surface not in SURFACES:
        raise ValueError(f"surface must be one of {', '.join(SURFACES)}, but it is {surface!r}.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, but it is {threshold}.")


def _exposed_faces(filled: np.ndarray, watertight: bool) -> tuple[np.ndarray, np.ndarray]:
    corners_shape = tuple(side + 1 for side in filled.shape)
    quads, voxels = [], []
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
            voxels.append(np.ravel_multi_index(tuple(voxel.T), filled.shape))
    corners = np.concatenate(quads)
    index = np.ravel_multi_index(tuple(np.moveaxis(corners, -1, 0)), corners_shape)
    used, quad = np.unique(index, return_inverse=True)
    quad = quad.reshape(-1, 4)
    vertices = np.stack(np.unravel_index(used, corners_shape), axis=1) - 1.0
    if watertight:
        return _with_own_edges(vertices, quad, np.concatenate(voxels))
    triangles = np.stack([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]], axis=1).reshape(-1, 3)
    return vertices, triangles.astype(np.int32)


def _with_own_edges(
    vertices: np.ndarray, quads: np.ndarray, voxels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of quads `[q, 4]` of voxels `[q]`, two of them at each edge.

    An edge that four quads share belongs to two voxels. Each cuts it at a point of its own, a
    quarter of the way from either end, and the quads there become fans about their middles.
    """
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1), axis=-1)  # [q, 4, 2]
    edge = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)[1].reshape(-1, 4)
    shared = np.bincount(edge.ravel())[edge] == 4
    fans = np.flatnonzero(shared.any(axis=1))
    plain = np.delete(quads, fans, axis=0)
    triangles = [plain[:, [0, 1, 2]], plain[:, [0, 2, 3]]]
    cuts: dict[tuple[int, int], int] = {}
    lowest: dict[int, int] = {}  # the first voxel at each shared edge
    for row in fans:
        for own in edge[row][shared[row]].tolist():
            lowest[own] = min(lowest.get(own, voxels[row]), voxels[row])
    added = list(vertices[quads[fans]].mean(axis=1))
    for number, row in enumerate(fans):
        middle, around = len(vertices) + number, []
        for corner in range(4):
            around.append(quads[row, corner])
            if not shared[row, corner]:
                continue
            own, voxel = int(edge[row, corner]), int(voxels[row])
            if (own, voxel) not in cuts:
                cuts[own, voxel] = len(vertices) + len(added)
                near, far = vertices[edges[row, corner]]
                added.append(near + (far - near) * (0.25 if voxel == lowest[own] else 0.75))
            around.append(cuts[own, voxel])
        ends = np.array(around)
        triangles.append(np.stack([np.full(len(ends), middle), ends, np.roll(ends, -1)], axis=1))
    points = np.concatenate([vertices, np.reshape(added, (-1, 3))])
    return points, np.concatenate(triangles).astype(np.int32)


def _smoothed(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The vertices after a filter that takes the steps away and does not shrink (Taubin, 1995)."""
    mesh = as_mesh(vertices, triangles).filter_smooth_taubin(number_of_iterations=10)
    moved = np.asarray(mesh.vertices) - vertices
    return vertices + np.clip(moved, -_REACH, _REACH)


def decimated(mesh: TriangleMesh, triangles: int) -> TriangleMesh:
    """A mesh of about so many triangles at most, by quadric error metrics (Garland, Heckbert 1997).

    Args:
        mesh: a watertight `open3d.geometry.TriangleMesh`.
        triangles: how many; at least 4.

    Returns:
        The mesh as it is where it has no more. One that would not be watertight with so few (a
        cloud of crumbs, say) has as many more as it takes.

    Raises:
        ValueError: `triangles` is less than 4.
    """
    if triangles < 4:
        raise ValueError(f"triangles must be at least 4, but it is {triangles}.")
    while triangles < len(mesh.triangles):
        fewer = mesh.simplify_quadric_decimation(triangles)
        if len(fewer.triangles) and _has_two_triangles_an_edge(np.asarray(fewer.triangles)):
            return fewer
        triangles += triangles // 4
    return mesh


def _has_two_triangles_an_edge(triangles: np.ndarray) -> bool:
    edges = np.concatenate([triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    counts = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)[1]
    return bool((counts == 2).all())


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
