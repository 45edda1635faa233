"""Flags that commands share: which shapes are read, and where a preset that is trained goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from descnet3d.datasets.archives import VoxelArchive


def define_data_flags(values: flags.FlagValues) -> None:
    """Adds `--data`, `--data_dir`, `--size` and `--up`."""
    flags.DEFINE_string(
        "data",
        None,
        "The shapes: a voxel archive (.npz), a folder of meshes or grids laid out as "
        "FOLDER/CATEGORY/[train|test/]FILE, or a tfds data set such as "
        "modelnet_voxels/modelnet10_32, which is downloaded and built where it has not been.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir", None, "Where tfds keeps its data sets, if not in its own.", flag_values=values
    )
    flags.DEFINE_integer(
        "size",
        None,
        "The side of the grids that a folder's shapes are put on; 32, or the model's, if absent.",
        lower_bound=2,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "up",
        None,
        ["z", "y"],
        "The upward axis of a folder's meshes; if absent, y in .glb and .gltf, and else z.",
        flag_values=values,
    )


def define_new_preset_flags(values: flags.FlagValues) -> None:
    """Adds `--out`, `--id`, `--terms` and `--sheet_every`."""
    flags.DEFINE_string(
        "out",
        None,
        "The folder of the new preset. A run that was killed goes on when it is given again.",
        flag_values=values,
    )
    flags.DEFINE_string("id", None, "The new preset's id.", flag_values=values)
    flags.DEFINE_string(
        "terms",
        None,
        "Where the shapes come from, and their terms, for the card.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "sheet_every",
        5.0,
        "Minutes between rendered sheets; 0: none.",
        lower_bound=0,
        flag_values=values,
    )


def read_labelled_shapes(values: flags.FlagValues, **options: Any) -> VoxelArchive:
    """The shapes that the flags name; the options are those of `shape_sources.read_shapes`."""
    from descnet3d.datasets import sources

    return sources.read_shapes(
        values.data,
        up=values.up,
        data_dir=values.data_dir,
        progress=sys.stderr.isatty(),
        report=lambda line: print(line, file=sys.stderr),
        **options,
    )
