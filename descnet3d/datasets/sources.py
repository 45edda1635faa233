"""Labelled shapes from wherever a user has them: an archive, a folder, or a tfds data set."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from descnet3d.datasets.archives import VoxelArchive, find_label, is_archive, read_archive
from descnet3d.datasets.folder_archives import REPORTED, read_folder
from descnet3d.datasets.folders import SKIPPED, check_unpacked, passed_over_in_words
from descnet3d.datasets.grid_files import GRID_ENDINGS, read_grids
from descnet3d.shapes.occupancy import MAX_VOXELS
from descnet3d.shapes.transform import Up

SPLITS = ("train", "test")
DEFAULT_SIZE = 32
# As in tfds: name, name/config, name:version, name/config:version.
_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.\-]+)?(:[\d.*]+)?", re.ASCII)


def read_shapes(
    source: str | os.PathLike,
    category: str | None = None,
    split: str | None = None,
    *,
    size: int | None = None,
    up: Up | None = None,
    data_dir: str | os.PathLike | None = None,
    keep_in: str | os.PathLike | None = None,
    progress: bool = False,
    report: Callable[[str], Any] = warnings.warn,
) -> VoxelArchive:
    """Reads labelled shapes.

    Args:
        source: a voxel archive (`.npz`), plain grids as `write_grids` writes them (`.npz`, `.npy`,
            `.binvox`, `.mat`; they are of one category, every fifth a test shape), a folder of
            meshes or grids
            (`<root>/<category>/[train|test/]<file>`), or the name of a tfds data set, such as
            "modelnet_voxels/modelnet10_32", which is built where it has not been.
        category: keep the shapes of this category; None for all.
        split: keep the shapes of "train" or of "test"; None for both.
        size: the side of the grids that a folder's shapes are put on, 32 where None; those of an
            archive or a data set must have it, where it is given.
        up: the upward axis of a folder's meshes; see `folder_archives.read_folder`.
        data_dir: where tfds keeps its data sets; its own place where None.
        keep_in: a folder in which a folder's grids are kept; see `folder_archives.read_folder`.
        progress: shows a bar with the time left.
        report: is told, in one line, which files of a folder hold no shape.

    Returns:
        The shapes.

    Raises:
        ValueError: there is no such thing, it is damaged, or it holds no such shapes.
        ImportError: `source` is the name of a data set, and tensorflow-datasets is not installed.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f'split must be "train", "test" or None, but it is {split!r}.')
    check_unpacked(source)
    path = Path(source)
    name = os.fspath(source)
    if os.path.isdir(path):
        return read_folder(
            path,
            category,
            split,
            size=size or DEFAULT_SIZE,
            up=up,
            keep_in=keep_in,
            progress=progress,
            report=report,
        )
    if os.path.exists(path) or path.suffix.lower() == ".npz":
        archive = _read_file(path, category, split)
    elif _NAME.fullmatch(name):
        archive = _read_dataset(name, category, split, data_dir, progress, report)
    else:
        raise ValueError(f"there is no file or folder {name}, and it is no name of a tfds data set")
    grid = archive.occupancy.shape[1:]
    if size is not None and grid != (size,) * 3:
        raise ValueError(f"{name} holds grids of {grid}, and size was given as {size}")
    return archive


def holds_plain_grids(source: str | os.PathLike) -> bool:
    """Whether shapes are grids in one file, which names no categories.

    Raises:
        ValueError: the file is damaged.
    """
    path = Path(source)
    return path.is_file() and path.suffix.lower() in GRID_ENDINGS and not is_archive(path)


def _read_file(path: Path, category: str | None, split: str | None) -> VoxelArchive:
    """A voxel archive; or plain grids, which are called as their file is, a fifth of them tests."""
    if not holds_plain_grids(path):
        return read_archive(path, category, split)
    grids = read_grids(path) > 0.5
    count = len(grids)
    is_test = np.arange(count) % 5 == 4
    kept = np.ones(count, bool) if split is None else is_test == (split == "test")
    if not kept.any():
        raise ValueError(f"{path} holds {count} shapes: too few to have {split} shapes among them")
    return VoxelArchive(
        grids[kept],
        np.zeros(int(kept.sum()), np.int64),
        (category or path.stem,),
        is_test[kept],
        tuple(f"{path.stem}_{index}" for index in np.flatnonzero(kept)),
    )


