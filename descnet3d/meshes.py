"""Surfaces of occupancy grids as triangle meshes, and the files that hold them.

Coordinates are in voxels: voxel `[i, j, k]` fills the cube from (i, j, k) to (i+1, j+1, k+1),
z up. open3d makes the meshes; it is imported when one is asked for.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descnet3d import files, voxels
from descnet3d.grid_transform import GridTransform

if TYPE_CHECKING:
    from types import ModuleType

    from open3d.geometry import TriangleMesh

MESH_ENDINGS = (".ply", ".obj", ".stl", ".glb", ".off")
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
    grid = voxels.as_occupancy(np.asarray(occupancy)[None], "occupancy")[0]
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


def save(
    mesh: TriangleMesh, path: str | os.PathLike, transform: GridTransform | None = None
) -> Path:
    """Writes a mesh to a file of the kind that its path ends in.

    Args:
        mesh: an `open3d.geometry.TriangleMesh`.
        path: `.ply`, `.obj`, `.stl`, `.off`, all with z up, or `.glb`, whose format has y up: there
            the mesh is turned so that viewers show it standing. Appears whole or not at all.
        transform: puts the mesh, whose coordinates are a grid's, back into those of the mesh that
            the grid was made from, with the upward axis which that one had.

    Returns:
        The path.

    Raises:
        ValueError: the ending is not one of these, or the path cannot be written.
    """
    ending = _check_ending(path)
    if not mesh.has_triangles():
        raise ValueError(f"mesh has no triangles, so there is nothing to write to {path}")
    geometry = open3d()
    copy = geometry.geometry.TriangleMesh(mesh)
    if transform is not None:
        placed = transform.to_mesh(np.asarray(copy.vertices))
        copy.vertices = geometry.utility.Vector3dVector(placed)
        copy.compute_vertex_normals()
    stands = transform is None or transform.up == "z"
    if ending == ".stl":  # is made of them
        copy.compute_triangle_normals()
    else:  # the other kinds have no place for them, and open3d would warn
        copy.triangle_normals = geometry.utility.Vector3dVector()
    with files.replacing(path) as temporary:
        if ending == ".glb":
            temporary.write_bytes(_glb_bytes(copy.compute_vertex_normals(), stands))
        elif not geometry.io.write_triangle_mesh(str(temporary), copy):
            raise files.OutputError(f"open3d could not write the mesh {path}")
    return Path(path)


def save_all(
    occupancy,
    path: str | os.PathLike,
    threshold: float = 0.5,
    surface: str = "cubes",
    transform: GridTransform | None = None,
) -> tuple[Path, ...]:
    """Writes the surface of every shape of a batch to a file of its own.

    Args:
        occupancy: `[n, D, H, W]` in [0, 1].
        path: for one shape the file, as in `save`; for several `chairs.ply` stands for
            `chairs_00.ply`, `chairs_01.ply` and so on.
        threshold: as in `from_occupancy`.
        surface: as in `from_occupancy`.
        transform: as in `save`, the same for all shapes.

    Returns:
        The paths of the files.

    Raises:
        ValueError: as in `from_occupancy` and `save`. A shape without an occupied voxel is
            reported by its index before any file is written.
    """
    _check_ending(path)
    check_options(threshold, surface)
    shapes = voxels.as_occupancy(occupancy, "occupancy")
    empty = np.flatnonzero(~(shapes > threshold).any(axis=(1, 2, 3)))
    if len(empty):
        raise ValueError(
            f"occupancy has no voxel above the threshold {threshold} in shapes {empty.tolist()}, "
            "so they have no surface; leave them out"
        )
    paths = files.numbered(path, len(shapes))
    for shape, shape_path in zip(shapes, paths, strict=True):
        save(from_occupancy(shape, threshold, surface), shape_path, transform)
    return paths


def _check_ending(path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in MESH_ENDINGS:
        raise ValueError(
            f"meshes are kept in {', '.join(MESH_ENDINGS)} files, and path came as {path}"
        )
    return ending


def _glb_bytes(mesh: TriangleMesh, z_up: bool) -> bytes:
    """A binary glTF 2.0 file. open3d 0.20 writes one that it cannot read back itself."""
    y_up = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]] if z_up else np.eye(3), dtype=np.float32)
    positions = np.asarray(mesh.vertices, dtype="<f4") @ y_up.T
    normals = np.asarray(mesh.vertex_normals, dtype="<f4") @ y_up.T
    indices = np.asarray(mesh.triangles, dtype="<u4").ravel()
    arrays = (positions, normals, indices)
    offsets = np.cumsum([0] + [array.nbytes for array in arrays]).tolist()
    # The numbers are the standard's own: 5126 float32, 5125 uint32, 34962 vertices, 34963 indices.
    document = {
        "asset": {"version": "2.0", "generator": "descnet3d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2}]}],
        "buffers": [{"byteLength": offsets[-1]}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target}
            for offset, array, target in zip(offsets, arrays, (34962, 34962, 34963), strict=False)
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(positions),
                "type": "VEC3",
                "min": positions.min(axis=0).tolist(),
                "max": positions.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": 5126, "count": len(normals), "type": "VEC3"},
            {"bufferView": 2, "componentType": 5125, "count": len(indices), "type": "SCALAR"},
        ],
    }
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)  # chunks are multiples of four bytes
    binary = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
