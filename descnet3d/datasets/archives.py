"""Archives of labelled voxels: `.npz` files that hold many shapes, packed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from descnet3d import files
from descnet3d.numpy_files import OpenArchive
from descnet3d.shapes.occupancy import MAX_GRID_SIDE, MAX_VOXELS, as_binary


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
        raise ValueError(f'split must be "train", "test" or None, but it is {split!r}.')
    with OpenArchive(path) as archive:
        return _select(archive, path, category, split)


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file is a voxel archive, and no other `.npz` file.

    Raises:
        ValueError: it is no `.npz` file, or damaged.
    """
    if Path(path).suffix.lower() != ".npz":
        return False
    with OpenArchive(path) as archive:
        return "voxels_packed" in archive.keys or "occupancy" not in archive.keys


def write_archive(path: str | os.PathLike, archive: VoxelArchive) -> None:
    """Writes a voxel archive that `read_archive` reads back the same.

    Args:
        path: where to, ending in `.npz`. The file appears whole or not at all.
        archive: the shapes. `occupancy` may be anything that `as_occupancy` takes, of 0 and 1.

    Raises:
        ValueError: the parts of the archive do not fit each other, or the path cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"a voxel archive ends in .npz, and path is {path}.")
    occupancy = as_binary(archive.occupancy, "archive.occupancy")
    count = len(occupancy)
    labels = np.asarray(archive.labels)
    classes = np.asarray(archive.classes, dtype=np.str_)
    is_test = np.asarray(archive.is_test)
    ids = np.asarray(archive.ids, dtype=np.str_)
    _check_labels(labels, classes, count, "the archive to write")
    if is_test.shape != (count,) or is_test.dtype != bool:
        raise ValueError(
            f"archive.is_test must be bool [{count}], one for each shape, but it is "
            f"{is_test.dtype} {list(is_test.shape)}"
        )
    if ids.shape != (count,):
        raise ValueError(
            f"archive.ids must be {count} names, one for each shape, but their "
            f"shape is {list(ids.shape)}"
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


def find_label(category: str, classes: Sequence[str], where: str | os.PathLike) -> int:
    """The label of a category.

    Args:
        category: its name.
        classes: the names of all categories, in the order of their labels.
        where: what holds them, for the error message.

    Returns:
        Its index in `classes`.

    Raises:
        ValueError: there is no such category; the message names the nearest, and all.
    """
    if category in classes:
        return classes.index(category)
    # "nightstand", "Night Stand" and "night-stand" are all near "night_stand" once in lower case.
    near = difflib.get_close_matches(str(category).lower(), [name.lower() for name in classes], n=1)
    hint = next((f' Did you mean "{name}"?' for name in classes if name.lower() in near), "")
    raise ValueError(f"{where} has no category {category!r}.{hint} It has: {', '.join(classes)}")


def _select(archive: OpenArchive, path, category: str | None, split: str | None) -> VoxelArchive:
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
        keep &= labels == find_label(category, classes, path)
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
