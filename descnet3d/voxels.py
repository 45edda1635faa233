"""Occupancy grids: the door through which they enter, and the files they are kept in.

A grid is `[x, y, z]` with z up, one number in [0, 1] a voxel; a batch of n grids is `[n, D, H, W]`.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from descnet3d import files

# A file that claims more than this is damaged or hostile: 2³³ voxels are all of ModelNet40 in
# twelve poses at 32³, and take 8 GB as bool.
MAX_VOXELS = 2**33
MAX_GRID_SIDE = 1024

GRID_ENDINGS = (".npz", ".npy", ".binvox")


class VoxelArchive(NamedTuple):
    """Labelled shapes, as a voxel archive holds them.

    Attributes:
        occupancy: bool `[n, D, H, W]`.
        labels: int64 `[n]`, an index into `classes` for each shape.
        classes: the names of all categories, those without a shape in this selection included.
        is_test: bool `[n]`, True for the shapes of the test split.
        ids: one name a shape.
    """

    occupancy: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    is_test: np.ndarray
    ids: tuple[str, ...]


def as_occupancy(
    shapes, name: str = "shapes", size: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Checks a user's occupancy and converts it: the one door into the package.

    Args:
        shapes: bool, integers 0 and 1, or floats in [0, 1]; `[n, D, H, W]` or `[n, D, H, W, 1]`.
            An array, nested lists, or a tensor that numpy can read.
        name: what the caller's argument is called, for the error messages.
        size: the grid `(D, H, W)` that is needed, or None for any.

    Returns:
        float32 `[n, D, H, W]`. Where `shapes` was that already it is the same array, not a copy.

    Raises:
        ValueError: `shapes` is anything else; the message names the argument, says what came, and
            what to do about it.
    """
    try:
        values = np.asarray(shapes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot be read as one array ({error}); pass an array [n, D, H, W] in which "
            "all grids have the same size"
        ) from error
    if values.dtype.name == "bfloat16":  # numpy knows this type by name alone
        values = values.astype(np.float32)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold numbers, and came as {values.dtype}; pass bool, 0 and 1, or floats "
            "in [0, 1], as one array [n, D, H, W]"
        )
    shape = list(values.shape)
    if values.ndim == 3:
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], and came as one grid {shape}; add a leading "
            f"axis: {name}[None]"
        )
    if size is not None and values.shape == (*size, 1):
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], and came as one grid {shape}; drop the last "
            f"axis and add a leading one: {name}[None, ..., 0]"
        )
    if values.ndim == 5 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 4:
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], and came with shape {shape}; "
            "give it four axes, or five with a last one of length 1"
        )
    if values.size == 0:
        raise ValueError(f"{name} is empty (shape {shape}); pass at least one shape")
    if size is not None and values.shape[1:] != tuple(size):
        raise ValueError(
            f"{name} must have grids of size {list(size)}, and came with shape {shape}; "
            "voxelize or resize the shapes to that grid"
        )
    if values.dtype.kind != "b":
        lowest, highest = values.min(), values.max()
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            bad = int(values.size - np.isfinite(values).sum())
            raise ValueError(f"{name} holds {bad} values that are NaN or infinite; remove them")
        if lowest < 0 or highest > 1:
            raise ValueError(
                f"{name} must lie in [0, 1], and came with values from {lowest:g} to {highest:g}; "
                "pass occupancy: divide by the largest value, threshold, or clip"
            )
    return values.astype(np.float32, copy=False)


