"""The binvox format: one grid, run-length coded, with its place in the mesh's coordinates."""

from __future__ import annotations

import re

import numpy as np

from descnet3d.numpy_files import read_bytes
from descnet3d.shapes.occupancy import MAX_GRID_SIDE
from descnet3d.shapes.transform import GridTransform

#
# The header gives the sides as depth (x), height (z) and width (y), and the voxels run with y
# fastest, then z, then x; then come pairs of bytes, a value and how often it repeats.


def _binvox_bytes(grid: np.ndarray, transform: GridTransform | None) -> bytes:
    depth, width, height = grid.shape
    place = transform or GridTransform(1.0, (0.0, 0.0, 0.0))
    translate = " ".join(f"{value:.17g}" for value in place.offset)
    header = (
        f"#binvox 1\ndim {depth} {height} {width}\n"
        f"translate {translate}\nscale {place.scale * max(grid.shape):.17g}\ndata\n"
    )
    values = grid.transpose(0, 2, 1).ravel().astype(np.uint8)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, values.size))
    # A run is at most 255 long: longer ones become some of 255 and one of the rest.
    pieces = -(-lengths // 255)
    counts = np.full(pieces.sum(), 255)
    counts[np.cumsum(pieces) - 1] = lengths - 255 * (pieces - 1)
    pairs = np.stack([np.repeat(values[starts], pieces), counts], axis=1).astype(np.uint8)
    return header.encode("ascii") + pairs.tobytes()


def _read_binvox(path) -> tuple[np.ndarray, GridTransform | None]:
    content = read_bytes(path)
    header = re.match(rb"#binvox 1\s*\n(?:[^\n]*\n){0,16}?data\r?\n", content)
    if header is None:
        raise ValueError(f"{path} is not a binvox file of version 1, or is cut short")
    sides = re.search(rb"\ndim[ \t]+(\d+)[ \t]+(\d+)[ \t]+(\d+)\s*\n", header.group())
    if sides is None:
        raise ValueError(f"{path}: the header has no line `dim depth height width`")
    depth, height, width = (int(side) for side in sides.groups())
    if min(depth, height, width) < 1 or max(depth, height, width) > MAX_GRID_SIDE:
        raise ValueError(
            f"{path}: a grid of {depth} x {height} x {width} is not read; a side is 1 to "
            f"{MAX_GRID_SIDE} voxels"
        )
    pairs = np.frombuffer(content, dtype=np.uint8, offset=header.end())
    if len(pairs) % 2:
        raise ValueError(f"{path} is damaged: its last run of voxels has no length")
    values, counts = pairs[0::2], pairs[1::2]
    if counts.sum(dtype=np.int64) != depth * height * width:
        raise ValueError(
            f"{path} is damaged: it holds {counts.sum(dtype=np.int64)} voxels, where its header "
            f"promises {depth * height * width}"
        )
    if values.max() > 1:
        raise ValueError(f"{path} is damaged: a voxel is 0 or 1, and one is {values.max()}")
    grid = np.repeat(values.astype(bool), counts).reshape(depth, height, width)
    grid = np.ascontiguousarray(grid.transpose(0, 2, 1))[None]
    return grid, _binvox_transform(header.group(), max(depth, height, width))


def _binvox_transform(header: bytes, side: int) -> GridTransform | None:
    moved = re.search(rb"\ntranslate[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)\s*\n", header)
    scaled = re.search(rb"\nscale[ \t]+(\S+)\s*\n", header)
    if moved is None or scaled is None:
        return None
    try:
        x, y, z = (float(value) for value in moved.groups())
        return GridTransform(float(scaled[1]) / side, (x, y, z))
    except ValueError:  # words, or a scale of nought: the voxels are good all the same
        return None
