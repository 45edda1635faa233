"""Files of grids: `.npz`, `.npy`, `.binvox` and `.mat`, read and written by their ending."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.lib import format as npy_format

from descnet3d import files
from descnet3d.datasets import matlab_files
from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.binvox import _binvox_bytes, _read_binvox
from descnet3d.numpy_files import OpenArchive, StreamedArray, parse_npy, read_bytes
from descnet3d.shapes.occupancy import as_binary, as_occupancy
from descnet3d.shapes.transform import GridTransform

GRID_ENDINGS = (".npz", ".npy", ".binvox", ".mat")
# What these files hold is one grid.
SINGLE_ENDINGS = (".binvox", ".mat")
# How many grids are in memory while a file is looked through.
_LOOKED_AT = 160


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
        raise ValueError(f"{ending} files hold one array without a name, and key is {key!r}.")
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
            key = _choose(
                key, "occupancy", {name: archive.shape(name) for name in archive.keys}, path
            )
            values = archive.read(key)
            kept = [name for name in _TRANSFORM_KEYS if name in archive.keys]
            found = {name: archive.read(name) for name in kept}
    is_bool = values.dtype.kind == "b"
    values = as_occupancy(_without_channels(values, path), f"the occupancy in {path}")
    return GridFile(values.astype(bool) if is_bool else values, _transform_of(found, path))


class GridBatches(NamedTuple):
    """The grids of one file, of which some are in memory at a time.

    Attributes:
        shape: `(n, D, H, W)` of all.
        transform: as in `GridFile`.
        read: those of a slice, float32 `[m, D, H, W]` in [0, 1]; in order it is fastest.
    """

    shape: tuple[int, ...]
    transform: GridTransform | None
    read: Callable[[slice], np.ndarray]

    @classmethod
    def of(cls, grids: np.ndarray, transform: GridTransform | None = None) -> Self:
        """Grids that are in memory."""
        return cls(grids.shape, transform, lambda rows: grids[rows].astype(np.float32, copy=False))


def open_grids(path: str | os.PathLike, key: str | None = None) -> GridBatches:
    """As `read_grid_file`, of files that may hold more grids than there is memory for.

    Every grid is looked at once here, so that nothing is found to be wrong in the midst of work.
    Archives and `.mat` and `.binvox` files are read whole, and bits stay bits.

    Raises:
        ValueError: as in `read_grid_file`.
    """
    ending = _ending(path)
    found: dict[str, np.ndarray] = {}
    if ending == ".npz":
        with OpenArchive(path) as archive:
            if "voxels_packed" in archive.keys and key is None:
                return GridBatches.of(read_archive(path).occupancy)
            shapes = {name: archive.shape(name) for name in archive.keys}
            key = _choose(key, "occupancy", shapes, path)
            kept = [name for name in _TRANSFORM_KEYS if name in archive.keys]
            found = {name: archive.read(name) for name in kept}
        is_streamed = key in shapes
    else:
        is_streamed = ending == ".npy" and key is None and os.path.isfile(path)
    array = StreamedArray(path, key) if is_streamed else None
    shape: tuple[int, ...] = ()
    if array is not None and array.is_in_rows and 0 not in array.shape:
        claimed = np.broadcast_to(np.zeros((), array.dtype), array.shape)
        shape = _without_channels(claimed, path).shape
    if array is None or len(shape) not in (4, 5):  # in memory, or what is wrong with it
        return GridBatches.of(*read_grid_file(path, key))
    rows_a_grid = array.shape[0] // shape[0]  # one grid alone is so many rows

    def read(rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(shape[0])
        values = array.rows(start * rows_a_grid, stop * rows_a_grid)
        return as_occupancy(values.reshape(-1, *shape[1:]), f"the occupancy in {path}")

    for start in range(0, shape[0], _LOOKED_AT):
        read(slice(start, start + _LOOKED_AT))
    return GridBatches(shape[:4], _transform_of(found, path), read)


def read_grids(path: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """The grids of `read_grid_file`, without their place."""
    return read_grid_file(path, key).grids


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


def _without_channels(values: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    if values.ndim == 5 and values.shape[-1] != 1 and values.shape[1] == 1:
        values = values[:, 0]
    # A batch of grids that are one voxel high looks the same; of whole shapes there is none.
    elif values.ndim == 4 and values.shape[-1] == 1 and min(values.shape[:3]) >= 8:
        values = values[..., 0]
    elif _is_of_colours(values.shape):
        raise ValueError(
            f"{path} holds an array {list(values.shape)}, by its look one grid of "
            f"{values.shape[-1]} channels; keep the channel that is occupancy"
        )
    return values[None] if values.ndim == 3 else values


def _is_of_colours(shape: tuple[int, ...]) -> bool:
    """Whether an array is a cube of a few numbers a voxel, and no batch of slabs so thin."""
    return len(shape) == 4 and len(set(shape[:3])) == 1 and shape[0] >= 8 and 2 <= shape[3] <= 4


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
        transform: where the grids lie in a mesh's coordinates, for `read_grid_file`. A binvox file
            holds one of a mesh with z up that was not turned; without one its header puts the
            grid's corner at the origin and gives one voxel the length 1.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: `occupancy` is no occupancy, the ending is unknown, the path cannot be
            written, values between 0 and 1 were to go into a binvox file, or the kind of file
            cannot hold the transform.
    """
    grids = _as_they_are(occupancy, _ending(path))
    return write_grid_batches(path, [grids], len(grids), transform)


