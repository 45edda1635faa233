"""Triangle meshes, written to files of the kind that a path ends in."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descnet3d import files
from descnet3d.datasets.grid_notes import grid_note
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.surfaces import check_options, from_occupancy, open3d
from descnet3d.shapes.transform import GridTransform, upright

if TYPE_CHECKING:
    from open3d.geometry import TriangleMesh


def save(
    mesh: TriangleMesh,
    path: str | os.PathLike,
    transform: GridTransform | None = None,
    side: int = 0,
) -> Path:
    """Writes a mesh to a file of the kind that its path ends in.

    Args:
        mesh: an `open3d.geometry.TriangleMesh`.
        path: `.ply`, `.obj`, `.stl`, `.off`, all with z up, or `.glb`, whose format has y up: there
            the mesh is turned so that viewers show it standing. Appears whole or not at all.
        transform: puts the mesh, whose coordinates are a grid's, back into those of the mesh that
            the grid was made from, with the upward axis which that one had.
        side: the side of that grid, in voxels; a note in the file tells of it, so that the mesh is
            voxelised to the very same grid again. 0 where it is not known, or not the same for all.

    Returns:
        The path.

    Raises:
        ValueError: the ending is not one of these, or the path cannot be written.
    """
    ending = _check_ending(path)
    if not mesh.has_triangles():
        raise ValueError(f"mesh has no triangles, so there is nothing to write to {path}")
    place = transform or GridTransform(1.0, (0.0, 0.0, 0.0))
    copy = open3d().geometry.TriangleMesh(mesh)
    vertices = np.asarray(copy.vertices)
    if transform is not None:
        vertices = transform.to_mesh(vertices)
    if ending == ".glb" and place.up == "z":
        vertices, place = vertices @ upright("y", 0.0), replace(place, up="y")
    copy.vertices = open3d().utility.Vector3dVector(vertices)
    copy.compute_vertex_normals()
    arrays = _Arrays(vertices, np.asarray(copy.vertex_normals), np.asarray(copy.triangles))
    content = _WRITERS[ending](arrays, grid_note(vertices, place, side))
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
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
    sides = set(shapes.shape[1:])
    side = sides.pop() if len(sides) == 1 else 0
    for shape, shape_path in zip(shapes, paths, strict=True):
        save(from_occupancy(shape, threshold, surface), shape_path, transform, side)
    return paths


def _check_ending(path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in MESH_ENDINGS:
        raise ValueError(
            f"meshes are kept in {', '.join(MESH_ENDINGS)} files, and path came as {path}"
        )
    return ending


class _Arrays(NamedTuple):
    vertices: np.ndarray  # [v, 3]
    normals: np.ndarray  # [v, 3]
    triangles: np.ndarray  # [t, 3]


def _ply_bytes(mesh: _Arrays, note: str) -> bytes:
    names = ("x", "y", "z", "nx", "ny", "nz")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {note}",
        f"element vertex {len(mesh.vertices)}",
        *(f"property double {name}" for name in names),
        f"element face {len(mesh.triangles)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    faces = np.zeros(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    points = np.concatenate([mesh.vertices, mesh.normals], axis=1).astype("<f8")
    return "\n".join(header).encode("ascii") + points.tobytes() + faces.tobytes()


def _obj_bytes(mesh: _Arrays, note: str) -> bytes:
    lines = [f"# {note}"]
    lines += [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vn {x:.6g} {y:.6g} {z:.6g}" for x, y, z in mesh.normals.tolist()]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in (mesh.triangles + 1).tolist()]
    return ("\n".join(lines) + "\n").encode("ascii")


def _off_bytes(mesh: _Arrays, note: str) -> bytes:
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.triangles)} 0"]
    lines += [f"{x:.17g} {y:.17g} {z:.17g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.triangles.tolist()]
    return ("\n".join([*lines, f"# {note}"]) + "\n").encode("ascii")


def _stl_bytes(mesh: _Arrays, note: str) -> bytes:
    corners = mesh.vertices[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(
        len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    )
    records["normal"] = normals / np.where(lengths > 0, lengths, 1.0)
    records["corners"] = corners
    header = note.encode("ascii") if len(note) <= 80 else b"descnet3d"
    return header.ljust(80) + struct.pack("<I", len(corners)) + records.tobytes()


def _glb_bytes(mesh: _Arrays, note: str) -> bytes:
    """A binary glTF 2.0 file. open3d 0.20 writes one that it cannot read back itself."""
    positions, normals = mesh.vertices.astype("<f4"), mesh.normals.astype("<f4")
    indices = mesh.triangles.astype("<u4").ravel()
    arrays = (positions, normals, indices)
    offsets = np.cumsum([0] + [array.nbytes for array in arrays]).tolist()
    # The numbers are the standard's own: 5126 float32, 5125 uint32, 34962 vertices, 34963 indices.
    document = {
        "asset": {"version": "2.0", "generator": "descnet3d", "extras": note},
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


_WRITERS: dict[str, Callable[[_Arrays, str], bytes]] = {
    ".ply": _ply_bytes,
    ".obj": _obj_bytes,
    ".stl": _stl_bytes,
    ".glb": _glb_bytes,
    ".off": _off_bytes,
}
MESH_ENDINGS = tuple(_WRITERS)
