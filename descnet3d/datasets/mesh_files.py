"""Triangle meshes, read from files that are not trusted.

What comes back is clean: every index is in range, no triangle is degenerate, every vertex is used.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from pathlib import Path

import numpy as np

from descnet3d import numpy_files
from descnet3d.datasets.off_files import parse_off
from descnet3d.shapes.mesh import MAX_COORDINATE, Mesh

MESH_INPUT_ENDINGS = (".off", ".obj", ".ply", ".stl", ".glb")
# ModelNet40's largest file has 100 MB.
MAX_FILE_BYTES = 2**29
MAX_TRIANGLES = 2**25


class MeshError(ValueError):
    """A file holds no mesh that can be used; the message names it and says what is wrong."""


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Reads the triangles of a mesh file, by its ending.

    Faces of more corners are cut into triangles, the parts of a scene are put together as the scene
    places them, and degenerate triangles and vertices that no triangle uses are dropped. Nothing
    but this file is read: materials and textures are left alone.

    Args:
        path: `.off`, `.obj`, `.ply`, `.stl` or `.glb`.

    Returns:
        The mesh, in the file's own coordinates.

    Raises:
        MeshError: the file is missing, empty, damaged, of another kind or too large, or holds no
            triangle that has an area.
    """
    ending = Path(path).suffix.lower()
    if ending not in MESH_INPUT_ENDINGS:
        raise MeshError(f"{path} is no mesh file: those end in {', '.join(MESH_INPUT_ENDINGS)}")
    try:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        if size > MAX_FILE_BYTES:
            raise MeshError(
                f"{path} is {size} bytes long, and files of more than {MAX_FILE_BYTES} are not "
                "read; simplify the mesh"
            )
        content = numpy_files.read_bytes(path)
    except ValueError as error:
        raise MeshError(str(error)) from error
    try:
        vertices, triangles = parse_off(content) if ending == ".off" else _parse(content, ending)
        return _clean(vertices, triangles)
    except ValueError as error:
        raise MeshError(f"{path} {error}") from error


def _clean(vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
    count = len(vertices)
    if len(triangles) > MAX_TRIANGLES:
        raise ValueError(f"has more than {MAX_TRIANGLES} triangles; simplify it")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= count):
        raise ValueError(
            f"has a face with the corners {triangles.min()} to {triangles.max()}, and there are "
            f"only {count} vertices"
        )
    first, second, third = triangles.T if triangles.size else np.zeros((3, 0), int)
    triangles = triangles[(first != second) & (second != third) & (third != first)]
    used, triangles = _only_used(vertices, triangles)
    if len(used) and not np.abs(used).max() <= MAX_COORDINATE:  # NaN compares with nothing
        raise ValueError("has a coordinate that is NaN, infinite or larger than 1e100")
    if len(used):
        extent = np.ptp(used, axis=0).max() or 1.0
        corners = (used / extent)[triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        used, triangles = _only_used(used, triangles[(normals != 0).any(axis=1)])
    if len(triangles) == 0:
        raise ValueError("has no triangle with an area, so no surface")
    return Mesh(np.ascontiguousarray(used, np.float64), triangles.astype(np.int32))


def _only_used(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_used = np.zeros(len(vertices), bool)
    is_used[triangles] = True
    return vertices[is_used], (np.cumsum(is_used) - 1)[triangles]


def _parse(content: bytes, ending: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of the formats that trimesh reads."""
    import trimesh

    if not content.strip():
        raise ValueError("is empty")
    _check_claims(content, ending)
    try:
        # A stream has no folder, so that nothing beside it can be opened.
        scene = trimesh.load_scene(io.BytesIO(content), file_type=ending[1:], process=False)
        placed = [scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry]
    except Exception as error:  # its parsers raise all kinds
        raise ValueError(f"cannot be read as {ending} ({_in_words(error)})") from error
    # A scene may name one part many times, and so be far larger than its file.
    if sum(len(getattr(part, "faces", ())) for part in placed) > MAX_TRIANGLES:
        raise ValueError(f"has more than {MAX_TRIANGLES} triangles; simplify it")
    try:
        mesh = scene.to_mesh()
    except Exception as error:
        raise ValueError(f"cannot be read as {ending} ({_in_words(error)})") from error
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_claims(content: bytes, ending: str) -> None:
    """Finds files that promise more than they hold, or that send the reader elsewhere."""
    if ending == ".ply":
        header = content[: max(content.find(b"end_header"), 0)]
        counts = re.findall(rb"^element[ \t]+\S+[ \t]+(\d+)", header, re.MULTILINE)
        promised, smallest = sum(map(int, counts)), 1
        if not counts:
            raise ValueError("does not begin as a .ply file does")
    elif ending == ".stl" and len(content) >= 84 and content.lstrip()[:5].lower() != b"solid":
        promised, smallest = struct.unpack_from("<I", content, 80)[0], 50
    elif ending == ".glb":
        _check_glb(content)
        return
    else:
        return
    if promised * smallest > len(content):
        raise ValueError(f"promises {promised} elements, and is too short for them")


def _check_glb(content: bytes) -> None:
    try:
        magic, _, _, length, kind = struct.unpack_from("<4sIII4s", content)
        document = json.loads(content[20 : 20 + length])
        buffers = [buffer for buffer in document.get("buffers", []) if "uri" in buffer]
        elsewhere = [buffer["uri"] for buffer in buffers if buffer["uri"][:5] != "data:"]
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("is not a .glb file, or is cut short") from error
    if magic != b"glTF" or kind != b"JSON":
        raise ValueError("is not a .glb file")
    if elsewhere:
        raise ValueError(
            f"keeps its data elsewhere ({str(elsewhere[0])[:80]!r}), which is not fetched; export "
            "it again with everything in one file"
        )
