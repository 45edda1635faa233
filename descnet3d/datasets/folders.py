"""Folders of shapes, `<root>/<category>/[train|test/]<file>`: which there are, and their splits.

Every file is either a shape or named with the reason why it is none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from descnet3d.datasets.grid_files import GRID_ENDINGS
from descnet3d.datasets.mesh_files import MESH_INPUT_ENDINGS, is_mesh_file
from descnet3d.datasets.shape_files import Skipped
from descnet3d.shapes.poses import pose_turns

SHAPE_ENDINGS = (*MESH_INPUT_ENDINGS, *GRID_ENDINGS)
# The list of files that hold no shape, beside what was made of the others.
SKIPPED = "skipped.json"
Split = Literal["train", "test"]
SPLITS = ("train", "test")
_SPLIT_WORDS = {
    **{word: "train" for word in ("train", "training")},
    **{word: "test" for word in ("test", "testing")},
    **{word: "validation" for word in ("val", "valid", "validation", "dev")},
}


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


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        shapes: the files of shapes, by category and then by path.
        passed_over: the others, with the reason why.
    """

    shapes: list[ShapeFile]
    passed_over: list[Skipped]


def list_shapes(root: str | os.PathLike, test_share: float = 0.2) -> list[ShapeFile]:
    """The shapes of a folder: those of `list_folder`."""
    return list_folder(root, test_share).shapes


def list_folder(root: str | os.PathLike, test_share: float = 0.2) -> Listing:
    """The shapes of a folder, in an order that is the same on every machine, and its other files.

    Args:
        root: a folder of categories. In each, the files of shapes lie in `train` and `test`, or
            beside each other, or in folders of their own, however deep. `train` and `test` may
            also lie above the categories. Hidden files and folders and `__MACOSX` are left out.
        test_share: the share of a category's files that become test shapes where it has no folders
            `train` and `test`. A file's name alone decides, so that it stays in its split when
            others come and go.

    Returns:
        Every file, as a shape or with the reason why it is none.

    Raises:
        ValueError: there is no such folder, it has no categories with shapes in them, or
            `test_share` is not a share.
    """
    if not 0 <= test_share <= 1:
        raise ValueError(f"test_share must lie between 0 and 1, but it is {test_share}.")
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found: list[ShapeFile] = []
    passed_over: list[Skipped] = []
    for path in _files(root):
        placed = _place(path, path.relative_to(root).parts, test_share)
        if isinstance(placed, ShapeFile):
            found.append(placed)
        else:
            passed_over.append(Skipped(printable(path), placed))
    if not found:
        loose = any(_is_shape(path) for path in _visible(root))
        raise ValueError(
            f"{root} holds {'shapes, but no' if loose else 'no'} folders of categories with shapes "
            f"in them; lay it out as {root}/CATEGORY/FILE or {root}/CATEGORY/train/FILE, "
            f"of {', '.join(SHAPE_ENDINGS)} files"
        )
    found.sort(key=lambda shape: shape.category)
    return Listing(_with_different_ids(found, root), passed_over)


def check_unpacked(path: str | os.PathLike) -> None:
    """Refuses a zip file by name: it is neither a folder nor a file of one shape."""
    if Path(path).suffix.lower() == ".zip" and os.path.isfile(path):
        raise ValueError(f"{path} is a zip file; unpack it, and name the folder of its categories")


def passed_over_in_words(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """One line a reason, with how many files it holds for and one of them."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in skipped:
        by_reason.setdefault(reason, []).append(path)
    return [
        f"{paths[0]} {reason}" + (f" (and {len(paths) - 1} more such)" if len(paths) > 1 else "")
        for reason, paths in by_reason.items()
    ]


def printable(path: str | os.PathLike) -> str:
    """A path as text that can be printed and kept, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _place(path: Path, parts: tuple[str, ...], test_share: float) -> ShapeFile | str:
    """A file of a folder as a shape, or the reason why it is none."""
    if not _is_shape(path):
        if not path.is_file():
            return f"is {'a link to nothing' if path.is_symlink() else 'no file of data'}"
        ending = printable(path.suffix.lower())
        return f"ends in {ending or 'nothing'}, and no shapes are read from such files"
    folders = list(parts[:-1])
    words = [_SPLIT_WORDS[one.lower()] for one in folders[:1] if one.lower() in _SPLIT_WORDS]
    if words:
        folders = folders[1:]
    if not folders:
        return "lies in no category's folder"
    category, *deeper = folders
    words += [_SPLIT_WORDS[one.lower()] for one in deeper if one.lower() in _SPLIT_WORDS]
    if len(set(words)) > 1:
        return "lies in folders of two splits at once"
    if "validation" in words:
        return "lies in a validation folder, and shapes are for train or test: move it to one"
    split: Split = "train"
    if "test" in words or (
        not words and _split("/".join((category, *deeper, path.name)), test_share) == "test"
    ):
        split = "test"
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    return ShapeFile(path, printable(category), split, printable(stem))


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
        if not is_mesh_file(shape.path):
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


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below a folder, once each even where links go round in a circle."""
    real = folder.resolve()
    if real in above:
        return
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _files(entry, (*above, real))
        else:
            yield entry


def _is_shape(path: Path) -> bool:
    ends_well = is_mesh_file(path) or path.suffix.lower() in GRID_ENDINGS
    return ends_well and path.is_file()


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
        else shape._replace(id=printable(shape.path.relative_to(root).as_posix()))
        for shape in shapes
    ]
