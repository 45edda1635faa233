"""The command `descnet3d voxelize`: a folder of shapes becomes an archive to train on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from descnet3d import files
from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import define_file_flags

if TYPE_CHECKING:
    from descnet3d.datasets.archives import VoxelArchive
    from descnet3d.datasets.shape_files import Skipped

SHOWN = 8


def _define_flags(values: flags.FlagValues) -> None:
    from descnet3d.shapes.voxelize import FILLS, MAX_SIZE

    flags.DEFINE_string(
        "out",
        None,
        "Where to write: an archive (.npz) for a folder; for a single file its grid (.npz, "
        ".binvox, .mat, .npy), which all but .npy keep together with its place in the mesh's "
        "coordinates.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "size",
        32,
        "The side of the grids, in voxels.",
        lower_bound=2,
        upper_bound=MAX_SIZE,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "fill",
        "solid",
        list(FILLS),
        "What is occupied: the surface and what it encloses, or the surface alone.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "span",
        0.75,
        "The longest side of a mesh, as a share of the grid's.",
        upper_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "sheet",
        None,
        f"An image (.png, .jpg, .webp) of the first {SHOWN} shapes of each category, to see "
        "whether they stand upright.",
        flag_values=values,
    )
    define_file_flags(values, "the meshes")
    flags.DEFINE_integer(
        "poses",
        1,
        "Put each mesh in so many times, turned about the upward axis by even steps.",
        lower_bound=1,
        upper_bound=360,
        flag_values=values,
    )
    flags.DEFINE_float(
        "test_share",
        0.2,
        "The share of test shapes in categories that have no folders train and test.",
        lower_bound=0,
        upper_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "workers", None, "Processes at work; as many as cores if absent.", 1, flag_values=values
    )
    flags.DEFINE_boolean(
        "strict", False, "Fail at the first file that holds no shape.", flag_values=values
    )


def _run(arguments: Sequence[str], values: flags.FlagValues) -> None:
    from descnet3d.datasets.folders import check_unpacked
    from descnet3d.datasets.grid_files import GRID_ENDINGS

    if values.out is None:
        raise UsageError("--out missing: say where to write, as in --out=shapes.npz")
    if not values.span > 0:
        raise UsageError(f"--span={values.span:g} is not above 0")
    source = Path(arguments[0])
    check_unpacked(source)
    ending = Path(values.out).suffix.lower()
    if values.sheet is not None:
        if source.is_file():
            raise UsageError("--sheet shows the shapes of a folder, and one file was given")
        outputs.check_sheet(values.sheet)
    if source.is_file():
        if ending not in GRID_ENDINGS:
            raise UsageError(f"--out={values.out} ends in none of {', '.join(GRID_ENDINGS)}")
        files.check_writable(values.out)
        _voxelize_file(source, values)
        return
    if ending != ".npz":
        raise UsageError(f"--out={values.out} must end in .npz: it holds the shapes of a folder")
    files.check_writable(values.out)
    _voxelize_folder(source, values)


def _options(values: flags.FlagValues) -> dict:
    return {name: values[name].value for name in ("fill", "span", "up", "key")}


def _voxelize_file(path: Path, values: flags.FlagValues) -> None:
    from descnet3d.datasets.grid_files import write_grids
    from descnet3d.datasets.shape_files import Skipped, voxelize_files

    [shape] = voxelize_files([path], values.size, workers=1, **_options(values))
    if isinstance(shape, Skipped):
        raise ValueError(f"{path}: {shape.reason}")
    keeps_transform = Path(values.out).suffix.lower() != ".npy"
    transform = shape.transform
    if Path(values.out).suffix.lower() == ".binvox" and transform.up != "z":
        raise UsageError(f"--out={values.out} cannot say that the mesh has y up; choose .npz")
    write_grids(values.out, shape.occupancy[None], transform if keeps_transform else None)
    print(
        f"wrote {values.out}: 1 grid of {values.size}³, {int(shape.occupancy.sum())} voxels "
        f"occupied, a voxel's side {transform.scale:.4g} of the file's units"
    )


def _voxelize_folder(root: Path, values: flags.FlagValues) -> None:
    from descnet3d.datasets import folder_archives, folders
    from descnet3d.datasets.archives import write_archive

    listed, passed_over = folders.list_folder(root, values.test_share)
    started = time.perf_counter()
    archive, skipped = folder_archives.voxelize_shapes(
        listed,
        tuple(sorted({shape.category for shape in listed})),
        values.size,
        poses=values.poses,
        strict=values.strict,
        workers=values.workers,
        progress=True,
        **_options(values),
    )
    for missing in skipped:
        print(f"skipped {missing.path}: {missing.reason}")
    for line in folders.passed_over_in_words(passed_over):
        print(f"passed over {line}")
    _tell_skipped(Path(values.out).with_name(folders.SKIPPED), [*skipped, *passed_over])
    if archive is None:
        raise ValueError(
            f"none of the {len(listed)} files of {root} holds a shape that can be read"
        )
    write_archive(values.out, archive)
    count, tests = len(archive.labels), int(archive.is_test.sum())
    left_out = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
    left_out += " skipped"
    if passed_over:
        left_out += f" and {len(passed_over)} passed over (all in skipped.json)"
    print(
        f"wrote {values.out}: {count} shapes of {_categories(len(archive.classes))} "
        f"({count - tests} train, {tests} test) on {values.size}³ grids, {left_out}, "
        f"in {time.perf_counter() - started:.1f} s"
    )
    if values.sheet is not None:
        _draw(archive, values.sheet)


def _categories(count: int) -> str:
    return "1 category" if count == 1 else f"{count} categories"


def _draw(archive: VoxelArchive, path: str) -> None:
    """A picture of the first shapes of each category."""
    import numpy as np

    from descnet3d.shapes.sheets import save_sheet

    shown = max(1, min(SHOWN, outputs.MOST_TILES // len(archive.classes)))
    rows: list[int] = []
    for label in range(len(archive.classes)):
        of_it = np.flatnonzero(archive.labels == label)
        # Those to train on first.
        rows += list(of_it[np.argsort(archive.is_test[of_it], kind="stable")][:shown])
    rows = rows[: outputs.MOST_TILES]
    several = len(archive.classes) > 1
    labels = [archive.classes[label] for label in archive.labels[rows]] if several else None
    save_sheet(archive.occupancy[rows], path, labels=labels, columns=shown, tile=120)
    print(f"wrote {path}: look whether they stand upright, and all face the same way")


def _tell_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    if not skipped and not path.exists():
        return
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps([one._asdict() for one in skipped], indent=1) + "\n")


COMMAND = Command(
    name="voxelize",
    arguments=("FOLDER",),
    summary="make voxels of a folder of meshes",
    description=(
        "Puts meshes (.off .obj .ply .stl .glb .gltf) and grids (.npy .npz .binvox .mat) of a "
        "folder on grids of one size, solid even where a mesh is not watertight, and writes an "
        "archive that train and evaluate read. The files lie in FOLDER/CATEGORY/, or in "
        "FOLDER/CATEGORY/train/ and test/; without those folders a file's name decides which it "
        "is. FOLDER may be a single file too, whose grid is written alone. Files that "
        "hold no shape are named, with the reason, here and in skipped.json beside the archive."
    ),
    example="descnet3d voxelize my_chairs --out=my_chairs.npz --sheet=my_chairs.png",
    define_flags=_define_flags,
    run=_run,
)
