"""Flags that commands share: which shapes are read, and where a preset that is trained goes."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from absl import flags

from descnet3d.fields import settings_of

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


def define_seed_flag(values: flags.FlagValues, meaning: str) -> None:
    """Adds `--seed`."""
    flags.DEFINE_integer("seed", 0, meaning, 0, 2**32 - 1, flag_values=values)


def define_file_flags(values: flags.FlagValues, meshes: str) -> None:
    """Adds `--up` and `--key`: how the files of shapes are to be read."""
    meaning = f"The upward axis of {meshes}; if absent, y in .glb and .gltf, and else z."
    flags.DEFINE_enum("up", None, ["z", "y"], meaning, flag_values=values)
    meaning = "The array in files (.npz, .mat) that hold several; the only one, if absent."
    flags.DEFINE_string("key", None, meaning, flag_values=values)


class _OrNone(flags.ArgumentParser):
    """Reads what another parser reads, and the word none."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self.syntactic_help = ", or ".join(filter(None, [parser.syntactic_help, "none"]))

    def parse(self, argument: Any) -> Any:
        return None if argument in ("none", "") else self._parser.parse(argument)

    def flag_type(self) -> str:
        return str(self._parser.flag_type())


_PARSERS: dict[type, Any] = {
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    str: flags.ArgumentParser(),
}


def define_settings(
    settings: type,
    values: flags.FlagValues,
    names: Collection[str] | None = None,
    where: str = "",
) -> None:
    """Adds a flag for each setting of a dataclass, or some, under its name in the flat list.

    Args:
        settings: the dataclass.
        values: the table of flags.
        names: those that become flags; None for all.
        where: what their help begins with.
    """
    for name, setting in settings_of(settings).items():
        if names is not None and name not in names:
            continue
        meaning = f"{where}{setting.meaning}."
        meaning = f"{meaning[0].upper()}{meaning[1:]}"
        if setting.kind is bool:
            flags.DEFINE_boolean(name, None, meaning, flag_values=values)
        else:
            parser = _PARSERS[setting.kind]
            parser = _OrNone(parser) if setting.optional else parser
            flags.DEFINE(parser, name, None, meaning, flag_values=values)


def given_settings(
    settings: type, values: flags.FlagValues, names: Collection[str] | None = None
) -> dict[str, Any]:
    """Those settings of a dataclass, or of some, that were given as flags."""
    named = settings_of(settings) if names is None else names
    return {name: values[name].value for name in named if values[name].present}


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
    """The shapes that the flags name; the options are those of `sources.read_shapes`."""
    from descnet3d.datasets import sources

    return sources.read_shapes(
        values.data,
        up=values.up,
        data_dir=values.data_dir,
        progress=True,
        report=lambda line: print(line, file=sys.stderr),
        **options,
    )
