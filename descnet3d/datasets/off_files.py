"""The OFF format, with the defects that ModelNet's files and others are known for."""

from __future__ import annotations

import re

import numpy as np

from descnet3d.datasets.polygons import (
    parse_numbers,
    plain_lines,
    triangles_of,
    whole_numbers,
    without_comments,
)

# The word OFF, which says what stands behind the place of a vertex: texture coordinates (ST),
# colours (C) and normals (N), in whatever order; 4 for a fourth coordinate, n for as many as are
# said next. ModelNet's headers run on into the counts.
_WORD = re.compile(rb"\s*((?:ST|C|N|4|n)*)OFF(?![A-Za-z])")
_LOWER_WORD = re.compile(rb"\s*((?:st|c|n|4)*)off(?![A-Za-z])")
_COLOURS = (4, 3, 1, 0)


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
    content = without_comments(plain_lines(content))
    if not content.strip():
        raise ValueError("is empty")
    word = _WORD.match(content)
    flags = word[1] if word else b""
    if word is None and (word := _LOWER_WORD.match(content)):
        flags = word[1].upper()
    body = content[word.end() :] if word else content
    if re.match(rb"\s*BINARY\b", body):
        raise ValueError(
            "does not begin as an OFF file of text does: it is BINARY; save it as text"
        )
    if b"n" in flags:
        dimensions = re.match(rb"\s*(\d+)\s", body)
        if dimensions is None or int(dimensions[1][:9]) != 3:
            raise ValueError("has vertices (nOFF) of other than three dimensions")
        body = body[dimensions.end() :]
    vertex_count, face_count, body = _counts(body)
    # A vertex takes three digits and three separators at least, a face two characters.
    if 6 * vertex_count + 2 * face_count > len(body) + 1:
        raise ValueError(
            f"promises {vertex_count} vertices and {face_count} faces, and is too short for them"
        )
    if vertex_count == 0 or face_count == 0:
        raise ValueError(f"has {vertex_count} vertices and {face_count} faces, so no surface")
    numbers = parse_numbers(body)
    widths = _words_per_line(body)
    found = None
    if len(widths) == vertex_count + face_count:
        if (least := widths[:vertex_count].min()) < 3 + (b"4" in flags):
            raise ValueError(f"has a vertex of {least} coordinates")
        found = _by_line(numbers, widths, vertex_count)
    if found is None:
        found = _running_on(numbers, vertex_count, face_count, flags)
    starts, corners, counts = found
    vertices = numbers[starts[:, None] + np.arange(3)]
    if b"4" in flags:
        weights = numbers[starts + 3]
        if not (weights != 0).all():
            raise ValueError("has a vertex whose fourth coordinate is 0, so that it is infinite")
        vertices = vertices / weights[:, None]
    return vertices, triangles_of(whole_numbers(corners), counts, vertices)


_Places = tuple[np.ndarray, np.ndarray, np.ndarray]  # of vertices; corners; how many a face has


def _counts(body: bytes) -> tuple[int, int, bytes]:
    """The numbers of vertices and faces, and what follows them. That of edges may be missing."""
    header = re.match(rb"\s*(\d{1,18})\s+(\d{1,18})(?:[ \t]+-?\d+)?[ \t]*(?=\n|$)", body)
    rest = header and body[header.end() :]
    if header is None:  # vertices follow on the same line
        header = re.match(rb"\s*(\d{1,18})\s+(\d{1,18})\s+-?\d+(?=\s)", body)
        rest = header and body[header.end() :]
    if header is None or rest is None:
        raise ValueError("does not begin as an OFF file does, with OFF and the numbers of vertices")
    alone = re.match(rb"\s*\d+[ \t]*\n", rest)
    if alone and len(header[0].split()) == 2:
        rest = rest[alone.end() :]
    return int(header[1]), int(header[2]), rest


def _words_per_line(body: bytes) -> np.ndarray:
    """How many words each line has, without blank lines."""
    text = np.frombuffer(body, np.uint8)
    is_blank = text <= 32
    begins = ~is_blank
    begins[1:] &= is_blank[:-1]
    starts = np.flatnonzero(begins)
    ends = np.append(np.flatnonzero(text == 10), len(text))
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return counts[counts > 0]


def _by_line(numbers: np.ndarray, widths: np.ndarray, vertex_count: int) -> _Places | None:
    """Where each vertex begins, and the faces; None where a line holds no whole face."""
    starts = np.cumsum(widths) - widths
    faces = starts[vertex_count:]
    told = numbers[faces]
    if not ((told >= 0) & (told < widths[vertex_count:]) & (told == np.floor(told))).all():
        return None
    counts = told.astype(np.int64)
    places = np.repeat(faces + 1 - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return starts[:vertex_count], numbers[places], counts


def _running_on(numbers: np.ndarray, vertex_count: int, face_count: int, flags: bytes) -> _Places:
    """The same of a text whose lines mean nothing: all of it must be used up."""
    fixed = 3 + (b"4" in flags) + 3 * (b"N" in flags) + 2 * (b"ST" in flags)
    # C may be one number, or three or four.
    has_colour = b"C" in flags
    errors, found = [], []
    for colour in _COLOURS if has_colour else (0,):
        try:
            found.append(_faces_at(numbers, vertex_count, fixed + colour, face_count))
        except ValueError as error:
            errors.append(error)
    if len(found) > 1:
        raise ValueError("can be read in more than one way: its colours are unclear")
    if not found:
        raise errors[0]
    return found[0]


def _faces_at(numbers: np.ndarray, vertex_count: int, width: int, face_count: int) -> _Places:
    rest = numbers[vertex_count * width :]
    if rest.size < face_count:
        raise ValueError(
            f"promises {vertex_count} vertices and {face_count} faces, and ends before them"
        )
    counts, place, places = [], 0, []
    for face in range(face_count):
        told = rest[place] if place < rest.size else -1
        # NaN compares with nothing.
        if not 0 <= told < rest.size - place or told != int(told):
            raise ValueError(f"is damaged at face {face}: its corners are not there")
        counts.append(int(told))
        places.append(place + 1)
        place += 1 + counts[-1]
    if place != rest.size:
        raise ValueError(
            f"promises {vertex_count} vertices and {face_count} faces, and holds "
            f"{rest.size - place} numbers more, in lines that are none of them"
        )
    corners = [rest[start : start + count] for start, count in zip(places, counts, strict=True)]
    starts = width * np.arange(vertex_count)
    return starts, np.concatenate(corners), np.array(counts, np.int64)
