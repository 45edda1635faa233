"""Files of shapes, meshes or grids alike, as occupancy grids of one size."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from descnet3d.datasets.grid_files import read_grid_file
from descnet3d.datasets.mesh_files import is_mesh_file, read_mesh
from descnet3d.datasets.workers import Failure, map_in_processes
from descnet3d.progress import bar as progress_bar
from descnet3d.shapes import poses
from descnet3d.shapes.transform import GridTransform as GridTransform
from descnet3d.shapes.transform import Up
from descnet3d.shapes.voxelize import Fill, Voxelized, check_options, voxelize

# What the processes are asked for.
ANSWER = "descnet3d.datasets.shape_files:answer"


class Skipped(NamedTuple):
    """A file that gave no shape.

    Attributes:
        path: the file.
        reason: why, in words that follow its name.
    """

    path: str
    reason: str


def voxelize_files(
    paths: Iterable[str | os.PathLike],
    size: int = 32,
    *,
    fill: Fill = "solid",
    span: float = 0.75,
    up: Up | None = None,
    turn: float | Sequence[float] = 0.0,
    key: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Iterator[Voxelized | Skipped]:
    """Puts the shapes of files on grids of one size, in several processes at once.

    Args:
        paths: files of meshes, or of grids, which are centred in larger grids where they are
            smaller. A file holds one shape.
        size: as in `voxelize`, and so `fill`, `span`, `up` and `turn`, which are for meshes alone.
        fill: see there.
        span: see there.
        up: see there.
        turn: see there; a sequence holds one turn a path.
        key: the array of grids' files that hold several; see `grid_files.read_grid_file`.
        workers: how many processes; as many as there are cores where None.
        progress: shows a bar with the time left on standard error.

    Returns:
        For each path, in order and as soon as it is there, its grid, or why there is none. A file
        of a grid gives the transform that it holds, or else the one of its own voxels.

    Raises:
        ValueError: an argument is not as above, before the first file is read.
    """
    paths = [os.fspath(path) for path in paths]
    turns = list(turn) if isinstance(turn, Sequence) else [turn] * len(paths)
    if len(turns) != len(paths):
        raise ValueError(f"turn holds {len(turns)} angles for {len(paths)} paths")
    for angle in {0.0, *turns}:
        check_options(size, fill=fill, span=span, up=up or "z", turn=angle)
    options = {"size": size, "fill": fill, "span": span, "up": up, "key": key}
    tasks = (
        {"path": path, "turn": angle, **options} for path, angle in zip(paths, turns, strict=True)
    )
    answers = map_in_processes(ANSWER, tasks, workers)
    return _read_answers(paths, answers, size, progress)


def _read_answers(paths, answers, size, progress) -> Iterator[Voxelized | Skipped]:
    if progress:
        answers = progress_bar(len(paths), "file", items=answers)
    for path, answer in zip(paths, answers, strict=True):
        yield read_answer(path, answer, size)


def read_answer(path: str, answer: bytes | Failure, size: int) -> Voxelized | Skipped:
    """What a process has answered of one file.

    Args:
        path: the file.
        answer: what it answered.
        size: the side of the grid.

    Returns:
        The grid, or why there is none.
    """
    if isinstance(answer, Failure):
        return Skipped(path, answer.reason)
    transform, _, packed = answer.partition(b"\n")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size**3)
    occupancy = bits.astype(bool).reshape(size, size, size)
    return Voxelized(occupancy, GridTransform(**json.loads(transform)))


def answer(task: dict[str, Any]) -> bytes:
    """What a process of `voxelize_files` makes of one file.

    Args:
        task: the arguments of `load_shape`.

    Returns:
        The transform as a line of JSON, and the packed grid.

    Raises:
        ValueError: as in `load_shape`; the message goes on where the file's name leaves off.
    """
    try:
        shape = load_shape(**task)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{task['path']} ")) from error
    transform = json.dumps(asdict(shape.transform)).encode("ascii")
    return transform + b"\n" + np.packbits(shape.occupancy).tobytes()


def load_shape(
    path: str | os.PathLike, size: int = 32, *, key: str | None = None, **options: Any
) -> Voxelized:
    """The shape of one file on a grid of a given size.

    Args:
        path: a mesh, or one grid, which is centred in a larger one where it is smaller.
        size: as in `voxelize`.
        key: the array of a file of several; see `grid_files.read_grid_file`.
        **options: those of `voxelize`, for a mesh.

    Returns:
        The grid, and where it lies in the file's coordinates.

    Raises:
        ValueError: the file cannot be read, or holds no shape or several, or a grid that is larger.
    """
    if is_mesh_file(path):
        return voxelize(read_mesh(path), size, **options)
    shapes, place = read_grid_file(path, key)
    if len(shapes) != 1:
        raise ValueError(f"{path} holds {len(shapes)} grids; put each into a file of its own")
    grid = shapes[0] > 0.5
    if not grid.any():
        raise ValueError(f"{path} has no occupied voxel")
    if max(grid.shape) > size:
        raise ValueError(f"{path} holds a grid of {list(grid.shape)}, larger than {size}")
    own = place or GridTransform(1.0, (0.0, 0.0, 0.0))
    shift = [-own.scale * ((size - side) // 2) for side in grid.shape]
    offset = tuple(np.add(own.offset, shift).tolist())
    return Voxelized(poses.pad(grid, size), replace(own, offset=offset))
