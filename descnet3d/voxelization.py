"""Meshes as occupancy grids, surface or solid, watertight or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from descnet3d import grids, poses, processes
from descnet3d.grid_transform import GridTransform as GridTransform
from descnet3d.grid_transform import Up, check_up, upright
from descnet3d.mesh_files import MAX_COORDINATE, MESH_INPUT_ENDINGS, Mesh, read_mesh
from descnet3d.rasterization import surface_voxels
from descnet3d.solids import enclose

Fill = Literal["solid", "surface"]
FILLS = ("solid", "surface")
MAX_SIZE = 256
# Coordinates are rounded to this part of a voxel: what lies on a voxel's boundary then does so
# whatever the mesh's units are.
_STEPS = 2.0**20


class Voxelized(NamedTuple):
    """A mesh as a grid.

    Attributes:
        occupancy: bool `[size, size, size]`.
        transform: where the grid lies in the mesh's coordinates.
    """

    occupancy: np.ndarray
    transform: GridTransform


def voxelize(
    mesh: Mesh,
    size: int = 32,
    *,
    fill: Fill = "solid",
    span: float = 0.75,
    up: Up = "z",
    turn: float = 0.0,
) -> Voxelized:
    """Puts a mesh on a grid: centred, its longest side `span` of the grid's.

    Args:
        mesh: the mesh. Vertices that no triangle uses have no say.
        size: the side of the grid, in voxels.
        fill: "surface" for the voxels that the surface passes through; "solid" for what it
            encloses as well.
        span: the longest side of the mesh, as a share of the grid's, up to 1.
        up: the mesh's upward axis, "z" or "y"; the grid's is z.
        turn: by how many degrees the mesh is turned about the upward axis first, counter-clockwise
            seen from above. Multiples of 90 give exactly the turned grid.

    Returns:
        The grid, and where it lies in the mesh's coordinates.

    Raises:
        ValueError: an argument is not as above.
    """
    check_options(size, fill=fill, span=span, up=up, turn=turn)
    corners = _corners(mesh)
    quarters, rest = divmod(turn, 90.0)
    standing = corners @ upright(up, rest).T
    lowest, highest = standing.min(axis=(0, 1)), standing.max(axis=(0, 1))
    scale = float((highest - lowest).max()) / (span * size)
    if not scale > 0:
        raise ValueError("mesh is a single point, so it has no surface")
    middle = lowest / 2 + highest / 2
    placed = (standing - middle) / scale
    # Whatever lies between two voxels belongs to the one nearer to the middle of the grid, so that
    # a box of whole voxels becomes just these.
    placed = np.round(placed * _STEPS) / _STEPS * (1 - 0.25 / (_STEPS * size)) + size / 2
    occupancy = surface_voxels(placed, size)
    if fill == "solid":
        occupancy = enclose(occupancy, placed)
    occupancy = np.ascontiguousarray(np.rot90(occupancy, int(quarters) % 4, axes=(0, 1)))
    offset = upright("z", 90.0 * quarters) @ middle - scale * size / 2
    return Voxelized(occupancy, GridTransform(scale, tuple(offset.tolist()), up, turn))


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
    up: Up = "z",
    turn: float | Sequence[float] = 0.0,
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
        check_options(size, fill=fill, span=span, up=up, turn=angle)
    options = {"size": size, "fill": fill, "span": span, "up": up}
    tasks = (
        {"path": path, "turn": angle, **options} for path, angle in zip(paths, turns, strict=True)
    )
    answers = processes.map_in_processes("descnet3d.voxelization:answer", tasks, workers)
    return _read_answers(paths, answers, size, progress)


def _read_answers(paths, answers, size, progress) -> Iterator[Voxelized | Skipped]:
    if progress:
        from tqdm import tqdm

        answers = tqdm(answers, total=len(paths), unit="file", dynamic_ncols=True)
    for path, answer in zip(paths, answers, strict=True):
        if isinstance(answer, processes.Failure):
            yield Skipped(path, answer.reason)
            continue
        transform, _, packed = answer.partition(b"\n")
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size**3)
        yield Voxelized(
            bits.astype(bool).reshape(size, size, size), GridTransform(**json.loads(transform))
        )


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


def load_shape(path: str | os.PathLike, size: int = 32, **options: Any) -> Voxelized:
    """The shape of one file on a grid of a given size.

    Args:
        path: a mesh, or one grid, which is centred in a larger one where it is smaller.
        size: as in `voxelize`.
        **options: those of `voxelize`, for a mesh.

    Returns:
        The grid, and where it lies in the file's coordinates.

    Raises:
        ValueError: the file cannot be read, or holds no shape or several, or a grid that is larger.
    """
    if Path(path).suffix.lower() in MESH_INPUT_ENDINGS:
        return voxelize(read_mesh(path), size, **options)
    shapes = grids.read_grids(path)
    if len(shapes) != 1:
        raise ValueError(f"{path} holds {len(shapes)} grids; put each into a file of its own")
    grid = shapes[0] > 0.5
    if not grid.any():
        raise ValueError(f"{path} has no occupied voxel")
    if max(grid.shape) > size:
        raise ValueError(f"{path} holds a grid of {list(grid.shape)}, larger than {size}")
    own = grids.read_transform(path) or GridTransform(1.0, (0.0, 0.0, 0.0))
    shift = [-own.scale * ((size - side) // 2) for side in grid.shape]
    offset = tuple(np.add(own.offset, shift).tolist())
    return Voxelized(poses.pad(grid, size), replace(own, offset=offset))


def check_options(
    size: int,
    *,
    fill: str = "solid",
    span: float = 0.75,
    up: str = "z",
    turn: float = 0.0,
) -> None:
    """Makes sure that a mesh can be voxelised in this way.

    Args:
        size: as in `voxelize`, and so the others.
        fill: "solid" or "surface".
        span: above 0, at most 1.
        up: "z" or "y".
        turn: degrees.

    Raises:
        ValueError: one of them is not as `voxelize` takes it.
    """
    if not 2 <= size <= MAX_SIZE or size != int(size):
        raise ValueError(f"size must be a whole number from 2 to {MAX_SIZE}, and came as {size}")
    if fill not in FILLS:
        raise ValueError(f'fill must be "solid" or "surface", and came as {fill!r}')
    if not 0 < span <= 1:
        raise ValueError(f"span must be above 0 and at most 1, and came as {span}")
    check_up(up)
    if not np.isfinite(turn):
        raise ValueError(f"turn must be a number of degrees, and came as {turn}")


def _corners(mesh: Mesh) -> np.ndarray:
    vertices, triangles = np.asarray(mesh[0], np.float64), np.asarray(mesh[1])
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"mesh.vertices must be [v, 3], and came as {list(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        raise ValueError(
            f"mesh.triangles must be whole numbers [t, 3], and came as {triangles.dtype} "
            f"{list(triangles.shape)}"
        )
    if len(triangles) == 0:
        raise ValueError("mesh.triangles is empty, so the mesh has no surface")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(
            f"mesh.triangles run from {triangles.min()} to {triangles.max()}, and there are "
            f"{len(vertices)} vertices"
        )
    corners = vertices[triangles]
    if not np.abs(corners).max() <= MAX_COORDINATE:  # NaN compares with nothing
        raise ValueError("mesh.vertices holds NaN, infinity, or numbers above 1e100")
    return corners
