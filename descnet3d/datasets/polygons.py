"""Faces of any number of corners, and strips, as triangles."""

from __future__ import annotations

import re
import warnings

import numpy as np


def fans(corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cuts each face into a fan about its first corner.

    Args:
        corners: int64 `[c]`, the corners of all faces, one face behind the other.
        counts: int64 `[f]`, how many each has; those with fewer than three become nothing.

    Returns:
        int64 `[t, 3]`.
    """
    pieces = np.maximum(counts - 2, 0)
    first = np.repeat(np.cumsum(counts) - counts, pieces)
    step = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)


def triangles_of(corners: np.ndarray, counts: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Cuts polygons into triangles that cover them and nothing beside them.

    Args:
        corners: as in `fans`.
        counts: as in `fans`.
        vertices: float64 `[v, 3]`, where the corners lie. A flat polygon that is bent inwards is
            cut by its ears, all others into fans.

    Returns:
        int64 `[t, 3]`; with corners that are out of range, if there are any.

    Raises:
        ValueError: polygons that are bent inwards have too many corners.
    """
    found = fans(corners, counts)
    is_in_range = not corners.size or (corners.min() >= 0 and corners.max() < len(vertices))
    if counts.max(initial=0) < 4 or not is_in_range:
        return found
    pieces = np.maximum(counts - 2, 0)
    face = np.repeat(np.arange(len(counts)), pieces)
    many = counts[face] > 3
    face = face[many]
    points = vertices[found[many]]
    with np.errstate(all="ignore"):  # what is not finite is refused later
        sides = points[:, 1:] - points[:, :1]
        normals = np.cross(sides[:, 0], sides[:, 1])
        starts = np.flatnonzero(np.diff(face, prepend=-1))
        normal = np.repeat(np.add.reduceat(normals, starts), pieces[face[starts]], axis=0)
        # A fan's triangle that faces the other way lies outside.
        is_outside = (normals * normal).sum(1) < -1e-6 * (normal * normal).sum(1)
    bent = np.unique(face[is_outside])
    if not len(bent):
        return found
    if counts[bent].max() > _MAX_BENT or np.square(counts[bent]).sum() > _MAX_BENT_WORK:
        raise ValueError(
            f"has {len(bent)} faces, of up to {counts[bent].max()} corners, that are bent inwards, "
            "too many to cut; cut them into triangles"
        )
    firsts, places = np.cumsum(counts) - counts, np.cumsum(pieces) - pieces
    for one in bent.tolist():
        polygon = corners[firsts[one] : firsts[one] + counts[one]]
        ears = _ears(vertices[polygon])
        if ears is not None:
            found[places[one] : places[one] + pieces[one]] = polygon[ears]
    return found


_MAX_BENT = 1000  # corners; the time that cutting takes grows with the square
_MAX_BENT_WORK = 40 * _MAX_BENT**2


def _ears(points: np.ndarray) -> np.ndarray | None:
    """A flat polygon `[c, 3]` cut ear by ear, `[c - 2, 3]`; None where it is not flat or simple."""
    points = (points - points[0]) / (np.ptp(points, axis=0).max() or 1.0)
    after = np.roll(points, -1, axis=0)
    normal = np.cross(points, after).sum(axis=0)
    normal /= np.linalg.norm(normal)
    if not np.abs((points - points.mean(axis=0)) @ normal).max() < 0.01:
        return None
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    flat = points @ np.stack([first, np.cross(normal, first)], axis=1)
    left, found = list(range(len(flat))), []
    place = tried = 0
    while len(left) > 3:
        if tried == len(left):
            return None
        place = place % len(left)
        ear = [left[place - 1], left[place], left[(place + 1) % len(left)]]
        if _is_ear(flat[ear], flat[left]):
            found.append(ear)
            del left[place]
            tried = 0
        else:
            place, tried = place + 1, tried + 1
    return np.array([*found, left])


def _is_ear(ear: np.ndarray, others: np.ndarray) -> bool:
    """Whether a corner, with its neighbours before and behind it, can be cut off."""
    sides = np.roll(ear, -1, axis=0) - ear
    if sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0] < -1e-12:
        return False
    away = others[:, None] - ear
    inside = (sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0] > -1e-12).all(axis=1)
    # Where a polygon has a hole, two of its corners lie at one place.
    is_its_own = (np.abs(away) < 1e-12).all(axis=2).any(axis=1)
    return not (inside & ~is_its_own).any()


def strip(corners: np.ndarray) -> np.ndarray:
    """The triangles of a strip, `[c]`, all facing the same way: int64 `[max(c - 2, 0), 3]`."""
    if len(corners) < 3:
        return np.zeros((0, 3), np.int64)
    triangles = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    triangles[1::2] = triangles[1::2, ::-1]
    return triangles


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """Indices that a text or a list of floats holds, as int64.

    Raises:
        ValueError: one is no whole number, or far from any that an index could be.
    """
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise ValueError("has a face whose corners are not whole numbers")
    if np.abs(values).max(initial=0) > 2**31:
        raise ValueError("has a face whose corners are far out of range")
    return values.astype(np.int64)


def parse_numbers(text: bytes) -> np.ndarray:
    """The numbers of a text, between blanks, as float64 `[n]`.

    Raises:
        ValueError: something else stands between them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.decode("ascii"), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("holds something that is not a number where numbers belong") from error


def plain_lines(content: bytes) -> bytes:
    """The same text without a byte order mark, and with every line ending in a line feed."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content


def without_comments(content: bytes) -> bytes:
    """The same text without what stands behind a # in each line.

    Raises:
        ValueError: one stands within a number, as in 1.#INF, which is how Microsoft's C writes it.
    """
    if b"#" not in content:
        return content
    # Within what is a comment already, and in names as part1#INDEX, it stands for nothing.
    if found := re.search(rb"^[^#\n]*?(\d\.?#(?:INF|IND|QNAN|SNAN)\d*)(?![A-Za-z])", content, re.M):
        raise ValueError(f"holds {found[1].decode('ascii')}, which is no number")
    return re.sub(rb"#[^\n]*", b"", content)
