"""The PLY format: text or binary, with any elements and properties."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from descnet3d.datasets.polygons import parse_numbers, strip, triangles_of, whole_numbers

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_CORNERS = ("vertex_indices", "vertex_index")
_MAX_HEADER_BYTES = 2**20


class _Property(NamedTuple):
    name: str
    kind: str  # as numpy has it
    count_kind: str | None  # of a list


class _Element(NamedTuple):
    name: str
    size: int
    properties: list[_Property]


class _Column(NamedTuple):
    values: np.ndarray
    counts: np.ndarray | None  # of a list: how many values each row has


def parse_ply(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of a PLY file.

    Args:
        content: the whole file.

    Returns:
        Vertices, float64 `[v, 3]`, and triangles, int64 `[t, 3]`: indices that may be out of range.

    Raises:
        ValueError: this is not a PLY file, or it is damaged; the message says how.
    """
    order, elements, start = _parse_header(content)
    rows = sum(element.size for element in elements if element.properties)
    if rows > len(content) - start:
        raise ValueError(f"promises {rows} elements, and is too short for them")
    names = [element.name for element in elements]
    if len(set(names)) < len(names):
        raise ValueError("has two elements of one name")
    columns = _read_text(content[start:], elements) if not order else None
    columns = columns or _read_binary(content, start, order, elements)
    vertex, face, strips = (columns.get(name, {}) for name in ("vertex", "face", "tristrips"))
    if not all(axis in vertex and vertex[axis].counts is None for axis in "xyz"):
        raise ValueError("has no vertices with x, y and z")
    vertices = np.stack([vertex[axis].values.astype(np.float64) for axis in "xyz"], axis=1)
    found = [np.zeros((0, 3), np.int64)]
    for name, table in (("face", face), ("tristrips", strips)):
        corners = next((table[key] for key in _CORNERS if key in table), None)
        if corners is None or corners.counts is None:
            if name in names:
                raise ValueError(f"has an element {name} without a list of vertex_indices")
            continue
        indices = whole_numbers(corners.values)
        if name == "face":
            found.append(triangles_of(indices, corners.counts, vertices))
        else:
            found += _strips(indices, corners.counts)
    if not {"face", "tristrips"} & set(names):
        raise ValueError("holds points and no faces, so no surface")
    return vertices, np.concatenate(found)


def _parse_header(content: bytes) -> tuple[str, list[_Element], int]:
    content = content[:_MAX_HEADER_BYTES]
    if content[:3] != b"ply":
        raise ValueError("does not begin as a .ply file does")
    # Numbers follow the header at once, so that only its first line says how its lines end.
    newline = b"\r\n" if content[3:5] == b"\r\n" else content[3:4]
    if newline not in (b"\n", b"\r", b"\r\n"):
        newline = b"\n"
    end = content.find(newline + b"end_header")
    stop = content.find(newline, end + 1) if end >= 0 else -1
    if end < 0:
        raise ValueError("does not begin as a .ply file does: its header has no end")
    if content[end + len(newline) : stop if stop >= 0 else None].strip() != b"end_header":
        raise ValueError("has a header whose end is damaged")
    stop = len(content) if stop < 0 else stop + len(newline)
    order: str | None = None
    elements: list[_Element] = []
    for line in content[:end].split(newline)[1:]:
        words = [word.decode("ascii", "replace") for word in line.split()]
        match words:
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", kind, "1.0"] if kind in _ORDERS and order is None:
                order = _ORDERS[kind]
            case ["element", name, count] if count.isdecimal() and len(count) < 19:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", count, kind, name] if (
                elements and kind in _TYPES and _TYPES.get(count, "f")[0] != "f"
            ):
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count]))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind], None))
            case _:
                raise ValueError(f"has a header line that is not understood: {' '.join(words)!r}")
    if order is None:
        raise ValueError("has a header that does not say its format")
    for element in elements:
        names = [one.name for one in element.properties]
        if len(set(names)) < len(names):
            raise ValueError(f"has an element {element.name} with two properties of one name")
    return order, elements, stop


