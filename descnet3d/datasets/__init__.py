"""Shapes on disk, with their labels: archives, grids, meshes, folders, and tfds data sets.

Importing this registers the tfds builders, whenever tfds itself is imported:
`tfds.load("modelnet_voxels/modelnet10_32")` builds ModelNet from its release,
`tfds.builder("voxel_folder", root="my_shapes", size=32)` a folder of one's own.
"""

from __future__ import annotations

import importlib
from typing import Any

from wrapt import when_imported

__all__ = ["ModelnetVoxels", "VoxelFolder"]
_BUILDERS = {"ModelnetVoxels": "modelnet_voxels", "VoxelFolder": "voxel_folder"}


def __getattr__(name: str) -> Any:
    if name not in _BUILDERS:
        raise AttributeError(f"module 'descnet3d.datasets' has no attribute {name!r}")
    folder = _BUILDERS[name]
    module = f"descnet3d.datasets.{folder}.{folder}_dataset_builder"
    return importlib.import_module(module).Builder


@when_imported("tensorflow_datasets")
def _register(_: Any) -> None:
    for name in _BUILDERS:
        __getattr__(name)
