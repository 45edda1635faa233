"""Triangle meshes, written to files of the kind that a path ends in."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descnet3d import files
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.surfaces import check_options, from_occupancy, open3d
from descnet3d.shapes.transform import GridTransform

if TYPE_CHECKING:
    from open3d.geometry import TriangleMesh

MESH_ENDINGS = (".ply", ".obj", ".stl", ".glb", ".off")


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
    shapes = as_occupancy(occupancy, "occupancy")
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