def _strips(indices: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Triangles of strips; -1 ends one within a list."""
    ends = np.zeros(len(indices) + 1, bool)
    ends[np.cumsum(counts)] = True
    pieces = np.split(indices, np.flatnonzero(ends[:-1] | (indices == -1)))
    return [strip(piece[piece != -1]) for piece in pieces]


def _read_text(body: bytes, elements: list[_Element]) -> dict[str, dict[str, _Column]]:
    numbers = parse_numbers(body)
    place = 0
    found: dict[str, dict[str, _Column]] = {}
    for element in elements:
        has_lists = any(one.count_kind for one in element.properties)
        width = len(element.properties)
        if not has_lists:
            stop = place + element.size * width
            if stop > len(numbers):
                raise _too_short(element)
            rows = numbers[place:stop].reshape(element.size, width)
            found[element.name] = {
                one.name: _Column(rows[:, column], None)
                for column, one in enumerate(element.properties)
            }
            place = stop
            continue
        found[element.name], place = _text_lists(numbers, place, element)
    if place != len(numbers):
        raise ValueError(f"holds {len(numbers) - place} numbers more than its header promises")
    return found


def _text_lists(
    numbers: np.ndarray, place: int, element: _Element
) -> tuple[dict[str, _Column], int]:
    values: dict[str, list[np.ndarray]] = {one.name: [] for one in element.properties}
    counts: dict[str, list[int]] = {one.name: [] for one in element.properties}
    end = len(numbers)
    if len(element.properties) == 1 and element.size and place < end:
        # Most often all faces have as many corners.
        first = numbers[place]
        stop = place + element.size * (int(first) + 1) if 0 <= first < end else end + 1
        if first == np.floor(first) and stop <= end:
            rows = numbers[place:stop].reshape(element.size, -1)
            if (rows[:, 0] == first).all():
                same = np.full(element.size, int(first))
                return {element.properties[0].name: _Column(rows[:, 1:].ravel(), same)}, stop
    for row in range(element.size):
        for one in element.properties:
            count = 1
            if one.count_kind:
                told = numbers[place] if place < end else np.nan
                if not 0 <= told <= end or told != int(told):  # NaN compares with nothing
                    if place >= end:
                        raise _too_short(element)
                    raise ValueError(f"is damaged at {element.name} {row}: a list of {told:g}")
                count, place = int(told), place + 1
            if place + count > end:
                raise _too_short(element)
            values[one.name].append(numbers[place : place + count])
            counts[one.name].append(count)
            place += count
    return {
        one.name: _Column(
            np.concatenate(values[one.name] or [numbers[:0]]),
            np.array(counts[one.name], np.int64) if one.count_kind else None,
        )
        for one in element.properties
    }, place


def _read_binary(
    content: bytes, place: int, order: str, elements: list[_Element]
) -> dict[str, dict[str, _Column]]:
    found: dict[str, dict[str, _Column]] = {}
    smallest = 1
    for element in elements:
        if not element.properties:
            found[element.name] = {}
            continue
        smallest = sum(
            np.dtype(one.kind).itemsize * (3 if one.count_kind else 1)
            + np.dtype(one.count_kind or "V0").itemsize
            for one in element.properties
        )
        found[element.name], place = _binary_rows(content, place, order, element)
    # Padding and a last line feed are common; what is as long as an element may be one.
    rest = content[place:]
    if len(rest) >= smallest and rest.strip(b"\0\r\n\t "):
        raise ValueError(f"holds {len(rest)} bytes more than its header promises")
    return found


def _binary_rows(
    content: bytes, place: int, order: str, element: _Element
) -> tuple[dict[str, _Column], int]:
    """Tries rows whose lists are all as long as those of the first, else goes row by row."""
    if element.size == 0:
        empty = np.zeros(0, np.int64)
        return {
            one.name: _Column(empty, empty if one.count_kind else None)
            for one in element.properties
        }, place
    counts = _row_counts(content, place, order, element)[0]
    fields: list[tuple] = []
    for column, (one, count) in enumerate(zip(element.properties, counts, strict=True)):
        if one.count_kind:
            fields.append((f"n{column}", order + one.count_kind))
            fields.append((f"v{column}", order + one.kind, (count,)))
        else:
            fields.append((f"v{column}", order + one.kind))
    row = np.dtype(fields)
    stop = place + element.size * row.itemsize
    if stop <= len(content):
        rows = np.frombuffer(content, row, element.size, place)
        if all(
            (rows[f"n{column}"] == count).all()
            for column, (one, count) in enumerate(zip(element.properties, counts, strict=True))
            if one.count_kind
        ):
            return {
                one.name: _Column(
                    rows[f"v{column}"].ravel(),
                    np.full(element.size, count) if one.count_kind else None,
                )
                for column, (one, count) in enumerate(zip(element.properties, counts, strict=True))
            }, stop
    if not any(one.count_kind for one in element.properties):
        raise _too_short(element)
    return _unequal_rows(content, place, order, element)


def _row_counts(
    content: bytes, place: int, order: str, element: _Element
) -> tuple[list[int], list[int], int]:
    """How many values each property has in one row, where they begin, and where the row ends."""
    counts, places = [], []
    for one in element.properties:
        count = 1
        if one.count_kind:
            told = struct.Struct((order or "<") + _CODES[one.count_kind])
            if place + told.size > len(content):
                raise _too_short(element)
            (count,) = told.unpack_from(content, place)
            place += told.size
            if count < 0:
                raise ValueError(f"is damaged: an element {element.name} has a list of {count}")
        counts.append(count)
        places.append(place)
        place += count * int(one.kind[1])
        if place > len(content):
            raise _too_short(element)
    return counts, places, place


_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}


def _unequal_rows(
    content: bytes, place: int, order: str, element: _Element
) -> tuple[dict[str, _Column], int]:
    pieces: list[list[bytes]] = [[] for _ in element.properties]
    numbers: list[list[int]] = [[] for _ in element.properties]
    for _ in range(element.size):
        counts, places, place = _row_counts(content, place, order, element)
        for column, one in enumerate(element.properties):
            start, count = places[column], counts[column]
            pieces[column].append(content[start : start + count * int(one.kind[1])])
            numbers[column].append(count)
    return {
        one.name: _Column(
            np.frombuffer(b"".join(pieces[column]), order + one.kind),
            np.array(numbers[column], np.int64) if one.count_kind else None,
        )
        for column, one in enumerate(element.properties)
    }, place


def _too_short(element: _Element) -> ValueError:
    return ValueError(f"promises {element.size} elements {element.name}, and is too short for them")