def read_archive(
    path: str | os.PathLike, category: str | None = None, split: str | None = None
) -> VoxelArchive:
    """Reads a voxel archive (`.npz`), or a part of it.

    The archive holds `voxels_packed`, uint8 `[n, ceil(D·H·W / 8)]` from `np.packbits(..., axis=1)`;
    `shape`, the grid `(D, H, W)`; `labels` and `classes`; and, where it has them, `is_test` and
    `ids`. Without `is_test` all shapes are training shapes; without `ids` they are numbered.

    Args:
        path: the archive.
        category: keep the shapes of this category; None for all.
        split: keep the shapes of "train" or of "test"; None for both.

    Returns:
        The shapes that were asked for, in the archive's order. `classes` stays complete, so that
        labels mean the same for every selection.

    Raises:
        ValueError: the file is missing, damaged or no voxel archive, or holds no such shapes.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f'split must be "train", "test" or None, and came as {split!r}')
    with _OpenArchive(path) as archive:
        return _select(archive, path, category, split)


def write_archive(path: str | os.PathLike, archive: VoxelArchive) -> None:
    """Writes a voxel archive that `read_archive` reads back the same.

    Args:
        path: where to, ending in `.npz`. The file appears whole or not at all.
        archive: the shapes. `occupancy` may be anything that `as_occupancy` takes, of 0 and 1.

    Raises:
        ValueError: the parts of the archive do not fit each other, or the path cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"a voxel archive ends in .npz, and path came as {path}")
    occupancy = _as_binary(archive.occupancy, "archive.occupancy")
    count = len(occupancy)
    labels = np.asarray(archive.labels)
    classes = np.asarray(archive.classes, dtype=np.str_)
    is_test = np.asarray(archive.is_test)
    ids = np.asarray(archive.ids, dtype=np.str_)
    _check_labels(labels, classes, count, "the archive to write")
    if is_test.shape != (count,) or is_test.dtype != bool:
        raise ValueError(
            f"archive.is_test must be bool [{count}], one for each shape, and came as "
            f"{is_test.dtype} {list(is_test.shape)}"
        )
    if ids.shape != (count,):
        raise ValueError(
            f"archive.ids must be {count} names, one for each shape, and came with "
            f"shape {list(ids.shape)}"
        )
    with files.replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            voxels_packed=np.packbits(occupancy.reshape(count, -1), axis=1),
            shape=np.array(occupancy.shape[1:], dtype=np.int64),
            labels=labels.astype(np.uint8 if len(classes) <= 256 else np.int64),
            classes=classes,
            is_test=is_test,
            ids=ids,
        )


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
        content = _read_bytes(path)
        values = _parse_npy(io.BytesIO(content), len(content), str(path))
    else:
        with _OpenArchive(path) as archive:
            if "voxels_packed" in archive.keys:
                return _select(archive, path, None, None).occupancy
            values = archive.read("occupancy")
    if values.ndim == 3:
        values = values[None]
    is_bool = values.dtype.kind == "b"
    values = as_occupancy(values, f"the occupancy in {path}")
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
        grids = _as_binary(occupancy, "occupancy")
        paths = files.numbered(path, len(grids))
        for grid_path, grid in zip(paths, grids, strict=True):
            with files.replacing(grid_path) as temporary:
                temporary.write_bytes(_binvox_bytes(grid))
        return paths
    grids = as_occupancy(occupancy, "occupancy")
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


def _as_binary(occupancy, name: str) -> np.ndarray:
    """Bool `[n, D, H, W]` from occupancy of exactly 0 and 1."""
    values = as_occupancy(occupancy, name)
    filled = values != 0
    if not np.array_equal(filled, values):
        raise ValueError(
            f"{name} must be 0 or 1 for this kind of file, and came with values between; "
            f"threshold it first: {name} > 0.5"
        )
    return filled


