"""Faces of any number of corners, and strips, as triangles."""

from __future__ import annotations

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
