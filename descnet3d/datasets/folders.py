"""Folders of shapes, `<root>/<category>/[train|test/]<file>`: which there are, and their splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from descnet3d.datasets.grid_files import GRID_ENDINGS
from descnet3d.datasets.mesh_files import MESH_INPUT_ENDINGS
from descnet3d.shapes.poses import pose_turns

SHAPE_ENDINGS = (*MESH_INPUT_ENDINGS, *GRID_ENDINGS)
Split = Literal["train", "test"]
SPLITS = ("train", "test")


class ShapeFile(NamedTuple):
    """A file of one shape.

    Attributes:
        path: where it is.
        category: the name of the folder it lies in.
        split: "train" or "test".
        id: its name without the ending; with folders and ending where that is taken already.
    """

    path: Path
    category: str
    split: Split
    id: str


def list_shapes(root: str | os.PathLike, test_share: float = 0.2) -> list[ShapeFile]:
    """The shapes of a folder, in an order that is the same on every machine.

    Args:
        root: a folder of categories. In each, the files of shapes lie in `train` and `test`, or
            beside each other. Hidden files and folders, `__MACOSX`, and files that are no shapes
            are passed over.
        test_share: the share of a category's files that become test shapes where it has no folders
            `train` and `test`. A file's name alone decides, so that it stays in its split when
            others come and go.

    Returns:
        One entry a file, by category and then by path.

    Raises:
        ValueError: there is no such folder, it has no categories with shapes in them, or
            `test_share` is not a share.
    """
    if not 0 <= test_share <= 1:
        raise ValueError(f"test_share must lie between 0 and 1, and came as {test_share}")
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found: list[ShapeFile] = []
    for category in _visible(root):
        if not category.is_dir():
            continue
        name = category.name
        for entry in _visible(category):
            if entry.is_dir() and entry.name in SPLITS:
                split: Split = "train" if entry.name == "train" else "test"
                found += [
                    ShapeFile(path, name, split, path.stem)
                    for path in _visible(entry)
                    if _is_shape(path)
                ]
            elif _is_shape(entry):
                found.append(
                    ShapeFile(entry, name, _split(f"{name}/{entry.name}", test_share), entry.stem)
                )
    if not found:
        loose = any(_is_shape(entry) for entry in _visible(root))
        raise ValueError(
            f"{root} holds {'shapes, but no' if loose else 'no'} folders of categories with shapes "
            f"in them; lay it out as {root}/CATEGORY/FILE or {root}/CATEGORY/train/FILE, "
            f"of {', '.join(SHAPE_ENDINGS)} files"
        )
    return _with_different_ids(found, root)


def in_poses(shapes: Sequence[ShapeFile], count: int) -> tuple[list[ShapeFile], list[float]]:
    """Each file once a pose, and by how many degrees it is turned there about the upward axis.

    Args:
        shapes: the files.
        count: how many poses, evenly spread; 1 leaves everything as it is.

    Returns:
        The files, whose ids end in the number of the pose, and their turns.

    Raises:
        ValueError: `count` is not a positive number, or a file of a grid was to be turned.
    """
    turns = pose_turns(count)
    if count == 1:
        return list(shapes), [0.0] * len(shapes)
    for shape in shapes:
        if shape.path.suffix.lower() not in MESH_INPUT_ENDINGS:
            raise ValueError(f"only meshes have poses, and {shape.path} is a grid")
    posed = [
        (shape._replace(id=f"{shape.id}_{pose:02d}"), turn)
        for shape in shapes
        for pose, turn in enumerate(turns, start=1)
    ]
    return [shape for shape, _ in posed], [turn for _, turn in posed]


def _visible(folder: Path) -> list[Path]:
    kept = (e for e in folder.iterdir() if not e.name.startswith(".") and e.name != "__MACOSX")
    return sorted(kept, key=lambda entry: entry.name)


def _is_shape(path: Path) -> bool:
    return path.suffix.lower() in SHAPE_ENDINGS and path.is_file()


def _split(name: str, test_share: float) -> Split:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def _with_different_ids(shapes: list[ShapeFile], root: Path) -> list[ShapeFile]:
    counts: dict[str, int] = {}
    for shape in shapes:
        counts[shape.id] = counts.get(shape.id, 0) + 1
    return [
        shape
        if counts[shape.id] == 1
        else shape._replace(id=shape.path.relative_to(root).as_posix())
        for shape in shapes
    ]
