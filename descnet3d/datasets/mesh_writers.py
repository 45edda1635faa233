"""Triangle meshes, written to files of the kind that a path ends in."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descnet3d import files
from descnet3d.datasets.glb_writer import Arrays, glb_bytes
from descnet3d.datasets.grid_notes import grid_note
from descnet3d.shapes.mesh_form import MeshForm
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.surfaces import check_options, decimated, from_occupancy, open3d
from descnet3d.shapes.transform import GridTransform, upright

if TYPE_CHECKING:
    from open3d.geometry import TriangleMesh


def save(
    mesh: TriangleMesh,
    path: str | os.PathLike,
    transform: GridTransform | None = None,
    side: int = 0,
    flat: bool = False,
) -> Path:
    """Writes a mesh to a file of the kind that its path ends in.

    Args:
        mesh: an `open3d.geometry.TriangleMesh`.
        path: `.ply`, `.obj`, `.stl`, `.off`, all with z up, or `.glb`, whose format has y up: there
            the mesh is turned so that viewers show it standing. Appears whole or not at all.
        transform: puts the mesh, whose coordinates are a grid's, back into those of the mesh that
            the grid was made from, with the upward axis which that one had.
        side: the side of that grid, in voxels; a note in the file tells of it, so that the mesh is
            voxelised to the very same grid again. 0 where it is not known, or not the same for all.
        flat: whether each triangle is shaded by its own normal, as cubes are, and not each vertex
            by the mean of its triangles'. `.off` has no normals, and `.stl` those of triangles.

    Returns:
        The path.

    Raises:
        ValueError: the ending is not one of these, or the path cannot be written.
    """
    ending = _check_ending(path)
    if not mesh.has_triangles():
        raise ValueError(f"mesh has no triangles, so there is nothing to write to {path}")
    arrays, place = _placed(mesh, transform, ending, flat)
    content = _WRITERS[ending]([arrays], grid_note(arrays.vertices, place, side))
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def save_all(
    occupancy,
    path: str | os.PathLike,
    threshold: float = 0.5,
    surface: str = "cubes",
    transform: GridTransform | None = None,
    *,
    triangles: int | None = None,
    normals: str | None = None,
    metres: float | None = None,
    scene: bool = False,
) -> tuple[Path, ...]:
    """Writes the surface of every shape of a batch to a file of its own, or all to one.

    Every edge has two triangles, which face outwards.

    Args:
        occupancy: `[n, D, H, W]` in [0, 1].
        path: for one shape the file, as in `save`; for several `chairs.ply` stands for
            `chairs_00.ply`, `chairs_01.ply` and so on.
        threshold: as in `from_occupancy`.
        surface: "cubes", "isosurface" or "smooth", as in `extract_surface`.
        transform: as in `save`, the same for all shapes.
        triangles: the most triangles of a mesh, to which it is decimated; None for all of them.
        normals: "faces" or "vertices": which normals shade a mesh. None for those of the faces of
            cubes, and of the vertices of other surfaces.
        metres: the height of the grid, in metres: each mesh then stands on the ground about the
            middle, whatever `transform` says. None for its units, or for voxels.
        scene: whether all meshes are written to the one path, side by side as on a sheet; in
            `.glb` and `.obj` each under its own name.

    Returns:
        The paths of the files.

    Raises:
        ValueError: as in `from_occupancy` and `save`. A shape without an occupied voxel is
            reported by its index before any file is written.
    """
    shapes = as_occupancy(occupancy, "occupancy")
    form = MeshForm(surface, triangles, normals, metres, scene)
    return save_batches([shapes], len(shapes), path, form, threshold, transform)


def save_batches(
    batches: Iterable[np.ndarray],
    count: int,
    path: str | os.PathLike,
    form: MeshForm | None = None,
    threshold: float = 0.5,
    transform: GridTransform | None = None,
) -> tuple[Path, ...]:
    """As `save_all`, of batches; but for a scene no more than one of them is in memory.

    Args:
        batches: occupancy, `count` shapes of one size in all.
        count: how many.
        path: as in `save_all`.
        form: how meshes are written; None for the defaults of `save_all`.
        threshold: as in `save_all`.
        transform: as in `save_all`.

    Returns:
        The paths of the files.

    Raises:
        ValueError: as in `save_all`; of an empty shape before its batch is written.
    """
    _check_ending(path)
    form = form or MeshForm()
    check_options(threshold, form.surface)
    if form.scene:
        batches = [np.concatenate(list(batches))]
    paths, done = files.numbered(path, 1 if form.scene else count), 0
    for batch in batches:
        shapes = as_occupancy(batch, "occupancy")
        empty = done + np.flatnonzero(~(shapes > threshold).any(axis=(1, 2, 3)))
        if len(empty):
            raise ValueError(
                f"occupancy has no voxel above the threshold {threshold} in shapes "
                f"{empty.tolist()}, so they have no surface; leave them out"
            )
        if form.scene:
            _save_scene(shapes, Path(path), form, threshold, transform)
            continue
        sides = set(shapes.shape[1:])
        side = sides.pop() if len(sides) == 1 else 0
        for shape, shape_path in zip(shapes, paths[done:], strict=False):
            mesh = _shaped(shape, threshold, form)
            place = _on_the_ground(mesh, shape.shape, form) or transform
            save(mesh, shape_path, place, side, form.flat)
        done += len(shapes)
    return (Path(path),) if form.scene else paths


def _save_scene(
    shapes: np.ndarray,
    path: Path,
    form: MeshForm,
    threshold: float,
    transform: GridTransform | None,
) -> None:
    ending = path.suffix.lower()
    columns = math.ceil(math.sqrt(len(shapes)))
    placed = []
    for index, shape in enumerate(shapes):
        mesh = _shaped(shape, threshold, form)
        place = _on_the_ground(mesh, shape.shape, form) or transform
        row, column = divmod(index, columns)
        # In front of the row before, seen as our pictures are, and a little apart.
        width, depth = (size + max(1, size // 8) for size in shape.shape[:2])
        mesh.translate((column * width, -row * depth, 0))
        name = f"{path.stem}_{index:02d}"
        placed.append(_placed(mesh, place, ending, form.flat)[0]._replace(name=name))
    content = _WRITERS[ending](placed, f"descnet3d scene of {len(placed)}")
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)


def _shaped(shape: np.ndarray, threshold: float, form: MeshForm) -> TriangleMesh:
    mesh = from_occupancy(shape, threshold, form.surface, watertight=True)
    return mesh if form.triangles is None else decimated(mesh, form.triangles)


def _on_the_ground(
    mesh: TriangleMesh, grid: tuple[int, ...], form: MeshForm
) -> GridTransform | None:
    """Where a grid of so many metres lies when its mesh stands on the ground about the middle."""
    if form.metres is None:
        return None
    width, depth, height = grid
    voxel, lowest = form.metres / height, mesh.get_min_bound()[2]
    return GridTransform(voxel, (-voxel * width / 2, -voxel * depth / 2, -voxel * lowest))


def _placed(
    mesh: TriangleMesh, transform: GridTransform | None, ending: str, flat: bool
) -> tuple[Arrays, GridTransform]:
    """A mesh as a kind of file has it, and where its grid lies there."""
    place = transform or GridTransform(1.0, (0.0, 0.0, 0.0))
    copy = open3d().geometry.TriangleMesh(mesh)
    vertices = np.asarray(copy.vertices)
    if transform is not None:
        vertices = transform.to_mesh(vertices)
    if ending == ".glb" and place.up == "z":
        vertices, place = vertices @ upright("y", 0.0), replace(place, up="y")
    copy.vertices = open3d().utility.Vector3dVector(vertices)
    copy.compute_vertex_normals()
    normals = None if flat else np.asarray(copy.vertex_normals)
    return Arrays(vertices, normals, np.asarray(copy.triangles)), place


def _check_ending(path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in MESH_ENDINGS:
        raise ValueError(f"meshes are kept in {', '.join(MESH_ENDINGS)} files, and path is {path}")
    return ending


def _joined(meshes: Sequence[Arrays]) -> Arrays:
    """All meshes as one, for files that hold one."""
    if len(meshes) == 1:
        return meshes[0]
    firsts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    given = [mesh.normals for mesh in meshes if mesh.normals is not None]
    return Arrays(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(given) if given else None,
        np.concatenate(
            [mesh.triangles + first for mesh, first in zip(meshes, firsts, strict=False)]
        ),
    )


def _ply_bytes(meshes: Sequence[Arrays], note: str) -> bytes:
    mesh = _joined(meshes)
    names = ("x", "y", "z") if mesh.normals is None else ("x", "y", "z", "nx", "ny", "nz")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {note}",
        f"element vertex {len(mesh.vertices)}",
        *(f"property double {name}" for name in names),
        f"element face {len(mesh.triangles)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    faces = np.zeros(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    points = mesh.vertices
    if mesh.normals is not None:  # those of triangles are what a reader takes where there are none
        points = np.concatenate([points, mesh.normals], axis=1)
    points = points.astype("<f8")
    return "\n".join(header).encode("ascii") + points.tobytes() + faces.tobytes()


def _obj_bytes(meshes: Sequence[Arrays], note: str) -> bytes:
    lines, first, first_normal = [f"# {note}"], 1, 1  # obj counts from one, over all of a file
    for mesh in meshes:
        if len(meshes) > 1:
            lines.append(f"o {mesh.name}")
        if mesh.normals is None:
            normals, used = np.unique(_face_normals(mesh), axis=0, return_inverse=True)
            used = np.repeat(used.reshape(-1, 1), 3, axis=1)
        else:
            normals, used = mesh.normals, mesh.triangles
        lines += [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in mesh.vertices.tolist()]
        lines += [f"vn {x:.6g} {y:.6g} {z:.6g}" for x, y, z in normals.tolist()]
        corners = (mesh.triangles + first).tolist(), (used + first_normal).tolist()
        lines += [
            f"f {a}//{i} {b}//{j} {c}//{k}" for (a, b, c), (i, j, k) in zip(*corners, strict=True)
        ]
        first, first_normal = first + len(mesh.vertices), first_normal + len(normals)
    return ("\n".join(lines) + "\n").encode("ascii", "replace")


def _off_bytes(meshes: Sequence[Arrays], note: str) -> bytes:
    mesh = _joined(meshes)
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.triangles)} 0"]
    lines += [f"{x:.17g} {y:.17g} {z:.17g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.triangles.tolist()]
    return ("\n".join([*lines, f"# {note}"]) + "\n").encode("ascii")


def _stl_bytes(meshes: Sequence[Arrays], note: str) -> bytes:
    mesh = _joined(meshes)
    corners = mesh.vertices[mesh.triangles]
    records = np.zeros(
        len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    )
    records["normal"] = _face_normals(mesh)
    records["corners"] = corners
    header = note.encode("ascii") if len(note) <= 80 else b"descnet3d"
    return header.ljust(80) + struct.pack("<I", len(corners)) + records.tobytes()


def _face_normals(mesh: Arrays) -> np.ndarray:
    """Unit normals of the triangles, `[t, 3]`; zeros of one without an area."""
    corners = mesh.vertices[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(lengths > 0, lengths, 1.0) + 0.0  # no negative zeros


_WRITERS: dict[str, Callable[[Sequence[Arrays], str], bytes]] = {
    ".ply": _ply_bytes,
    ".obj": _obj_bytes,
    ".stl": _stl_bytes,
    ".glb": glb_bytes,
    ".off": _off_bytes,
}
MESH_ENDINGS = tuple(_WRITERS)
