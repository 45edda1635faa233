"""Binary glTF 2.0, which browsers and phones show; open3d 0.20 writes one that it cannot read."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from descnet3d.shapes.rendering import COLOR

# The standard's own numbers.
_FLOAT32, _UINT16, _UINT32 = 5126, 5123, 5125
_VERTICES, _INDICES = 34962, 34963


class Arrays(NamedTuple):
    """A mesh as it is written.

    Attributes:
        vertices: `[v, 3]`.
        normals: `[v, 3]`; None where the faces are flat.
        triangles: `[t, 3]`, indices of vertices.
        name: what the mesh is called, where a file names its meshes.
    """

    vertices: np.ndarray
    normals: np.ndarray | None
    triangles: np.ndarray
    name: str = "shape"


def glb_bytes(meshes: Sequence[Arrays], note: str) -> bytes:
    """A file of some meshes, each a node of one scene.

    Args:
        meshes: y up. Without normals a viewer shows flat faces, as the standard has it.
        note: what the asset says of itself.

    Returns:
        The file.
    """
    buffer = _Buffer()
    nodes: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    for mesh in meshes:
        attributes = {"POSITION": buffer.add(mesh.vertices.astype("<f4"), "VEC3", bounds=True)}
        if mesh.normals is not None:
            attributes["NORMAL"] = buffer.add(mesh.normals.astype("<f4"), "VEC3")
        # The largest number of either kind of index restarts a strip.
        kind = "<u2" if len(mesh.vertices) < 65535 else "<u4"
        indices = buffer.add(mesh.triangles.astype(kind).ravel(), "SCALAR")
        primitive = {"attributes": attributes, "indices": indices, "material": 0}
        nodes.append({"mesh": len(drawn), "name": mesh.name})
        drawn.append({"primitives": [primitive], "name": mesh.name})
    document = {
        "asset": {"version": "2.0", "generator": "descnet3d", "extras": note},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": drawn,
        "materials": [_material()],
        "buffers": [{"byteLength": len(buffer.content)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)  # chunks are multiples of four bytes
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(buffer.content), b"BIN\0") + bytes(buffer.content)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _material() -> dict[str, Any]:
    linear = [round(float((channel / 255) ** 2.2), 4) for channel in COLOR]
    surface = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.85}
    return {"name": "voxels", "pbrMetallicRoughness": surface}


class _Buffer:
    """The binary chunk, as arrays are laid into it, and what the document says of each."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, kind: str, bounds: bool = False) -> int:
        """Lays an array down, and returns the number of its accessor."""
        content = array.tobytes()
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(content)}
        view["target"] = _INDICES if kind == "SCALAR" else _VERTICES
        self.views.append(view)
        self.content += content + bytes(-len(content) % 4)
        components = {"f4": _FLOAT32, "u2": _UINT16, "u4": _UINT32}[array.dtype.str[1:]]
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1, "componentType": components}
        accessor |= {"count": len(array), "type": kind}
        if bounds:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1