def _read_bytes(path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


# --- Voxel archives -------------------------------------------------------------------------------


class _OpenArchive:
    """An `.npz` file whose arrays are looked at before memory is set aside for them."""

    def __init__(self, path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise ValueError(f"there is no file {path}") from error
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        # Beside BadZipFile, zipfile lets the errors of its own parsing through.
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise ValueError(
                f"{path} is not an .npz archive, or is cut short ({error}); get it again"
            ) from error
        self.keys = {name.removesuffix(".npy") for name in self._zip.namelist()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()

    def read(self, key: str) -> np.ndarray:
        if key not in self.keys:
            raise ValueError(
                f"{self.path} has no key {key!r}; it holds: {', '.join(sorted(self.keys)) or '-'}"
            )
        try:
            info = self._zip.getinfo(f"{key}.npy")
            with self._zip.open(info) as stream:
                return _parse_npy(stream, info.file_size, f"{self.path}, key {key!r},")
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            KeyError,
            NotImplementedError,
            RuntimeError,  # an encrypted member
        ) as error:
            raise ValueError(
                f"{self.path} is damaged at key {key!r} ({error}); get it again"
            ) from error


def _parse_npy(stream, available: int, where: str) -> np.ndarray:
    """The array of an `.npy` stream of `available` bytes, at most 2³³ of them."""
    try:
        version = npy_format.read_magic(stream)
        read_header = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(stream)
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise
    except Exception as error:  # the header is Python text, whose parser raises all kinds
        raise ValueError(f"{where} is not a numpy array, or is cut short") from error
    if dtype.hasobject:
        raise ValueError(f"{where} holds Python objects, which are never read; store numbers")
    if any(side < 0 for side in shape) or dtype.itemsize == 0:
        raise ValueError(f"{where} claims the shape {list(shape)}; the file is damaged")
    count = 1
    for side in shape:  # in Python's integers, which do not wrap round
        count *= side
    needed = count * dtype.itemsize
    if needed > MAX_VOXELS or needed > available:
        raise ValueError(
            f"{where} claims the shape {list(shape)} and is too short for it or too large to read"
        )
    content = bytearray(needed)
    filled = 0
    while filled < needed:
        piece = stream.read(min(needed - filled, 2**24))
        if not piece:
            raise ValueError(f"{where} is cut short; get it again")
        content[filled : filled + len(piece)] = piece
        filled += len(piece)
    stream.read()  # at the end of a zip member its checksum is compared
    values = np.frombuffer(content, dtype=dtype, count=count)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _select(archive: _OpenArchive, path, category: str | None, split: str | None) -> VoxelArchive:
    shape = archive.read("shape")
    if shape.shape != (3,) or shape.dtype.kind not in "iu":
        raise ValueError(f"{path}: shape must be three whole numbers (D, H, W), and is {shape}")
    size = tuple(int(side) for side in shape)
    if min(size) < 1 or max(size) > MAX_GRID_SIDE:
        raise ValueError(
            f"{path}: grids of {size} are not read; a side is 1 to {MAX_GRID_SIDE} voxels"
        )
    voxels = size[0] * size[1] * size[2]
    packed = archive.read("voxels_packed")
    expected_bytes = -(-voxels // 8)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != expected_bytes:
        raise ValueError(
            f"{path}: voxels_packed is {packed.dtype} {list(packed.shape)}, where grids of {size} "
            f"need uint8 [n, {expected_bytes}]"
        )
    count = len(packed)
    labels, class_names = archive.read("labels"), archive.read("classes")
    _check_labels(labels, class_names, count, path)
    classes = tuple(str(name) for name in class_names)
    labels = labels.astype(np.int64)

    is_test = archive.read("is_test") if "is_test" in archive.keys else np.zeros(count, dtype=bool)
    if is_test.shape != (count,) or is_test.dtype.kind not in "bui":
        raise ValueError(
            f"{path}: is_test is {is_test.dtype} {list(is_test.shape)}, and needs bool [{count}]"
        )
    is_test = is_test.astype(bool)
    if "ids" in archive.keys:
        ids = archive.read("ids")
        if ids.shape != (count,) or ids.dtype.kind != "U":
            raise ValueError(f"{path}: ids is {ids.dtype} {list(ids.shape)}, not {count} names")
    else:
        ids = np.array([f"{classes[label]}_{row:06d}" for row, label in enumerate(labels)])

    keep = np.ones(count, dtype=bool)
    if category is not None:
        if category not in classes:
            raise ValueError(_unknown_category(category, classes, path))
        keep &= labels == classes.index(category)
    if split is not None:
        keep &= is_test == (split == "test")
    rows = np.flatnonzero(keep)
    if len(rows) == 0:
        wanted = " ".join(word for word in (split, category) if word is not None)
        raise ValueError(f"{path} holds no {wanted + ' ' if wanted else ''}shapes")
    if len(rows) * voxels > MAX_VOXELS:
        raise ValueError(
            f"{path}: {len(rows)} grids of {size} are too many to read at once; choose a "
            "category or a split"
        )
    bits = np.unpackbits(packed[rows], axis=1, count=voxels)
    return VoxelArchive(
        occupancy=bits.view(bool).reshape(-1, *size),
        labels=labels[rows],
        classes=classes,
        is_test=is_test[rows],
        ids=tuple(str(ids[row]) for row in rows),
    )


def _check_labels(labels: np.ndarray, classes: np.ndarray, count: int, where) -> None:
    if classes.ndim != 1 or classes.dtype.kind != "U" or len(set(classes.tolist())) < len(classes):
        raise ValueError(f"{where}: classes must be a list of different names, and is {classes}")
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: labels is {labels.dtype} {list(labels.shape)}, and needs one whole number "
            f"for each of the {count} shapes"
        )
    if count and (labels.min() < 0 or labels.max() >= len(classes)):
        raise ValueError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, and there are "
            f"{len(classes)} classes"
        )


def _unknown_category(category, classes: tuple[str, ...], path) -> str:
    # "nightstand", "Night Stand" and "night-stand" are all near "night_stand" once in lower case.
    near = difflib.get_close_matches(str(category).lower(), [name.lower() for name in classes], n=1)
    hint = next((f' Did you mean "{name}"?' for name in classes if name.lower() in near), "")
    return f"{path} has no category {category!r}.{hint} It has: {', '.join(classes)}"


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
    content = _read_bytes(path)
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
    return np.ascontiguousarray(grid.transpose(0, 2, 1))[None]
