"""Triangle meshes, read from files that are not trusted.

What comes back is clean: every index is in range, no triangle is degenerate, every vertex is used.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

import numpy as np

from descnet3d import numpy_files
from descnet3d.datasets.gltf_files import parse_gltf
from descnet3d.datasets.grid_notes import find_grid
from descnet3d.datasets.obj_files import parse_obj
from descnet3d.datasets.off_files import parse_off
from descnet3d.datasets.ply_files import parse_ply
from descnet3d.datasets.stl_files import parse_stl
from descnet3d.shapes.mesh import MAX_COORDINATE, Mesh

_PARSERS = {".off": parse_off, ".obj": parse_obj, ".ply": parse_ply, ".stl": parse_stl}
GLTF_ENDINGS = (".glb", ".gltf")
MESH_INPUT_ENDINGS = (*_PARSERS, *GLTF_ENDINGS)
_PACKED = ".gz"
# ModelNet40's largest file has 100 MB.
MAX_FILE_BYTES = 2**29
MAX_TRIANGLES = 2**25


def is_mesh_file(path: str | os.PathLike) -> bool:
    """Whether a path ends as one of a mesh does that `read_mesh` reads."""
    name = Path(path).name.lower()
    return Path(name).suffix in MESH_INPUT_ENDINGS or (
        name.endswith(_PACKED) and Path(name.removesuffix(_PACKED)).suffix in _PARSERS
    )


class MeshError(ValueError):
    """A file holds no mesh that can be used; the message names it and says what is wrong."""


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Reads the triangles of a mesh file, by its ending.

    Faces of more corners are cut into triangles, the parts of a scene are put together as the scene
    places them, and degenerate triangles and vertices that no triangle uses are dropped. A file is
    read as its format says or refused, and never read in part. Nothing but this file is read, and
    the buffers beside a `.gltf` file: materials and textures are left alone.

    Args:
        path: `.off`, `.obj`, `.ply`, `.stl`, `.glb` or `.gltf`; all but the last two may be packed
            by gzip, as `.off.gz`.

    Returns:
        The mesh, in the file's own coordinates; y is up in `.glb` and `.gltf`, by their standard.

    Raises:
        MeshError: the file is missing, empty, damaged, of another kind or too large, or holds no
            triangle that has an area.
    """
    if not is_mesh_file(path):
        raise MeshError(f"{path} is no mesh file: those end in {', '.join(MESH_INPUT_ENDINGS)}")
    name = Path(path).name.lower()
    packing = name.endswith(_PACKED)
    ending = Path(name.removesuffix(_PACKED)).suffix
    try:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        if size > MAX_FILE_BYTES:
            raise MeshError(
                f"{path} is {size} bytes long, and files of more than {MAX_FILE_BYTES} are not "
                "read; simplify the mesh"
            )
        content = numpy_files.read_bytes(path)
    except ValueError as error:
        raise MeshError(str(error)) from error
    try:
        if packing:
            content = _unpacked(content)
        if ending in GLTF_ENDINGS:
            folder = Path(path).parent if ending == ".gltf" else None
            mesh = _clean(*parse_gltf(content, folder, MAX_TRIANGLES))
            mesh = mesh._replace(up="y")
        else:
            mesh = _clean(*_PARSERS[ending](content))
        return mesh._replace(grid=find_grid(content, mesh.vertices))
    except ValueError as error:
        raise MeshError(f"{path} {error}") from error


def _clean(vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
    count = len(vertices)
    if len(triangles) > MAX_TRIANGLES:
        raise ValueError(f"has more than {MAX_TRIANGLES} triangles; simplify it")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= count):
        raise ValueError(
            f"has a face with the corners {triangles.min()} to {triangles.max()}, and there are "
            f"only {count} vertices"
        )
    first, second, third = triangles.T if triangles.size else np.zeros((3, 0), int)
    triangles = triangles[(first != second) & (second != third) & (third != first)]
    used, triangles = _only_used(vertices, triangles)
    if len(used) and not np.abs(used).max() <= MAX_COORDINATE:  # NaN compares with nothing
        raise ValueError("has a coordinate that is NaN, infinite or larger than 1e100")
    if len(used):
        extent = np.ptp(used, axis=0).max() or 1.0
        corners = (used / extent)[triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        used, triangles = _only_used(used, triangles[(normals != 0).any(axis=1)])
    if len(triangles) == 0:
        raise ValueError("has no triangle with an area, so no surface")
    return Mesh(np.ascontiguousarray(used, np.float64), triangles.astype(np.int32))


def _only_used(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_used = np.zeros(len(vertices), bool)
    is_used[triangles] = True
    return vertices[is_used], (np.cumsum(is_used) - 1)[triangles]


def _unpacked(content: bytes) -> bytes:
    """All members of a gzip file, which may be several, one behind the other."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(MAX_FILE_BYTES + 1)
    except EOFError as error:
        raise ValueError("is cut short: gzip cannot unpack it whole") from error
    except (OSError, zlib.error) as error:
        raise ValueError(f"is damaged: gzip cannot unpack it ({error})") from error
    if len(unpacked) > MAX_FILE_BYTES:
        raise ValueError(f"unpacks to more than {MAX_FILE_BYTES} bytes; simplify the mesh")
    return unpacked
