"""The OBJ format: polygons of Wavefront's text files."""

from __future__ import annotations

import re

import numpy as np

from descnet3d.datasets.polygons import parse_numbers, plain_lines, triangles_of, without_comments

# Statements that change no polygon. Curved surfaces and other files' content would be missing.
_PASSED_OVER = {
    b"vt", b"vn", b"vp", b"vc", b"g", b"o", b"s", b"mg", b"l", b"p", b"usemtl", b"mtllib",
    b"usemap", b"maplib", b"bevel", b"c_interp", b"d_interp", b"lod", b"shadow_obj", b"trace_obj",
}  # fmt: skip
_CORNER = re.compile(rb"([+-]?\d{1,18})(?:/(?:[+-]?\d*)?){0,2}")
# The name of a folder, and not a line that goes on; behind a blank, only lists of names go on.
_UNCLEAR = re.compile(
    rb"^[ \t]*(?:(?:usemtl|mtllib|usemap|maplib)\b[^\n]*|[go][ \t][^\n]*[^ \t\n])\\[ \t]*$",
    re.MULTILINE,
)


def parse_obj(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of an OBJ file.

    Args:
        content: the whole file.

    Returns:
        Vertices, float64 `[v, 3]`, and triangles, int64 `[t, 3]`: indices that are at least 0.

    Raises:
        ValueError: this is not an OBJ file, or it is damaged; the message says how.
    """
    content = plain_lines(content)
    # Before lines are joined, so that no comment swallows the line below it.
    content = without_comments(content)
    if not content.strip():
        raise ValueError("is empty")
    if b"\\" in content:
        if unclear := _UNCLEAR.search(content):
            raise ValueError(f"has a name that ends in a backslash: {_words(unclear.group())}")
        content = re.sub(rb"\\[ \t]*\n", b" ", content)
    points: list[bytes] = []
    corners: list[int] = []
    counts: list[int] = []
    for line in content.split(b"\n"):
        words = line.split()
        if not words:
            continue
        word = words[0]
        if word == b"v":
            if not 4 <= len(words) <= 9:
                raise ValueError(f"has a vertex of {len(words) - 1} numbers: {_words(line)}")
            points.append(b" ".join(words[1:]) if len(words) == 4 else _position(words))
        elif word in (b"f", b"fo"):
            _add_face(words, len(points), corners, counts)
        elif word not in _PASSED_OVER:
            raise ValueError(f"has a statement that is not read as .obj: {_words(line)}")
    if not points:
        raise ValueError("has no vertices as .obj files have them")
    numbers = parse_numbers(b" ".join(points))
    if len(numbers) != 3 * len(points):
        raise ValueError("holds something that is not a number where numbers belong")
    vertices = numbers.reshape(-1, 3)
    faces = np.array(corners, np.int64), np.array(counts, np.int64)
    return vertices, triangles_of(*faces, vertices)


def _position(words: list[bytes]) -> bytes:
    parse_numbers(b" ".join(words[4:]))  # a weight, or a colour
    return b" ".join(words[1:4])


def _add_face(words: list[bytes], known: int, corners: list[int], counts: list[int]) -> None:
    if len(words) < 4:
        raise ValueError(f"has a face of {len(words) - 1} corners: {_words(b' '.join(words))}")
    counts.append(len(words) - 1)
    for corner in words[1:]:
        if not corner.isdigit():
            match = _CORNER.fullmatch(corner)
            if match is None:
                raise ValueError(f"has a face whose corner is {_words(corner)}")
            corner = match[1]
        index = int(corner) if len(corner) < 20 else 2**62
        if index == 0 or index < -known:
            raise ValueError(
                f"has a face with the corner {index}, and corners count from 1, or from -1 back"
            )
        # What is negative counts back from the last vertex so far.
        corners.append(index - 1 if index > 0 else known + index)


def _words(line: bytes) -> str:
    return repr(b" ".join(line.split())[:60].decode("utf-8", "replace"))
