"""Mesh files read a second time, a word and a byte at a time: what `fuzz_files.py` compares with.

Each reader follows its format's text with loops and `struct` alone, shares nothing with the
package, and is a hundred times slower. What is no strict file but is read on purpose (ModelNet's
headers, spare bytes of STL) is written down here too, so that nothing else is.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator

Point = tuple[float, ...]
Triangle = tuple[Point, Point, Point]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:[+-]?(nan|inf|infinity))")


class RefusedError(Exception):
    """The file is none of its format."""


def check(holds: object, reason: str) -> None:
    if not holds:
        raise RefusedError(reason)


def number(word: str) -> float:
    check(_NUMBER.fullmatch(word), f"{word!r} is no number")
    return float(word)


def whole(word: str) -> int:
    value = number(word)
    check(math.isfinite(value) and value == int(value), f"{word!r} is no whole number")
    return int(value)


def words_of(content: bytes) -> str:
    """A text in which only ASCII's own blanks part words."""
    return content.decode("ascii", "replace").translate(dict.fromkeys(range(0x1C, 0x20), "?"))


def plain(content: bytes) -> str:
    text = words_of(content.removeprefix(b"\xef\xbb\xbf"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def fan(corners: list[int]) -> list[tuple[int, int, int]]:
    return [(corners[0], *corners[i : i + 2]) for i in range(1, len(corners) - 1)]


def strip(corners: list[int]) -> list[tuple[int, int, int]]:
    return [
        (corners[i], *(corners[i + 1 : i + 3] if i % 2 == 0 else corners[i + 2 : i : -1]))
        for i in range(len(corners) - 2)
    ]


def placed(points: list[Point], faces: list[tuple[int, int, int]]) -> list[Triangle]:
    for face in faces:
        check(min(face) >= 0 and max(face) < len(points), "a corner is out of range")
    return [tuple(points[corner] for corner in face) for face in faces]


def read_off(content: bytes) -> list[Triangle]:
    text = "\n".join(line.split("#")[0] for line in plain(content).split("\n")).strip()
    head = re.match(r"((?:ST|C|N|4|n)*)OFF(?![A-Za-z])|((?:st|c|n|4)*)off(?![A-Za-z])", text)
    flags = (
        ((head[1] or head[2] or "").upper() if head and head[2] else head[1] or "") if head else ""
    )
    text = text[head.end() :] if head else text
    if "n" in flags:
        words = text.split(None, 1)
        check(len(words) == 2 and re.fullmatch("0*3", words[0]), "not of three dimensions")
        text = words[1]
    rows = [line.split() for line in text.split("\n") if line.split()]
    counts: list[str] = []
    while rows and len(counts) < 2:
        counts += rows.pop(0)
        if len(counts) > 3:  # vertices begin on the line of the counts
            rows.insert(0, counts[3:])
            counts = counts[:3]
    check(len(counts) >= 2 and all(word.isdecimal() for word in counts[:2]), "no counts")
    check(len(counts) < 3 or re.fullmatch(r"-?\d+", counts[2]), "no count of edges")
    if len(counts) == 2 and rows and len(rows[0]) == 1 and rows[0][0].isdecimal():
        rows.pop(0)
    vertices, faces = int(counts[0]), int(counts[1])
    check(3 * vertices + faces <= len(text), "too short")
    for row in rows:
        for word in row:
            number(word)
    by_line = len(rows) == vertices + faces and all(
        number(row[0]) in range(len(row)) for row in rows[vertices:]
    )
    if by_line:
        tables = [(rows[:vertices], rows[vertices:])]
    else:
        words = [word for row in rows for word in row]
        fixed = 3 + ("4" in flags) + 3 * ("N" in flags) + 2 * ("ST" in flags)
        colours = (4, 3, 1, 0) if "C" in flags else (0,)
        tables = list(
            filter(None, (_off_words(words, vertices, faces, fixed + c) for c in colours))
        )
    check(len(tables) == 1, "lines that mean nothing, or several things")
    points = []
    for row in tables[0][0]:
        check(len(row) >= 3 + ("4" in flags), "a vertex is too short")
        weight = number(row[3]) if "4" in flags else 1.0
        check(weight != 0, "a vertex is infinite")
        points.append(tuple(number(word) / weight for word in row[:3]))
    found = []
    for row in tables[0][1]:
        found += fan([whole(word) for word in row[1 : 1 + whole(row[0])]])
    return placed(points, found)


def _off_words(words, vertices, faces, width):
    rows = [words[i * width : (i + 1) * width] for i in range(vertices)]
    place, polygons = vertices * width, []
    for _ in range(faces):
        if place >= len(words) or number(words[place]) not in range(len(words) - place):
            return None
        count = whole(words[place])
        polygons.append(words[place : place + 1 + count])
        place += 1 + count
    return (rows, polygons) if place == len(words) else None


_OBJ_IGNORED = (  # noqa: SIM905
    "vt vn vp vc g o s mg l p usemtl mtllib usemap maplib bevel c_interp d_interp lod shadow_obj "
    "trace_obj"
).split()


def read_obj(content: bytes) -> list[Triangle]:
    lines: list[str] = []
    joined = ""
    for line in plain(content).split("\n"):
        line = line.split("#")[0]
        if line.rstrip(" \t").endswith("\\"):
            check(not re.match(r"[ \t]*(usemtl|mtllib)\b", line), "a name ends in a backslash")
            joined += line.rstrip(" \t")[:-1] + " "
            continue
        lines.append(joined + line)
        joined = ""
    points: list[Point] = []
    faces = []
    for line in [*lines, joined]:
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            check(4 <= len(words) <= 9, "a vertex of so many numbers")
            points.append(tuple([number(word) for word in words[1:]][:3]))
        elif words[0] in ("f", "fo"):
            check(len(words) >= 4, "a face of two corners")
            corners = []
            for word in words[1:]:
                check(re.fullmatch(r"[+-]?\d+(/([+-]?\d*)){0,2}", word), f"a corner {word!r}")
                index = int(word.split("/")[0])
                check(index > 0 or 0 < -index <= len(points), "a corner is out of range")
                corners.append(index - 1 if index > 0 else len(points) + index)
            faces += fan(corners)
        else:
            check(words[0] in _OBJ_IGNORED, f"a statement {words[0]!r}")
    return placed(points, faces)


_PLY = {
    "char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f",
    "double": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "float32": "f", "float64": "d",
}  # fmt: skip


def read_ply(content: bytes) -> list[Triangle]:
    check(content[:3] == b"ply", "no ply")
    end = next((e for e in (b"\r\n", b"\n", b"\r") if content[3:].startswith(e)), b"\n")
    place = content.find(end) + len(end)
    check(place >= len(end), "one line")
    kind, elements = None, []
    while True:
        stop = content.find(end, place)
        words = words_of(content[place : stop if stop >= 0 else None]).split()
        place = stop + len(end) if stop >= 0 else len(content)
        if words == ["end_header"]:
            break
        check(stop >= 0, "no end")
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            check(kind is None and len(words) == 3 and words[2] == "1.0", "format")
            kind = words[1]
        elif words[0] == "element":
            check(len(words) == 3 and words[2].isdecimal(), "element")
            elements.append((words[1], int(words[2]), []))
        else:
            check(words[0] == "property" and elements, "no such line")
            listed = len(words) == 5 and words[1] == "list"
            check(
                (listed or len(words) == 3) and all(w in _PLY for w in words[1 + listed : -1]),
                "type",
            )
            check(not listed or _PLY[words[2]] not in "fd", "a count that is no whole number")
            check(words[-1] not in [one[0] for one in elements[-1][2]], "twice")
            elements[-1][2].append((words[-1], [_PLY[w] for w in words[1 + listed : -1]]))
    names = [name for name, _, _ in elements]
    check(len(set(names)) == len(names), "an element twice")
    orders = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
    check(kind in orders, "format")
    take = (
        _ply_words(content[place:]) if kind == "ascii" else _ply_bytes(content, place, orders[kind])
    )
    rows: dict[str, list[dict]] = {}
    for name, size, properties in elements:
        if properties:
            check(size <= len(content), "too many")
            rows[name] = [{key: _ply_value(take, kinds) for key, kinds in properties}
                          for _ in range(size)]  # fmt: skip
    smallest = [sum(struct.calcsize("<" + k[0] + k[-1] * 3 * (len(k) > 1)) for _, k in p)
                for _, _, p in elements if p]  # fmt: skip
    take("end", smallest[-1] if smallest else 1)
    vertices = rows.get("vertex", [])
    declared = {name: [key for key, _ in properties] for name, _, properties in elements}
    check({"x", "y", "z"} <= set(declared.get("vertex", [])), "no vertices")
    points = [tuple(row[axis] for axis in "xyz") for row in vertices]
    check(not points or not any(isinstance(v, list) for v in points[0]), "lists of places")
    found = []
    check("face" in names or "tristrips" in names, "no faces")
    for name in ("face", "tristrips"):
        if name not in names:
            continue
        key = next((k for k in ("vertex_indices", "vertex_index") if k in declared[name]), None)
        check(key, "no corners")
        for row in rows.get(name, []):
            check(isinstance(row[key], list), "corners are no list")
            check(all(math.isfinite(c) and c == int(c) for c in row[key]), "corners")
            corners = [int(c) for c in row[key]]
            if name == "face":
                found += fan(corners)
            else:
                pieces: list[list[int]] = [[]]
                for corner in corners:
                    pieces.append([]) if corner == -1 else pieces[-1].append(corner)
                found += [one for piece in pieces for one in strip(piece)]
    return placed(points, found)


def _ply_value(take: Callable, kinds: list[str]):
    if len(kinds) == 1:
        return take(kinds[0])
    count = take(kinds[0])
    check(0 <= count < 2**31 and count == int(count), "a list of so many")
    return [take(kinds[1]) for _ in range(int(count))]


def _ply_words(body: bytes) -> Callable:
    words: Iterator[str] = iter(words_of(body).split())

    def take(kind: str, _=0):
        word = next(words, None)
        if kind == "end":
            check(word is None, "more than promised")
            return None
        check(word is not None, "cut short")
        return number(word)

    return take


def _ply_bytes(content: bytes, place: int, order: str) -> Callable:
    def take(kind: str, smallest: int = 0):
        nonlocal place
        if kind == "end":  # padding is common, and what is shorter than any row
            rest = content[place:]
            return check(len(rest) < smallest or not rest.strip(b"\0\r\n\t "), "spare bytes")
        size = struct.calcsize("<" + kind)
        check(place + size <= len(content), "cut short")
        place += size
        return struct.unpack_from(order + kind, content, place - size)[0]

    return take


def read_stl(content: bytes) -> list[Triangle]:
    count = struct.unpack_from("<I", content, 80)[0] if len(content) >= 84 else -1
    exact = len(content) == 84 + 50 * count
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower()
    padded = content.rstrip(b"\0\x1a")
    if not exact and start == b"solid" and b"\0" not in padded:
        text = plain(padded)
        if b"\0" in content:
            tail = "".join(text.lower().split()).rpartition("endfacet")[2]
            check("endsolid" in tail, "padding without an end before it")
        try:
            return _stl_lines(text)
        except RefusedError:  # any blank may stand for any other
            return _stl_words(text)
    check(len(content) >= 84 + 50 * max(count, 0) and count >= 0, "cut short")
    blank = b"\0\r\n\t "
    payloads, place = [], 84
    for _ in range(count):
        if place + 50 > len(content):
            break
        payloads.append(place)
        place += 50 + struct.unpack_from("<H", content, place + 48)[0]
    are_payloads = len(payloads) == count > 0 and place <= len(content)
    if not exact and are_payloads and not content[place:].strip(blank):
        return [_stl_record(content, at) for at in payloads]
    total = (len(content) - 84) // 50
    found = [_stl_record(content, 84 + 50 * at) for at in range(total)]
    if total > count:  # a count that was never put right
        check(not content[84 + 50 * total :].strip(blank), "bytes that are no triangles")
        told = [abs(v) for one in found[:count] for point in one for v in point]
        reach = 10 * max(told) if told else 1e30
        check(all(abs(v) <= reach for one in found[count:] for p in one for v in p), "no triangles")
    return found


def _stl_record(content: bytes, place: int) -> Triangle:
    values = struct.unpack_from("<9f", content, place + 12)
    return values[:3], values[3:6], values[6:]


def _stl_words(text: str) -> list[Triangle]:
    found, words = [], re.split(r"(\n)|\s+", text)
    left = [word for word in words if word]

    def take(*expected: str) -> None:
        for one in expected:
            while left and left[0] == "\n":
                left.pop(0)
            check(left and left.pop(0).lower() == one, f"no {one}")

    def value() -> float:
        while left and left[0] == "\n":
            left.pop(0)
        check(left, "cut short")
        return number(left.pop(0))

    while left:
        word = left.pop(0)
        low = word.lower()
        if word == "\n":
            continue
        if low in ("solid", "endsolid"):
            while left and left[0] != "\n" and left[0].lower() != "facet":
                left.pop(0)
            continue
        check(low == "facet", f"{word!r} between facets")
        take("normal")
        for _ in range(3):
            while left and left[0] == "\n":
                left.pop(0)
            check(left, "cut short")
            left.pop(0)
        take("outer", "loop")
        corners = []
        for _ in range(3):
            take("vertex")
            corners.append((value(), value(), value()))
        take("endloop", "endfacet")
        found.append(tuple(corners))
    check(found, "no facet")
    return found


def _stl_lines(text: str) -> list[Triangle]:
    found, corners = [], None
    for line in text.split("\n"):
        words = line.split()
        low = [word.lower() for word in words[:2]]
        if not low:
            continue
        ends = "".join(low) if low[0] == "end" else low[0]
        if low[0] == "vertex":
            check(corners is not None and len(words) == 4, "a vertex")
            corners.append(tuple(number(word) for word in words[1:]))
        elif low[0] == "facet":
            check(corners is None, "a facet within one")
            corners = []
        elif ends == "endfacet":
            check(corners is not None and len(corners) == 3, "a facet of other corners")
            found.append(tuple(corners))
            corners = None
        elif low[0] == "outer":
            check(corners == [], "a loop")
        elif ends == "endloop":
            check(corners is not None, "a loop")
        else:
            check(
                corners is None and (low[0] in ("solid", "color") or ends == "endsolid"), "a line"
            )
    check(corners is None, "cut short")
    return found