def _read_dataset(
    name: str,
    category: str | None,
    split: str | None,
    data_dir: Any,
    progress: bool,
    report: Callable[[str], Any],
) -> VoxelArchive:
    builder = _builder(name, data_dir)
    _report_skipped(builder, name, report)  # where it is built now, the builder tells
    features = builder.info.features
    is_of_shapes = {"occupancy", "label"} <= set(features or ())
    if not is_of_shapes or np.dtype(features["occupancy"].np_dtype) != bool:
        raise ValueError(f"{name} is no data set of shapes: it has no bool occupancy and label")
    with contextlib.redirect_stdout(sys.stderr):  # tfds says there what it is doing
        if progress:
            builder.download_and_prepare()
        else:
            _tfds().disable_progress_bar()
            try:
                builder.download_and_prepare()
            finally:
                _tfds().enable_progress_bar()
    classes = tuple(builder.info.features["label"].names or ())
    label = find_label(category, classes, name) if category is not None else None
    packed: list[np.ndarray] = []
    labels: list[int] = []
    is_test: list[bool] = []
    ids: list[str] = []
    grid: tuple[int, ...] = ()
    for part in SPLITS if split is None else (split,):
        if part not in builder.info.splits:
            continue
        for number, example in enumerate(_examples(builder, name, part)):
            if label is not None and int(example["label"]) != label:
                continue
            occupancy = np.asarray(example["occupancy"])
            grid = occupancy.shape[:3]
            if (len(packed) + 1) * occupancy.size > MAX_VOXELS:
                raise ValueError(
                    f"{name} holds too many grids of {grid} to read at once; choose a category or "
                    "a split"
                )
            packed.append(np.packbits(occupancy))
            labels.append(int(example["label"]))
            is_test.append(part == "test")
            identity = example.get("id", f"{part}_{number:06d}".encode())
            ids.append(identity.decode() if isinstance(identity, bytes) else str(identity))
    if not packed:
        wanted = " ".join(word for word in (split, category) if word is not None)
        raise ValueError(f"{name} holds no {wanted + ' ' if wanted else ''}shapes")
    bits = np.unpackbits(np.stack(packed), axis=1, count=int(np.prod(grid)))
    return VoxelArchive(
        occupancy=bits.view(bool).reshape(-1, *grid),
        labels=np.array(labels),
        classes=classes,
        is_test=np.array(is_test),
        ids=tuple(ids),
    )


def _builder(name: str, data_dir: Any) -> Any:
    tfds = _tfds()
    importlib.import_module("descnet3d.datasets")
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"there is no file or folder {name}, and no tfds data set of that name; there are "
            "modelnet_voxels/modelnet10_32 and others, see descnet3d.datasets"
        ) from error
    except (ValueError, AssertionError, RuntimeError) as error:
        known = ", ".join(tfds.builder_cls(re.split("[/:]", name)[0]).builder_configs)
        raise ValueError(
            f"there is no tfds data set {name} of this version, built or known; there is: {known}"
        ) from error


def _report_skipped(builder: Any, name: str, report: Callable[[str], Any]) -> None:
    """Tells what a data set that was built before left out."""
    path = Path(builder.data_dir) / SKIPPED
    if not path.is_file():
        return
    skipped = [(one["file"], one["reason"]) for one in json.loads(path.read_text("utf-8"))]
    if skipped:
        told = "; ".join(passed_over_in_words(skipped)[:REPORTED])
        report(f"{name} lacks {len(skipped)} files (all in {path}): {told}")


def _examples(builder: Any, name: str, split: str) -> Iterable[Any]:
    file_format = builder.info.file_format.value
    if file_format == "array_record":
        return builder.as_data_source(split)
    if importlib.util.find_spec("tensorflow") is not None:
        return _tfds().as_numpy(builder.as_dataset(split=split))
    raise ValueError(
        f"{name} was built as {file_format} in {builder.data_dir}, which TensorFlow alone reads; "
        "install it, or remove that folder to have it built anew"
    )


def _tfds() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"tensorflow-datasets cannot be imported ({error}); install it with: "
            "pip install tensorflow-datasets"
        ) from error
    return tensorflow_datasets
