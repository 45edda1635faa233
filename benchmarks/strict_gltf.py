"""glTF read a second time, a number at a time; see `strict_readers.py`."""

from __future__ import annotations

import base64
import json
import math
import struct
import urllib.parse
from collections.abc import Callable

from strict_readers import (
    Point,
    RefusedError,
    Triangle,
    check,
    fan,
    placed,
    read_obj,
    read_off,
    read_ply,
    read_stl,
    strip,
)

_GLTF = {5120: "b", 5121: "B", 5122: "h", 5123: "H", 5125: "I", 5126: "f"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def read_gltf(content: bytes) -> list[Triangle]:
    binary = None
    if content[:4] == b"glTF":
        check(len(content) >= 20, "cut short")
        version, length, size, kind = struct.unpack_from("<III4s", content, 4)
        check(version == 2 and kind == b"JSON" and 20 + size <= length <= len(content), "header")
        text, place = content[20 : 20 + size], 20 + size
        if place + 8 <= length:
            size, kind = struct.unpack_from("<I4s", content, place)
            check(place + 8 + size <= length, "cut short")
            binary = content[place + 8 : place + 8 + size] if kind == b"BIN\0" else None
    else:
        text = content
    try:
        document = json.loads(text.decode("utf-8-sig"))
        check(str(document["asset"]["version"]).split(".")[0] == "2", "version")
        check(document["asset"].get("minVersion", "2.0") == "2.0", "version")
        check(not document.get("extensionsRequired"), "extensions")
        nodes = document.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [index for index in range(len(nodes)) if index not in children]
        if document.get("scenes") or "scene" in document:
            scene = _gltf_item(document, "scenes", document.get("scene", 0))
            roots = scene.get("nodes", [])
        elif not nodes:  # a library of meshes
            nodes = [{"mesh": index} for index in range(len(document.get("meshes", [])))]
            roots = list(range(len(nodes)))
        found: list[Triangle] = []
        waiting, seen = [(root, lambda point: point) for root in roots], set()
        while waiting:
            index, above = waiting.pop()
            check(type(index) is int and index >= 0 and index not in seen, "a node in two places")
            seen.add(index)
            place_point = _gltf_place(nodes[index], above)
            waiting += [(child, place_point) for child in nodes[index].get("children", [])]
            if "mesh" in nodes[index]:
                for primitive in document["meshes"][nodes[index]["mesh"]]["primitives"]:
                    found += [
                        tuple(place_point(point) for point in one)
                        for one in _gltf_part(document, binary, primitive)
                    ]
        return found
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    except (RecursionError, struct.error) as error:
        raise RefusedError("damaged") from error


def _gltf_place(node: dict, above: Callable) -> Callable:
    if "matrix" in node:
        m = [float(value) for value in node["matrix"]]
        check(len(m) == 16, "a matrix")
        return lambda p: above(
            tuple(sum(m[4 * j + i] * v for j, v in enumerate((*p, 1))) for i in range(3))
        )
    x, y, z, w = map(float, node.get("rotation", (0, 0, 0, 1)))
    length = math.sqrt(x * x + y * y + z * z + w * w)
    check(length > 0, "a rotation")
    x, y, z, w = x / length, y / length, z / length, w / length
    s, t = (list(map(float, node.get(k, [d] * 3))) for k, d in (("scale", 1), ("translation", 0)))
    check(len(s) == len(t) == 3, "a place")

    def turn(p: Point) -> Point:
        px, py, pz = (v * k for v, k in zip(p, s, strict=True))
        # v + 2 w (q x v) + 2 q x (q x v)
        cx, cy, cz = y * pz - z * py, z * px - x * pz, x * py - y * px
        dx, dy, dz = y * cz - z * cy, z * cx - x * cz, x * cy - y * cx
        turned = (px + 2 * (w * cx + dx), py + 2 * (w * cy + dy), pz + 2 * (w * cz + dz))
        return above(tuple(v + k for v, k in zip(turned, t, strict=True)))

    return turn


def _gltf_part(document: dict, binary: bytes | None, primitive: dict) -> list[Triangle]:
    mode = primitive.get("mode", 4)
    check(mode in range(7), "a mode")
    if mode < 4:
        return []
    points = _gltf_values(document, binary, primitive["attributes"]["POSITION"])
    check(points and len(points[0]) == 3, "places")
    corners = list(range(len(points)))
    if "indices" in primitive:
        kind = document["accessors"][primitive["indices"]]["componentType"]
        check(_GLTF[kind] in "BHI", "corners")
        corners = [one for (one,) in _gltf_values(document, binary, primitive["indices"])]
    if mode == 4:
        check(len(corners) % 3 == 0, "no whole triangles")
        faces = [tuple(corners[i : i + 3]) for i in range(0, len(corners), 3)]
    else:
        faces = strip(corners) if mode == 5 else fan(corners)
    check(max(corners, default=0) < len(points), "a corner is out of range")
    return placed(points, faces)


def _gltf_values(document: dict, binary: bytes | None, index: int) -> list[Point]:
    accessor = _gltf_item(document, "accessors", index)
    kind, width = _GLTF[accessor["componentType"]], _WIDTHS[accessor["type"]]
    count = accessor["count"]
    if "bufferView" in accessor or "sparse" not in accessor:
        found = _gltf_rows(document, binary, accessor, count, kind * width)
    else:
        check(type(count) is int and 0 < count < 10**6, "a count")
        found = [(0.0,) * width] * count
    if "sparse" in accessor:
        sparse = accessor["sparse"]
        told = _GLTF[sparse["indices"]["componentType"]]
        check(told in "BHI" and sparse["count"] <= count, "places")
        places = _gltf_rows(document, binary, sparse["indices"], sparse["count"], told)
        values = _gltf_rows(document, binary, sparse["values"], sparse["count"], kind * width)
        check(places == sorted(set(places)), "places out of order")
        for (at,), value in zip(places, values, strict=True):
            found[at] = value
    if accessor.get("normalized") and kind != "f":
        largest = 2 ** (8 * struct.calcsize(kind) - (kind in "bhi")) - 1
        found = [tuple(max(v / largest, -1.0) for v in one) for one in found]
    return found


def _gltf_rows(document, binary, accessor: dict, count: int, kinds: str) -> list[Point]:
    view = _gltf_item(document, "bufferViews", accessor["bufferView"])
    buffer = _gltf_item(document, "buffers", view["buffer"])
    data = binary if view["buffer"] == 0 else None
    if "uri" in buffer:
        head, _, text = buffer["uri"].partition(",")
        check(head.startswith("data:") and head.endswith(";base64"), "data")
        data = base64.b64decode(urllib.parse.unquote(text), validate=True)
    row = struct.Struct("<" + kinds)
    start, offset = view.get("byteOffset", 0), accessor.get("byteOffset", 0)
    stride, length, size = (
        view.get("byteStride", row.size),
        view["byteLength"],
        buffer["byteLength"],
    )
    told = (start, offset, stride, count, length, size)
    check(data is not None and all(type(v) is int and v >= 0 for v in told), "a place")
    check(size <= len(data) and start + length <= size, "cut short")
    check(count and stride >= row.size, "a place")
    check(offset + stride * (count - 1) + row.size <= length, "cut short")
    return [row.unpack_from(data, start + offset + stride * i) for i in range(count)]


def _gltf_item(document: dict, kind: str, index: int) -> dict:
    check(type(index) is int and index >= 0, "an index")
    return document[kind][index]


READERS = {
    ".off": read_off,
    ".obj": read_obj,
    ".ply": read_ply,
    ".stl": read_stl,
    ".glb": read_gltf,
    ".gltf": read_gltf,
}