def write_grid_batches(
    path: str | os.PathLike,
    batches: Iterable[Any],
    count: int,
    transform: GridTransform | None = None,
) -> tuple[Path, ...]:
    """As `write_grids`, of batches that are written as they come, so that no more is in memory.

    Args:
        path: as in `write_grids`.
        batches: occupancy, `count` grids of one size in all.
        count: how many.
        transform: as in `write_grids`.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: as in `write_grids`.
    """
    ending = _ending(path)
    if transform is not None:
        _check_holds(ending, transform, path)
    if ending in SINGLE_ENDINGS:
        paths = files.numbered(path, count)
        grids = (grid for batch in batches for grid in _as_they_are(batch, ending))
        for grid_path, grid in zip(paths, grids, strict=True):
            with files.replacing(grid_path) as temporary:
                if ending == ".binvox":
                    temporary.write_bytes(_binvox_bytes(grid, transform))
                else:
                    instance = grid.view(np.uint8) if grid.dtype == bool else grid
                    matlab_files.write_variables(
                        temporary, {"instance": instance, **_transform_arrays(transform)}
                    )
        return paths
    pieces = (_as_they_are(batch, ending) for batch in batches)
    with files.replacing(path) as temporary:
        if ending == ".npy":
            with open(temporary, "wb") as file:
                _write_npy(file, pieces, count)
        else:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, array in _transform_arrays(transform).items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.save(member, array, allow_pickle=False)
                with archive.open("occupancy.npy", "w", force_zip64=True) as member:
                    _write_npy(member, pieces, count)
    return (Path(path),)


def _as_they_are(occupancy: Any, ending: str) -> np.ndarray:
    if ending == ".binvox":
        return as_binary(occupancy, "occupancy")
    is_bool = isinstance(occupancy, np.ndarray) and occupancy.dtype.kind == "b"
    grids = as_occupancy(occupancy, "occupancy")
    return grids.astype(bool) if is_bool else grids


def _write_npy(file: Any, pieces: Iterable[np.ndarray], count: int) -> None:
    """An array that is written piece by piece; `np.save` would want the whole of it."""
    written = 0
    for piece in pieces:
        if not written:
            header = {
                "descr": npy_format.dtype_to_descr(piece.dtype),
                "fortran_order": False,
                "shape": (count, *piece.shape[1:]),
            }
            npy_format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(piece).data)
        written += len(piece)
    if written != count:
        raise ValueError(f"count must be the number of grids, {written}, but it is {count}")


_TRANSFORM_KEYS = ("scale", "offset", "up", "turn")


def _transform_arrays(transform: GridTransform | None) -> dict[str, Any]:
    if transform is None:
        return {}
    return {key: np.array(getattr(transform, key)) for key in _TRANSFORM_KEYS}


def _check_holds(ending: str, transform: GridTransform, path) -> None:
    if ending == ".npy":
        raise ValueError(f".npy files hold no transform, and path is {path}; choose .npz.")
    if ending == ".binvox" and (transform.up != "z" or transform.turn % 360):
        raise ValueError(
            f".binvox files hold only transforms of meshes with z up that were not turned, and "
            f"transform is {transform}; choose .npz"
        )


def _ending(path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in GRID_ENDINGS:
        raise ValueError(f"grids are kept in {', '.join(GRID_ENDINGS)} files, and path is {path}")
    return ending
