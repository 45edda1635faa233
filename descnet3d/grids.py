"""Files of grids: `.npz`, `.npy` and `.binvox`, read and written by their ending."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np

from descnet3d import files, voxels
from descnet3d.numpy_files import OpenArchive, parse_npy, read_bytes

GRID_ENDINGS = (".npz", ".npy", ".binvox")


def read_grids(path: str | os.PathLike) -> np.ndarray:
    """Reads the grids of one file, by its ending.

    Args:
        path: `.npz` (the key `occupancy`, or a voxel archive), `.npy`, or `.binvox`. One array
            `[D, H, W]` is read as a batch of one.

    Returns:
        `[n, D, H, W]`: bool where the file says yes or no, float32 in [0, 1] where it holds
        numbers.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or does not hold occupancy.
    """
    ending = _ending(path)
    if ending == ".binvox":
        return _read_binvox(path)
    if ending == ".npy":
        content = read_bytes(path)
        values = parse_npy(io.BytesIO(content), len(content), str(path))
    else:
        with OpenArchive(path) as archive:
            if "voxels_packed" in archive.keys:
                return voxels.read_archive(path).occupancy
            values = archive.read("occupancy")
    if values.ndim == 3:
        values = values[None]
    is_bool = values.dtype.kind == "b"
    values = voxels.as_occupancy(values, f"the occupancy in {path}")
    return values.astype(bool) if is_bool else values


def write_grids(path: str | os.PathLike, occupancy) -> tuple[Path, ...]:
    """Writes grids to a file of the kind that the path ends in; `read_grids` reads them back.

    Args:
        path: `.npz` (compressed, key `occupancy`), `.npy`, or `.binvox`. A binvox file holds one
            grid of yes and no: several go to `name_00.binvox`, `name_01.binvox` and so on. Its
            header puts the grid's corner at the origin and gives one voxel the length 1.
        occupancy: a batch, as `as_occupancy` takes it.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: `occupancy` is no occupancy, the ending is unknown, the path cannot be
            written, or values between 0 and 1 were to go into a binvox file.
    """
    ending = _ending(path)
    is_bool = isinstance(occupancy, np.ndarray) and occupancy.dtype.kind == "b"
    if ending == ".binvox":
        grids = voxels.as_binary(occupancy, "occupancy")
        paths = files.numbered(path, len(grids))
        for grid_path, grid in zip(paths, grids, strict=True):
            with files.replacing(grid_path) as temporary:
                temporary.write_bytes(_binvox_bytes(grid))
        return paths
    grids = voxels.as_occupancy(occupancy, "occupancy")
    if is_bool:
        grids = grids.astype(bool)
    with files.replacing(path) as temporary:
        if ending == ".npy":
            np.save(temporary, grids, allow_pickle=False)
        else:
            np.savez_compressed(temporary, occupancy=grids)
    return (Path(path),)


def _ending(path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in GRID_ENDINGS:
        raise ValueError(
            f"grids are kept in {', '.join(GRID_ENDINGS)} files, and path came as {path}"
        )
    return ending


# --- binvox: https://www.patrickmin.com/binvox/binvox.html ----------------------------------------
#
# The header gives the sides as depth (x), height (z) and width (y), and the voxels run with y
# fastest, then z, then x; then come pairs of bytes, a value and how often it repeats.


def _binvox_bytes(grid: np.ndarray) -> bytes:
    depth, width, height = grid.shape
    header = (
        f"#binvox 1\ndim {depth} {height} {width}\ntranslate 0 0 0\nscale {max(grid.shape)}\ndata\n"
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


def _read_binvox(path) -> np.ndarray:
    content = read_bytes(path)
    header = re.match(rb"#binvox 1\s*\n(?:[^\n]*\n){0,16}?data\r?\n", content)
    if header is None:
        raise ValueError(f"{path} is not a binvox file of version 1, or is cut short")
    sides = re.search(rb"\ndim[ \t]+(\d+)[ \t]+(\d+)[ \t]+(\d+)\s*\n", header.group())
    if sides is None:
        raise ValueError(f"{path}: the header has no line `dim depth height width`")
    depth, height, width = (int(side) for side in sides.groups())
    if min(depth, height, width) < 1 or max(depth, height, width) > voxels.MAX_GRID_SIDE:
        raise ValueError(
            f"{path}: a grid of {depth} x {height} x {width} is not read; a side is 1 to "
            f"{voxels.MAX_GRID_SIDE} voxels"
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
    return np.ascontiguousarray(grid.transpose(0, 2, 1))[None]
