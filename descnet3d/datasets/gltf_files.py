"""glTF 2.0: scenes, in one binary file (`.glb`) or as text with buffers beside it (`.gltf`)."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from descnet3d.datasets.polygons import fans, strip
from descnet3d.numpy_files import read_bytes

_TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
# Extensions that change how a mesh looks and not what it is, and those that are read.
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_xmp", "MSFT_")
_READ = {"KHR_mesh_quantization", "EXT_mesh_gpu_instancing"}
_MAX_BUFFER_BYTES = 2**29
_MAX_TEXT_BYTES = 2**27
_MAX_INSTANCES = 2**20
_MAX_DEPTH = 200


class _GltfError(ValueError):
    """What is wrong, in words for the reader; others are turned into "is damaged"."""


def parse_gltf(
    content: bytes, folder: Path | None, max_triangles: int
) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of a scene, each part placed as the scene places it.

    Args:
        content: the whole file, `.glb` or `.gltf`.
        folder: where the buffers of a `.gltf` file lie; None where none may be read.
        max_triangles: a scene of more is refused before they are made.

    Returns:
        Vertices, float64 `[v, 3]`, y up, and triangles, int64 `[t, 3]`.

    Raises:
        ValueError: this is not glTF, it is damaged, or it needs an extension that is not read; the
            message says how.
    """
    if not content.strip():
        raise ValueError("is empty")
    try:
        document, binary = _split(content)
        with np.errstate(all="ignore"):  # what is not finite is looked for
            return _Scene(document, binary, folder, max_triangles).mesh()
    except _GltfError as error:
        raise ValueError(str(error)) from error
    # Whatever the text of a stranger makes of itself: missing keys, words for numbers, circles.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        told = f"{type(error).__name__}: {error}"[:120]
        raise ValueError(f"cannot be read as glTF, it is damaged ({told})") from error
    except (RecursionError, struct.error) as error:
        raise ValueError("cannot be read as glTF, it is damaged") from error


def _split(content: bytes) -> tuple[dict[str, Any], bytes | None]:
    binary = None
    text = content
    if content[:4] == b"glTF":
        if len(content) < 20:
            raise _GltfError("is a .glb file cut short in its header")
        _, version, length, text_length, kind = struct.unpack_from("<4sIII4s", content)
        if version != 2 or kind != b"JSON":
            raise _GltfError(f"is a .glb file of version {version}, and only version 2 is read")
        if length > len(content) or 20 + text_length > length:
            raise _GltfError(f"promises {length} bytes, and is cut short")
        text, place = content[20 : 20 + text_length], 20 + text_length
        if place + 8 <= length:
            size, kind = struct.unpack_from("<I4s", content, place)
            if place + 8 + size > length:
                raise _GltfError(f"promises {size} bytes of data, and is cut short")
            binary = content[place + 8 : place + 8 + size] if kind == b"BIN\0" else None
    elif content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        raise _GltfError("is not a .glb file, nor a .gltf one")
    if len(text) > _MAX_TEXT_BYTES:
        raise _GltfError("describes its scene in more bytes than are read")
    document = json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant)
    version = str(document["asset"]["version"])
    least = str(document["asset"].get("minVersion", "2.0"))
    if version.split(".")[0] != "2" or least != "2.0":
        version = version if least == "2.0" else least
        raise _GltfError(f"is glTF of version {version[:20]}, and only version 2 is read")
    for name in document.get("extensionsRequired", []):
        if name not in _READ and not name.startswith(_HARMLESS):
            raise _GltfError(
                f"needs the extension {name[:60]}, which is not read; export it again without"
            )
    return document, binary


def _no_constant(word: str) -> float:
    raise _GltfError(f"cannot be read as glTF: it holds {word}")


