"""Files of grids: `.npz`, `.npy`, `.binvox` and `.mat`, read and written by their ending."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from descnet3d import files, matlab_files, voxels
from descnet3d.grid_transform import GridTransform
from descnet3d.numpy_files import OpenArchive, parse_npy, read_bytes

GRID_ENDINGS = (".npz", ".npy", ".binvox", ".mat")
# What these files hold is one grid.
SINGLE_ENDINGS = (".binvox", ".mat")


def read_grids(path: str | os.PathLike) -> np.ndarray:
    """Reads the grids of one file, by its ending.

    Args:
        path: `.npz` (the key `occupancy`, or a voxel archive), `.npy`, `.binvox`, or `.mat` (the
            variable `instance`, as 3DShapeNets has it). One array `[D, H, W]` is read as a batch
            of one.

    Returns:
        `[n, D, H, W]`: bool where the file says yes or no, float32 in [0, 1] where it holds
        numbers.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or does not hold occupancy.
    """
    ending = _ending(path)
    if ending == ".binvox":
        return _read_binvox(path)[0]
    if ending == ".npy":
        content = read_bytes(path)
        values = parse_npy(io.BytesIO(content), len(content), str(path))
    elif ending == ".mat":
        values = matlab_files.read_variables(path, ("instance",))["instance"]
        if values.dtype.kind in "iu" and values.max(initial=0) <= 1 and values.min(initial=0) >= 0:
            values = values.astype(bool)
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


def read_transform(path: str | os.PathLike) -> GridTransform | None:
    """Where the grids of a file lie in the coordinates of the mesh that they were made from.

    Args:
        path: as in `read_grids`.

    Returns:
        The transform, or None where the file says nothing of it.

    Raises:
        ValueError: the file is missing, damaged or of another kind.
    """
    ending = _ending(path)
    if ending == ".binvox":
        return _read_binvox(path)[1]
    if ending == ".npy":
        return None
    if ending == ".mat":
        found = matlab_files.read_variables(path, _TRANSFORM_KEYS, optional=True)
    else:
        with OpenArchive(path) as archive:
            kept = [key for key in _TRANSFORM_KEYS if key in archive.keys]
            found = {key: archive.read(key) for key in kept}
    if len(found) < len(_TRANSFORM_KEYS):
        return None
    try:
        offset = tuple(float(value) for value in found["offset"].ravel())
        scale, turn = (float(found[key].item()) for key in ("scale", "turn"))
        return GridTransform(scale, offset, str(found["up"].item()), turn)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its transform cannot be used ({error})") from error


def write_grids(
    path: str | os.PathLike, occupancy, transform: GridTransform | None = None
) -> tuple[Path, ...]:
    """Writes grids to a file of the kind that the path ends in; `read_grids` reads them back.

    Args:
        path: `.npz` (compressed, key `occupancy`), `.npy`, `.binvox`, or `.mat` (MATLAB 5,
            compressed, variable `instance`). The last two hold one grid, a binvox file one of yes
            and no: several go to `name_00.binvox`, `name_01.binvox` and so on.
        occupancy: a batch, as `as_occupancy` takes it.
        transform: where the grids lie in a mesh's coordinates, for `read_transform`. A binvox file
            holds one of a mesh with z up that was not turned; without one its header puts the
            grid's corner at the origin and gives one voxel the length 1.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: `occupancy` is no occupancy, the ending is unknown, the path cannot be
            written, values between 0 and 1 were to go into a binvox file, or the kind of file
            cannot hold the transform.
    """
    ending = _ending(path)
    if transform is not None:
        _check_holds(ending, transform, path)
    is_bool = isinstance(occupancy, np.ndarray) and occupancy.dtype.kind == "b"
    if ending == ".binvox":
        grids = voxels.as_binary(occupancy, "occupancy")
    else:
        grids = voxels.as_occupancy(occupancy, "occupancy")
        grids = grids.astype(bool) if is_bool else grids
    if ending in SINGLE_ENDINGS:
        paths = files.numbered(path, len(grids))
        for grid_path, grid in zip(paths, grids, strict=True):
            with files.replacing(grid_path) as temporary:
                if ending == ".binvox":
                    temporary.write_bytes(_binvox_bytes(grid, transform))
                else:
                    instance = grid.view(np.uint8) if is_bool else grid
                    matlab_files.write_variables(
                        temporary, {"instance": instance, **_transform_arrays(transform)}
                    )
        return paths
    with files.replacing(path) as temporary:
        if ending == ".npy":
            np.save(temporary, grids, allow_pickle=False)
        else:
            np.savez_compressed(temporary, occupancy=grids, **_transform_arrays(transform))
    return (Path(path),)


_TRANSFORM_KEYS = ("scale", "offset", "up", "turn")


def _transform_arrays(transform: GridTransform | None) -> dict[str, Any]:
    if transform is None:
        return {}
    return {key: np.array(getattr(transform, key)) for key in _TRANSFORM_KEYS}


def _check_holds(ending: str, transform: GridTransform, path) -> None:
    if ending == ".npy":
        raise ValueError(f".npy files hold no transform, and path came as {path}; choose .npz")
    if ending == ".binvox" and (transform.up != "z" or transform.turn % 360):
        raise ValueError(
            f".binvox files hold only transforms of meshes with z up that were not turned, and "
            f"transform came as {transform}; choose .npz"
        )


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
