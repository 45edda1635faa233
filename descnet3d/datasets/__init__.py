"""The data sets, as tfds builders: importing this registers `modelnet_voxels` and `voxel_folder`.

`tfds.load("modelnet_voxels/modelnet10_32")` builds ModelNet from its release;
`tfds.builder("voxel_folder", root="my_shapes", size=32)` builds a folder of one's own.
"""

from descnet3d.datasets.modelnet_voxels.modelnet_voxels_dataset_builder import (
    Builder as ModelnetVoxels,
)
from descnet3d.datasets.voxel_folder.voxel_folder_dataset_builder import Builder as VoxelFolder

__all__ = ["ModelnetVoxels", "VoxelFolder"]
