"""The OFF format, with the defects that ModelNet's files and others are known for."""

from __future__ import annotations

import re
import warnings

import numpy as np

# The word OFF, which may say that vertices carry texture coordinates (ST), colours (C) and normals
# (N), then three counts, of which the last (edges) may be missing. ModelNet's headers may run on.
_HEADER = re.compile(rb"\s*(ST)?(C)?(N)?OFF\s*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+\d*)?\s*(?:\n|$)")


def parse_off(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of an OFF file.

    A face of more than three corners becomes a fan of triangles; colours, normals, comments and
    blank lines are passed over.

    Args:
        content: the whole file.

    Returns:
        Vertices, float64 `[v, 3]`, and triangles, int64 `[t, 3]`: indices that may be out of range.

    Raises:
        ValueError: this is not an OFF file, or it is damaged; the message says how.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"#" in content:
        content = re.sub(rb"#[^\n]*", b"", content)
    if not content.strip():
        raise ValueError("is empty")
    header = _HEADER.match(content)
    if header is None:
        raise ValueError("does not begin as an OFF file does, with OFF and the numbers of vertices")
    vertex_count, face_count = int(header[4]), int(header[5])
    body = content[header.end() :]
    # A vertex takes three digits and three separators at least, a face two characters.
    if 6 * vertex_count + 2 * face_count > len(body) + 1:
        raise ValueError(
            f"promises {vertex_count} vertices and {face_count} faces, and is too short for them"
        )
    if vertex_count == 0 or face_count == 0:
        raise ValueError(f"has {vertex_count} vertices and {face_count} faces, so no surface")
    width = _vertex_width(body)
    numbers = _numbers(body)
    end = vertex_count * width
    if numbers.size < end + face_count:
        raise ValueError(
            f"promises {vertex_count} vertices and {face_count} faces, and ends before them"
        )
    vertices = numbers[:end].reshape(vertex_count, width)[:, :3]
    rest = numbers[end:]
    first = rest[0]
    if first >= 3 and rest.size == face_count * (first + 1):
        rows = rest.reshape(face_count, -1)
        if (rows[:, 0] == first).all():  # all faces have as many corners, and nothing else
            return np.ascontiguousarray(vertices), _fans(rows[:, 1:])
    return np.ascontiguousarray(vertices), _mixed_faces(body, vertex_count, face_count, rest)


def _vertex_width(body: bytes) -> int:
    # A first vertex may stand on a line of its own with its colour behind it.
    line = body.lstrip().partition(b"\n")[0]
    width = len(line.split())
    if width < 3:
        raise ValueError(
            f"has a vertex of {width} coordinates: {line[:40].decode('ascii', 'replace')}"
        )
    return width


def _numbers(text: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.decode("ascii"), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("holds something that is not a number where numbers belong") from error


def _mixed_faces(body: bytes, vertex_count: int, face_count: int, rest: np.ndarray) -> np.ndarray:
    """Triangles of faces that differ in their corners, or that carry colours."""
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    lines = lines[vertex_count : vertex_count + face_count]
    by_corners: dict[int, list[np.ndarray]] = {}
    start = 0
    per_line = len(lines) == face_count
    for face in range(face_count):
        corners = rest[start] if start < rest.size else -1
        # NaN compares with nothing.
        if not 0 <= corners < rest.size - start or corners != int(corners):
            raise ValueError(f"is damaged at face {face}: its corners are not there")
        corners = int(corners)
        by_corners.setdefault(corners, []).append(rest[start + 1 : start + 1 + corners])
        start += len(lines[face].split()) if per_line else 1 + corners
    fans = [_fans(np.stack(faces)) for corners, faces in by_corners.items() if corners >= 3]
    return np.concatenate(fans) if fans else np.zeros((0, 3), np.int64)


def _fans(corners: np.ndarray) -> np.ndarray:
    """The triangles of polygons with equally many corners, `[f, c]`, each a fan about its first."""
    if not (np.isfinite(corners).all() and (corners == np.floor(corners)).all()):
        raise ValueError("has a face whose corners are not whole numbers")
    if np.abs(corners).max(initial=0) > 2**31:
        raise ValueError("has a face whose corners are far out of range")
    indices = corners.astype(np.int64)
    second = np.arange(1, corners.shape[1] - 1)
    fan = np.stack([np.zeros_like(second), second, second + 1], axis=1)
    return indices[:, fan].reshape(-1, 3)
