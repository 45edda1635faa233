"""How shapes become meshes, as plain data: nothing here loads NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from descnet3d.fields import Settings

SURFACES = ("cubes", "isosurface", "smooth")
NORMALS = ("faces", "vertices")


@dataclass(frozen=True)
class MeshForm(Settings):
    """How shapes become meshes in files; every edge of what is written has two triangles."""

    surface: Annotated[
        str,
        "how meshes look: cubes (the exposed faces of the voxels, whose volume is the voxels'), "
        "isosurface (marching cubes), or smooth (that one, its steps smoothed away)",
    ] = "cubes"
    triangles: Annotated[
        int | None, "the most triangles that a mesh has, to which it is decimated; at least 4"
    ] = None
    normals: Annotated[
        str | None,
        "which normals shade meshes: faces (flat), or vertices (smoothly); those of faces for "
        "cubes and of vertices for other surfaces, if absent",
    ] = None
    metres: Annotated[
        float | None,
        "write meshes in metres, the height of the grid being so many, each standing on the ground "
        "about the middle. If absent, they lie where the mesh of the input lay, in its units, and "
        "without one in voxels",
    ] = None
    scene: Annotated[
        bool, "write all meshes to one file, side by side as on a sheet, not to a file each"
    ] = False

    def __post_init__(self) -> None:
        """Refuse what no mesh can be."""
        if self.surface not in SURFACES:
            raise ValueError(
                f"surface must be one of {', '.join(SURFACES)}, but it is {self.surface!r}."
            )
        if self.triangles is not None and not self.triangles >= 4:
            raise ValueError(f"triangles must be at least 4, but it is {self.triangles!r}.")
        if self.normals not in (None, *NORMALS):
            raise ValueError(
                f"normals must be one of {', '.join(NORMALS)}, but it is {self.normals!r}."
            )
        if self.metres is not None and not (math.isfinite(self.metres) and self.metres > 0):
            raise ValueError(f"metres must be a positive number, but it is {self.metres!r}.")

    @property
    def flat(self) -> bool:
        """Whether faces are shaded by their own normals."""
        return (self.normals or ("faces" if self.surface == "cubes" else "vertices")) == "faces"
