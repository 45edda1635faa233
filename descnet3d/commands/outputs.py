"""What commands share: Keras started quietly, and shapes written by the ending of a path."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descnet3d import files
from descnet3d.commands.console import UsageError

if TYPE_CHECKING:
    from descnet3d.shapes.transform import GridTransform

MEANING = (
    "Where to write. The ending says what: a rendered sheet (.png, .jpg, .webp), the grids (.npz, "
    ".npy, .binvox, .mat), or meshes (.ply, .obj, .glb, .stl, .off). Where a kind of file holds "
    "one shape, the names are numbered."
)


def start_keras() -> None:
    """Imports Keras and its backend without what TensorFlow says of itself at its start.

    From then on freed memory is kept. Whoever has set TF_CPP_MIN_LOG_LEVEL gets what they asked for
    instead.
    """
    keep_freed_memory()
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        importlib.import_module("keras")
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Since 2.19 TensorFlow logs to the file descriptor while it is imported, whatever that variable
    # says (its issue 100442).
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            importlib.import_module("keras")
        except BaseException:
            caught.seek(0)
            os.write(standard_error, caught.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def keep_freed_memory() -> None:
    """Tells the C library to keep the memory that tensors give back for the next ones.

    glibc returns large blocks to the system at once, and the system clears each page before it
    lends it again; `benchmarks/freed_memory.py` measures what that costs. Other C libraries have no
    `mallopt`, or have one that does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    no_mapped_blocks, keep_everything, grow_by = (-4, 0), (-1, 2**31 - 1), (-2, 2**26)
    for option in (no_mapped_blocks, keep_everything, grow_by):
        mallopt(*option)


def writer(
    out: str,
    count: int,
    labels: Sequence[str] | None = None,
    transform: GridTransform | None = None,
    columns: int | None = None,
) -> Callable[[Any], Sequence[Path]]:
    """What writes shapes to a path, by its ending; whatever stands in its way is raised now.

    Args:
        out: the path.
        count: how many shapes there will be.
        labels: what stands under the shapes of a sheet.
        transform: where their grid lies in the coordinates of the mesh that they came from.
        columns: the shapes in a row of a sheet.

    Returns:
        A function of the shapes that returns the paths of what it wrote.

    Raises:
        UsageError: when the ending is none that is written.
        OutputError: when the path can't be written.
    """
    from descnet3d.datasets.grid_files import GRID_ENDINGS, SINGLE_ENDINGS, write_grids
    from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save_all
    from descnet3d.shapes import sheets
    from descnet3d.shapes.surfaces import open3d

    ending = Path(out).suffix.lower()
    known = (*sheets.IMAGE_ENDINGS, *GRID_ENDINGS, *MESH_ENDINGS)
    if ending not in known:
        raise UsageError(f"--out={out} ends in none of {', '.join(known)}")

    one_file_a_shape = ending in (*MESH_ENDINGS, *SINGLE_ENDINGS)
    for path in files.numbered(out, count if one_file_a_shape else 1):
        files.check_writable(path)
    if ending not in GRID_ENDINGS:
        open3d()

    if ending in sheets.IMAGE_ENDINGS:
        return lambda shapes: [sheets.save_sheet(shapes, out, labels=labels, columns=columns)]
    if ending in MESH_ENDINGS:
        return lambda shapes: save_all(shapes, out, transform=transform)
    if ending == ".npy":  # holds no transform
        return lambda shapes: write_grids(out, shapes)
    if ending == ".binvox":  # holds yes and no, nothing between
        return lambda shapes: write_grids(out, shapes > 0.5, transform)
    return lambda shapes: write_grids(out, shapes, transform)


def report(groups: Iterable[Sequence[Path]], count: int, started: float) -> None:
    """Prints what was written, of how many shapes, and how long it took.

    Args:
        groups: the paths, those that are numbered together in one group.
        count: how many shapes.
        started: when the work began, by `time.perf_counter`.
    """
    names = [
        f"{group[0]} to {group[-1]}" if len(group) > 1 else str(group[0])
        for group in groups
        if group
    ]
    counted = "1 shape" if count == 1 else f"{count} shapes"
    print(f"wrote {', '.join(names)}: {counted} in {time.perf_counter() - started:.1f} s")
