"""Files of grids: `.npz`, `.npy`, `.binvox` and `.mat`, read and written by their ending."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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


class GridFile(NamedTuple):
    """What a file of grids holds.

    Attributes:
        grids: `[n, D, H, W]`: bool where the file says yes or no, float32 in [0, 1] where it holds
            numbers.
        transform: where they lie in the coordinates of the mesh that they were made from; None
            where the file says nothing of it.
    """

    grids: np.ndarray
    transform: GridTransform | None


def read_grid_file(path: str | os.PathLike, key: str | None = None) -> GridFile:
    """Reads the grids of one file, by its ending, and their place.

    Args:
        path: `.npz` (also a voxel archive), `.npy`, `.binvox`, or `.mat` of MATLAB 5 to 7.3. One
            array `[D, H, W]` is read as a batch of one, and an axis for channels of length 1, the
            last or the one behind the batch's, is dropped.
        key: the array of an `.npz` or `.mat` file. Where None, "occupancy" or, in `.mat` files,
            "instance" (as 3DShapeNets has it), or else the only array that could hold grids.

    Returns:
        The grids and their place.

    Raises:
        ValueError: the file is missing, damaged, of another kind, does not hold occupancy, or
            holds several arrays and `key` is not given.
    """
    ending = _ending(path)
    found: dict[str, np.ndarray] = {}
    if key is not None and ending in (".binvox", ".npy"):
        raise ValueError(f"{ending} files hold one array without a name, and key came as {key!r}")
    if ending == ".binvox":
        return GridFile(*_read_binvox(path))
    if ending == ".npy":
        content = read_bytes(path)
        values = parse_npy(io.BytesIO(content), len(content), str(path))
    elif ending == ".mat":
        shapes = matlab_files.list_variables(path)
        key = _choose(key, "instance", shapes, path)
        kept = [name for name in _TRANSFORM_KEYS if name in shapes]
        found = matlab_files.read_variables(path, (key, *kept))
        values = found[key]
        if values.dtype.kind in "iu" and values.max(initial=0) <= 1 and values.min(initial=0) >= 0:
            values = values.astype(bool)
    else:
        with OpenArchive(path) as archive:
            if "voxels_packed" in archive.keys and key is None:
                return GridFile(read_archive(path).occupancy, None)
            key = _choose(key, "occupancy", dict.fromkeys(archive.keys), path)
            values = archive.read(key)
            kept = [name for name in _TRANSFORM_KEYS if name in archive.keys]
            found = {name: archive.read(name) for name in kept}
    is_bool = values.dtype.kind == "b"
    values = as_occupancy(_without_channels(values), f"the occupancy in {path}")
    return GridFile(values.astype(bool) if is_bool else values, _transform_of(found, path))


def read_grids(path: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """The grids of `read_grid_file`, without their place."""
    return read_grid_file(path, key).grids


def read_transform(path: str | os.PathLike) -> GridTransform | None:
    """The place of the grids of `read_grid_file`."""
    return read_grid_file(path).transform


def _choose(key: str | None, usual: str, shapes: Mapping[str, tuple[int, ...] | None], path) -> str:
    """The array that holds the grids, among those of the shapes given."""
    if key is not None or usual in shapes:
        return key or usual
    could = sorted(
        name
        for name, shape in shapes.items()
        if name not in _TRANSFORM_KEYS and (shape is None or len(shape) >= 3)
    )
    if len(could) == 1:
        return could[0]
    held = ", ".join(sorted(shapes)) or "-"
    if not could:
        raise ValueError(f"{path} has no {usual!r}, nor another array of grids; it holds: {held}")
    raise ValueError(
        f"{path} has no {usual!r}, and several other arrays ({', '.join(could)}): say which by "
        f"key, as in --key={could[0]}"
    )


def _without_channels(values: np.ndarray) -> np.ndarray:
    if values.ndim == 5 and values.shape[-1] != 1 and values.shape[1] == 1:
        values = values[:, 0]
    # A batch of grids that are one voxel high looks the same; of whole shapes there is none.
    elif values.ndim == 4 and values.shape[-1] == 1 and min(values.shape[:3]) >= 8:
        values = values[..., 0]
    return values[None] if values.ndim == 3 else values


def _transform_of(found: Mapping[str, np.ndarray], path) -> GridTransform | None:
    if not set(_TRANSFORM_KEYS) <= found.keys():
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