class _Scene:
    def __init__(self, document, binary: bytes | None, folder: Path | None, max_triangles: int):
        self._document = document
        self._binary = binary
        self._folder = folder
        self._max_triangles = max_triangles
        self._buffers: dict[int, bytes] = {}
        self._primitives: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._global: dict[int, np.ndarray] = {}
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._last: tuple[Any, np.ndarray] = (None, np.zeros(0))
        self._read = self._placed = 0

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        nodes = self._document.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [index for index in range(len(nodes)) if index not in children]
        if self._document.get("scenes") or "scene" in self._document:
            roots = self._item("scenes", self._document.get("scene", 0)).get("nodes", [])
        elif not nodes:  # a library of meshes, which stand where they are
            nodes = [{"mesh": index} for index in range(len(self._document.get("meshes", [])))]
            self._document["nodes"] = nodes
            roots = list(range(len(nodes)))
        order: list[int] = []
        self._place(roots, np.eye(4), order, 0)
        for index in order:
            self._add(index)
        if not self._parts:
            raise _GltfError("has no triangle, so no surface")
        sizes = np.cumsum([0] + [len(vertices) for vertices, _ in self._parts])
        return (
            np.concatenate([vertices for vertices, _ in self._parts]),
            np.concatenate(
                [part + start for (_, part), start in zip(self._parts, sizes, strict=False)]
            ),
        )

    def _item(self, kind: str, index: Any) -> dict[str, Any]:
        items = self._document.get(kind, [])
        if not _is_whole(index) or index >= len(items):
            raise _GltfError(f"is damaged: it names number {index!r} of {len(items)} {kind}")
        return items[index]

    def _place(self, nodes: list[int], above: np.ndarray, order: list[int], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _GltfError(f"has nodes within nodes, more than {_MAX_DEPTH} deep")
        for index in nodes:
            node = self._item("nodes", index)
            if index in self._global:
                raise _GltfError(f"is damaged: its node {index} hangs in two places")
            self._global[index] = above @ _matrix(node)
            order.append(index)
            self._place(node.get("children", []), self._global[index], order, depth + 1)

    def _add(self, index: int) -> None:
        node = self._document["nodes"][index]
        if "mesh" not in node:
            return
        if "skin" in node:
            raise _GltfError("is bent by a skeleton (a skin), which is not read; bake the pose in")
        places = [self._global[index]]
        instancing = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
        if instancing is not None:
            places = [places[0] @ one for one in self._instances(instancing["attributes"])]
        mesh = self._item("meshes", node["mesh"])
        weights = node.get("weights", mesh.get("weights", []))
        for vertices, triangles in self._read_mesh(node["mesh"], mesh, weights):
            self._placed = self._checked(self._placed + len(triangles) * len(places))
            for place in places:
                self._parts.append((vertices @ place[:3, :3].T + place[:3, 3], triangles))

    def _instances(self, attributes: dict[str, int]) -> list[np.ndarray]:
        arrays = {
            name: self._accessor(attributes[key])
            for name, key in (
                ("translation", "TRANSLATION"), ("rotation", "ROTATION"), ("scale", "SCALE")
            )
            if key in attributes
        }  # fmt: skip
        counts = {len(array) for array in arrays.values()}
        if len(counts) != 1:
            raise _GltfError("is damaged: its instances' places are not equally many")
        if max(counts) > _MAX_INSTANCES:
            raise _GltfError(f"repeats a part more than {_MAX_INSTANCES} times")
        return [
            _matrix({name: array[row].tolist() for name, array in arrays.items()})
            for row in range(counts.pop())
        ]

    def _read_mesh(self, index: int, mesh: dict[str, Any], weights: list[float]):
        if any(weights):  # of morph targets; two nodes may weigh one mesh differently
            return [part for one in mesh["primitives"] for part in self._primitive(one, weights)]
        if index not in self._primitives:
            self._primitives[index] = [
                part for one in mesh["primitives"] for part in self._primitive(one, [])
            ]
        return self._primitives[index]

    def _checked(self, triangles: int) -> int:
        if triangles > self._max_triangles:
            raise _GltfError(f"has more than {self._max_triangles} triangles; simplify it")
        return triangles

    def _primitive(self, primitive: dict[str, Any], weights: list[float]):
        mode = primitive.get("mode", 4)
        if mode not in range(7):
            raise _GltfError(f"is damaged: a primitive has the mode {mode!r}")
        if mode < 4:  # points and lines
            return
        packed = primitive.get("extensions", {})
        positions = primitive["attributes"].get("POSITION")
        if positions is None or ("bufferView" not in self._item("accessors", positions) and packed):
            if name := next(iter(packed), None):
                raise _GltfError(f"packs its vertices by {name[:60]}, which is not read")
            raise _GltfError("has a part without positions")
        if self._last[0] != positions:
            self._last = (positions, self._accessor(positions))
        vertices = self._last[1]
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise _GltfError("has positions that are not of three numbers")
        for target, weight in zip(primitive.get("targets", []), weights, strict=False):
            if weight and "POSITION" in target:
                vertices = vertices + weight * self._shifts(target["POSITION"], len(vertices))
        if "indices" in primitive:
            corners = self._accessor(primitive["indices"], whole=True)
        else:
            corners = np.arange(len(vertices))
        if corners.size and corners.max() >= len(vertices):
            raise _GltfError(
                f"has a face with the corner {corners.max()}, and there are only "
                f"{len(vertices)} vertices"
            )
        if mode == 4:
            if len(corners) % 3:
                raise _GltfError(f"is damaged: {len(corners)} corners are no whole triangles")
            triangles = corners.reshape(-1, 3)
        elif mode == 5:
            triangles = strip(corners)
        else:
            triangles = fans(corners, np.array([len(corners)]))
        self._read = self._checked(self._read + len(triangles))
        # Many parts may share their vertices, each using a few.
        used, local = np.unique(triangles, return_inverse=True)
        yield vertices[used], local.reshape(-1, 3)

    def _shifts(self, index: Any, count: int) -> np.ndarray:
        """By how much a morph target moves each vertex; an accessor without data is of zeros."""
        accessor = self._item("accessors", index)
        if (accessor["count"], accessor["type"]) != (count, "VEC3"):
            raise _GltfError("is damaged: a morph target moves other vertices than there are")
        if not {"bufferView", "sparse"} & accessor.keys():
            return np.zeros((count, 3))
        return self._accessor(index)

    def _accessor(self, index: Any, whole: bool = False) -> np.ndarray:
        accessor = self._item("accessors", index)
        count, columns = accessor["count"], _TYPES[accessor["type"]]
        kind = np.dtype(_COMPONENTS[accessor["componentType"]])
        if whole and (kind.kind != "u" or columns != 1 or accessor.get("normalized")):
            raise _GltfError("has corners that are not whole numbers")
        if not _is_whole(count) or count == 0 or count > _MAX_BUFFER_BYTES // 4:
            raise _GltfError(f"cannot be read as glTF: an accessor claims {count!r} elements")
        sparse = accessor.get("sparse")
        if "bufferView" in accessor:
            offset = accessor.get("byteOffset", 0)
            values = self._view(accessor["bufferView"], offset, count, columns, kind)
        elif sparse is None or count > 100 * self._bytes_at_hand():
            # Zeros alone are no shape, and a claim must not cost more than its file.
            raise _GltfError(f"cannot be read as glTF: {count} elements have no data")
        else:
            values = np.zeros((count, columns), kind)
        if sparse is not None:
            values = values.copy()
            self._fill_sparse(values, sparse, kind)
        if whole:
            return values[:, 0].astype(np.int64)
        found = values.astype(np.float64)
        if accessor.get("normalized") and kind.kind in "iu":
            found = np.maximum(found / np.iinfo(kind).max, -1.0)
        return found

    def _bytes_at_hand(self) -> int:
        return max(len(self._binary or b""), 1024)

    def _fill_sparse(self, values: np.ndarray, sparse: dict[str, Any], kind: np.dtype) -> None:
        told, count = sparse["indices"], sparse["count"]
        if not _is_whole(count) or not 0 < count <= len(values):
            raise _GltfError(f"is damaged: {count!r} of {len(values)} values are replaced")
        index_kind = np.dtype(_COMPONENTS[told["componentType"]])
        if index_kind.kind != "u":
            raise _GltfError("is damaged: the places of its sparse values are not whole numbers")
        places = self._view(told["bufferView"], told.get("byteOffset", 0), count, 1, index_kind)
        places = places[:, 0].astype(np.int64)
        if (np.diff(places) <= 0).any() or places[-1] >= len(values):
            raise _GltfError("is damaged: the places of its sparse values are out of order")
        new = sparse["values"]
        columns = values.shape[1]
        values[places] = self._view(
            new["bufferView"], new.get("byteOffset", 0), count, columns, kind
        )

    def _view(
        self, index: Any, offset: Any, count: int, columns: int, kind: np.dtype
    ) -> np.ndarray:
        view = self._item("bufferViews", index)
        start, length = view.get("byteOffset", 0), view["byteLength"]
        width = columns * kind.itemsize
        stride = view.get("byteStride", width)
        if not all(map(_is_whole, (start, length, offset, stride))) or stride < width:
            raise _GltfError("is damaged: a buffer's view has no such place")
        content = self._buffer(view["buffer"])
        if start + length > len(content) or offset + stride * (count - 1) + width > length:
            raise _GltfError("cannot be read as glTF: it promises more data than it holds")
        return np.ndarray((count, columns), kind, content, start + offset, (stride, kind.itemsize))

    def _buffer(self, index: Any) -> bytes:
        if index not in self._buffers:
            buffer = self._item("buffers", index)
            length = buffer["byteLength"]
            if not _is_whole(length) or length > _MAX_BUFFER_BYTES:
                raise _GltfError(f"cannot be read as glTF: a buffer claims {length!r} bytes")
            content = self._load(buffer, index)
            if len(content) < length:
                raise _GltfError(f"promises {length} bytes of data, and they are cut short")
            self._buffers[index] = content[:length]
        return self._buffers[index]

    def _load(self, buffer: dict[str, Any], index: int) -> bytes:
        if "uri" not in buffer:
            if buffer.get("extensions"):
                name = next(iter(buffer["extensions"]))[:60]
                raise _GltfError(f"packs its data by {name}, which is not read")
            if self._binary is None or index != 0:  # the data of a .glb file are its first buffer's
                raise _GltfError("promises data, and holds none")
            return self._binary
        uri = buffer["uri"]
        if uri.startswith("data:"):
            head, _, text = uri.partition(",")
            if not head.endswith(";base64"):
                raise _GltfError("keeps its data in a way that is not read; base64 is")
            try:
                return base64.b64decode(unquote(text), validate=True)
            except binascii.Error as error:
                raise _GltfError(f"has data that is damaged ({error})") from error
        name = unquote(uri)
        parts = name.split("/")
        if self._folder is None or ":" in name or "\\" in name or {"", ".."} & set(parts):
            raise _GltfError(
                f"keeps its data elsewhere ({uri[:80]!r}), which is not fetched; export it again "
                "with everything in one file"
            )
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
            raise _GltfError(f"keeps its data in {uri[:80]!r}, which is not beside it")
        if path.stat().st_size > _MAX_BUFFER_BYTES:
            raise _GltfError(f"keeps its data in {uri[:80]!r}, which is too large")
        return read_bytes(path)


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """Where a node stands in the one above it: float64 `[4, 4]`, for column vectors."""
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        x, y, z, w = map(float, node.get("rotation", (0, 0, 0, 1)))
        length = math.hypot(x, y, z, w)
        if not length > 0:
            raise _GltfError("has a rotation of no direction")
        x, y, z, w = x / length, y / length, z / length, w / length
        matrix = np.eye(4)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        scale = np.array(node.get("scale", (1, 1, 1)), np.float64)
        matrix[:3, :3] *= scale.reshape(3)
        matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64).reshape(3)
    if not np.isfinite(matrix).all():
        raise _GltfError("has a part whose place is not finite")
    return matrix
