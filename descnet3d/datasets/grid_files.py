"""Files of grids: `.npz`, `.npy`, `.binvox` and `.mat`, read and written by their ending."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from descnet3d import files
from descnet3d.datasets import matlab_files
from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.binvox import _binvox_bytes, _read_binvox
from descnet3d.numpy_files import OpenArchive, parse_npy, read_bytes
from descnet3d.shapes.occupancy import as_binary, as_occupancy
from descnet3d.shapes.transform import GridTransform

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
                return read_archive(path).occupancy
            values = archive.read("occupancy")
    if values.ndim == 3:
        values = values[None]
    is_bool = values.dtype.kind == "b"
    values = as_occupancy(values, f"the occupancy in {path}")
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
        grids = as_binary(occupancy, "occupancy")
    else:
        grids = as_occupancy(occupancy, "occupancy")
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
