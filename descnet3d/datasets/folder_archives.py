"""A folder of shapes as labelled grids, kept so that it need not be voxelised again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descnet3d import files
from descnet3d.datasets.archives import VoxelArchive, find_label, read_archive, write_archive
from descnet3d.datasets.folders import (
    ShapeFile,
    in_poses,
    list_folder,
    passed_over_in_words,
    printable,
)
from descnet3d.datasets.shape_files import Skipped, voxelize_files
from descnet3d.shapes.occupancy import MAX_VOXELS
from descnet3d.shapes.transform import Up

REPORTED = 5


def read_folder(
    root: str | os.PathLike,
    category: str | None = None,
    split: str | None = None,
    *,
    size: int = 32,
    up: Up | None = None,
    keep_in: str | os.PathLike | None = None,
    progress: bool = False,
    report: Callable[[str], Any] = lambda line: None,
) -> VoxelArchive:
    """Puts the shapes of a folder on grids.

    Args:
        root: the folder, laid out as `folders.list_shapes` reads it.
        category: keep the shapes of this category; None for all.
        split: keep the shapes of "train" or of "test"; None for both.
        size: the side of the grids, in voxels.
        up: the meshes' upward axis, "z" or "y"; what each one's format has where None: y in glTF, z
            in the others.
        keep_in: a folder in which the grids are kept, to be read from there as long as the files
            and the size are the same; it is made where it is missing. None keeps nothing.
        progress: shows a bar with the time left.
        report: is told, in one line, which files hold no shape.

    Returns:
        The shapes, solid, the meshes centred and the longest side of each 0.75 of the grid's.
        `classes` are all categories of the folder, by name.

    Raises:
        ValueError: there is no such folder, category or split in it, or no file holds a shape.
    """
    every, passed_over = list_folder(root)
    if passed_over:
        told = "; ".join(passed_over_in_words(passed_over)[:REPORTED])
        report(f"passed over {len(passed_over)} files in {root}: {told}")
    classes = tuple(sorted({shape.category for shape in every}))
    if category is not None:
        find_label(category, classes, root)
    shapes = [
        shape
        for shape in every
        if category in (None, shape.category) and split in (None, shape.split)
    ]
    wanted = " ".join(word for word in (split, category) if word is not None)
    if not shapes:
        raise ValueError(f"{root} holds no {wanted} shapes")
    if len(shapes) * size**3 > MAX_VOXELS:
        raise ValueError(
            f"{root}: {len(shapes)} grids of {size} are too many to read at once; choose a "
            "category or a smaller grid"
        )
    kept = None
    if keep_in is not None:
        digest = content_digest(root, shapes, size, up or "", *classes)
        kept = Path(keep_in) / f"shapes_{digest}.npz"
    found = _read_kept(kept) if kept is not None else None
    archive, skipped = found or voxelize_shapes(shapes, classes, size, up=up, progress=progress)
    if skipped:
        first = [f"{Path(one.path).name} {one.reason}" for one in skipped[:REPORTED]]
        more = [f"and {len(skipped) - REPORTED} more"] if len(skipped) > REPORTED else []
        told = "; ".join([*first, *more])
        if archive is None:
            raise ValueError(f"{root}: no file holds a shape: {told}")
        report(f"skipped {len(skipped)} of {len(shapes)} files in {root}: {told}")
    assert archive is not None
    if kept is not None and found is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(kept.with_suffix(".skipped.json")) as temporary:
            temporary.write_text(json.dumps(skipped, indent=1) + "\n")
        write_archive(kept, archive)
    return archive


def _read_kept(path: Path) -> tuple[VoxelArchive, list[Skipped]] | None:
    """What was kept of a folder; None where there is nothing, or it is damaged."""
    try:
        skipped = json.loads(path.with_suffix(".skipped.json").read_text())
        return read_archive(path), [Skipped(*one) for one in skipped]
    except (OSError, ValueError, TypeError):
        return None


def content_digest(root: str | os.PathLike, shapes: Sequence[ShapeFile], *settings: Any) -> str:
    """Names the content of a folder: it changes with the files and with what is made of them.

    Args:
        root: the folder.
        shapes: its files.
        *settings: whatever else the result depends on; strings and numbers.

    Returns:
        Twelve hexadecimal digits, of the names, sizes and times of the files and the settings.
    """
    content: list[Any] = list(settings)
    for shape in shapes:
        state = shape.path.stat()
        name = shape.path.relative_to(root).as_posix()
        content.append([name, shape.split, shape.id, state.st_size, state.st_mtime_ns])
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()[:12]


def voxelize_shapes(
    shapes: Sequence[ShapeFile],
    classes: Sequence[str],
    size: int,
    *,
    poses: int = 1,
    strict: bool = False,
    **options: Any,
) -> tuple[VoxelArchive | None, list[Skipped]]:
    """Puts the shapes of files on grids, in an archive.

    Args:
        shapes: the files.
        classes: the names of all categories.
        size: the side of the grids, in voxels.
        poses: in how many poses about the upward axis each mesh goes in.
        strict: whether a file that holds no shape is an error.
        **options: as in `shape_files.voxelize_files`.

    Returns:
        The archive, None where no file holds a shape; and the files that hold none, with why.

    Raises:
        ValueError: a file holds no shape, and `strict` is asked for; or as in
            `folders.in_poses`.
    """
    shapes, turns = in_poses(shapes, poses)
    skipped, good, packed = [], [], []
    found = voxelize_files([shape.path for shape in shapes], size, turn=turns, **options)
    for shape, one in zip(shapes, found, strict=True):
        if not isinstance(one, Skipped):
            good.append(shape)
            packed.append(np.packbits(one.occupancy))
        elif strict:
            raise ValueError(f"{one.path}: {one.reason}")
        else:
            skipped.append(one._replace(path=printable(one.path)))
    if not good:
        return None, skipped
    bits = np.unpackbits(np.stack(packed), axis=1, count=size**3)
    archive = VoxelArchive(
        occupancy=bits.view(bool).reshape(-1, size, size, size),
        labels=np.array([classes.index(shape.category) for shape in good]),
        classes=tuple(classes),
        is_test=np.array([shape.split == "test" for shape in good]),
        ids=tuple(shape.id for shape in good),
    )
    return archive, skipped
