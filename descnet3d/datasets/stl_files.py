"""The STL format: loose triangles, as text or binary."""

from __future__ import annotations

import re
import struct

import numpy as np

from descnet3d.datasets.polygons import parse_numbers, plain_lines

_HEADER_BYTES = 84
_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_BLANK = b"\0\r\n\t "
_ENDED = re.compile(rb"\bend[ \t]*solid\b(?!.*\bend[ \t]*facet\b)", re.IGNORECASE | re.DOTALL)
_LONGEST_END = 4096


def parse_stl(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of an STL file.

    Args:
        content: the whole file.

    Returns:
        Vertices, float64 `[3 t, 3]`, and triangles, int64 `[t, 3]`.

    Raises:
        ValueError: this is not an STL file, or it is damaged; the message says how.
    """
    if not content.strip(_BLANK):
        raise ValueError("is empty")
    size = len(content) - _HEADER_BYTES
    count = struct.unpack_from("<I", content, 80)[0] if size >= 0 else -1
    # Binary files of some programs begin with the word solid too: the length decides.
    is_binary = size == count * _RECORD.itemsize
    start = content.removeprefix(b"\xef\xbb\xbf")[:512].lstrip()
    text = content.rstrip(b"\0\x1a")  # padding, and the end of a file as DOS has it
    if not is_binary and start[:5].lower() == b"solid" and b"\0" not in text:
        # Padding follows an end; where there is none, a crash left the space and not the facets.
        if b"\0" in content and not _ENDED.search(text[-_LONGEST_END:]):
            raise ValueError("is damaged: NUL bytes stand where its facets end")
        points = _parse_text(plain_lines(text))
    elif size < 0:
        raise ValueError("is no .stl file, or is cut short in its header")
    else:
        points = _parse_binary(content, count)
    points = points.astype(np.float64).reshape(-1, 3)
    return points, np.arange(len(points)).reshape(-1, 3)


def _parse_binary(content: bytes, count: int) -> np.ndarray:
    size, width = len(content) - _HEADER_BYTES, _RECORD.itemsize
    spare = size - count * width
    if spare < 0:
        raise ValueError(f"promises {count} triangles, and is too short for them")
    if spare > 0:
        payload = _with_payloads(content, count)
        if payload is not None:
            return payload
    records = np.frombuffer(content, _RECORD, size // width, _HEADER_BYTES)
    corners = records["corners"]
    if spare < width:
        return corners
    # Writers that cannot go back leave a count of nought, or one that is too small.
    rest = content[_HEADER_BYTES + len(records) * width :]
    promised, more = corners[:count], corners[count:]
    reach = 10 * np.abs(promised).max(initial=0) if count else 1e30
    if rest.strip(_BLANK) or not np.abs(more).max() <= reach:  # NaN compares with nothing
        raise ValueError(f"promises {count} triangles, and {spare} bytes follow them that are none")
    return corners


def _with_payloads(content: bytes, count: int) -> np.ndarray | None:
    """The corners where each triangle says how many bytes of its own follow it, to the end."""
    place, starts = _HEADER_BYTES, []
    for _ in range(count):
        if place + _RECORD.itemsize > len(content):
            return None
        starts.append(place)
        place += _RECORD.itemsize + struct.unpack_from("<H", content, place + 48)[0]
    if count == 0 or place > len(content) or content[place:].strip(_BLANK):
        return None
    pieces = b"".join(content[start : start + _RECORD.itemsize] for start in starts)
    return np.frombuffer(pieces, _RECORD)["corners"]


def _parse_text(content: bytes) -> np.ndarray:
    try:
        return _parse_lines(content)
    except ValueError:
        points = _parse_words(content)
        if points is None:
            raise
        return points


_CORNER = rb"\s+vertex((?:\s+[^\s]+){3})"
_FACET = re.compile(
    rb"(?<!\S)facet\s+normal(?:\s+\S+){3}\s+outer\s+loop"
    + 3 * _CORNER
    + rb"\s+endloop\s+endfacet(?!\S)",
    re.IGNORECASE,
)


def _parse_words(content: bytes) -> np.ndarray | None:
    """The same of a text whose lines are broken elsewhere; None where it is none."""
    between = _FACET.sub(b"\n", content)
    lines = [line.split(None, 1)[0].lower() for line in between.split(b"\n") if line.strip()]
    if not set(lines) <= {b"solid", b"endsolid"}:
        return None
    corners = b" ".join(b" ".join(found) for found in _FACET.findall(content))
    return parse_numbers(corners).reshape(-1, 3, 3) if corners else None


def _parse_lines(content: bytes) -> np.ndarray:
    """The corners of a text, `[t, 3, 3]`. What stands between facets is the names of solids."""
    points: list[bytes] = []
    corners = -1  # of the facet that is open
    for line in content.split(b"\n"):
        words = line.split()
        if not words:
            continue
        word = words[0].lower()
        if word == b"vertex":
            if corners < 0 or len(words) != 4:
                raise ValueError(f"is damaged at the line {_words(line)}")
            points += words[1:]
            corners += 1
        elif word == b"facet" and corners < 0:
            corners = 0
        elif word in (b"endfacet", b"end") and corners >= 0 and _ends(words, b"facet"):
            if corners != 3:
                raise ValueError(f"has a facet of {corners} corners, and facets are triangles")
            corners = -1
        elif corners >= 0 and (
            (word == b"outer" and corners == 0)
            or (word in (b"endloop", b"end") and _ends(words, b"loop"))
        ):
            continue
        elif corners >= 0 or not (
            word in (b"solid", b"color") or (word[:3] == b"end" and _ends(words, b"solid"))
        ):
            raise ValueError(f"is damaged at the line {_words(line)}")
    if corners >= 0:
        raise ValueError("is cut short within a facet")
    if not points:
        raise ValueError("has no triangle, so no surface")
    numbers = parse_numbers(b" ".join(points))
    if len(numbers) != len(points):
        raise ValueError("holds something that is not a number where numbers belong")
    return numbers.reshape(-1, 3, 3)


def _ends(words: list[bytes], name: bytes) -> bool:
    return words[0].lower() == b"end" + name or (
        len(words) > 1 and words[0].lower() == b"end" and words[1].lower() == name
    )


def _words(line: bytes) -> str:
    return repr(b" ".join(line.split())[:60].decode("utf-8", "replace"))
