"""The commands `descnet3d recover` and `descnet3d upscale`: shapes in, better shapes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.zoo import presets

if TYPE_CHECKING:
    import numpy as np

    from descnet3d.shapes.transform import GridTransform

SHEET_COLUMNS = 8


class _Input(NamedTuple):
    shapes: np.ndarray  # [n, D, H, W]
    transform: GridTransform | None


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "input",
        None,
        "The shapes: a file of grids (.npz, .npy, .binvox, .mat), or a mesh (.off, .obj, .ply, "
        ".stl, .glb, .gltf), whose coordinates what is written keeps.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        outputs.MEANING + " A sheet shows the shapes before and after, and the truth where it is "
        "known.",
        flag_values=values,
    )
    flags.DEFINE_string("sheet", None, "Where to write that sheet as well.", flag_values=values)
    flags.DEFINE_enum(
        "up",
        None,
        ["z", "y"],
        "The upward axis of a mesh; if absent, y in .glb and .gltf, and else z.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "key",
        None,
        "The array in files (.npz, .mat) that hold several; the only one, if absent.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Chooses what is random.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=values,
    )


def _recover_flags(values: flags.FlagValues) -> None:
    _define_flags(values)
    flags.DEFINE_string(
        "visible",
        None,
        "Which voxels are to be believed: a file of grids of 0 and 1, or the word 'occupied': what "
        "is there is right, and anything may be missing.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "corruption",
        None,
        "Hide voxels of whole shapes, to see how well they are found: voxels, half, block or scan, "
        "and the share that is hidden, as in voxels:0.7.",
        flag_values=values,
    )


def _upscale_flags(values: flags.FlagValues) -> None:
    _define_flags(values)
    flags.DEFINE_integer(
        "ratio",
        None,
        "Average blocks of so many voxels of fine shapes first, to see how well they are found. "
        "Without it the shapes are coarse already.",
        lower_bound=2,
        flag_values=values,
    )


def _recover(arguments: Sequence[str], values: flags.FlagValues) -> None:
    if (values.visible is None) == (values.corruption is None):
        raise UsageError("give one of --visible and --corruption")
    from descnet3d.shapes import corruptions

    if values.corruption:
        corruptions.parse(values.corruption)
    folder, size = _preset(arguments[0], values, "recovery")
    shapes, transform = _read(values, size)
    import numpy as np

    from descnet3d.datasets.grid_files import read_grids

    if values.corruption:
        generator = np.random.default_rng(values.seed)
        visible = corruptions.visible_voxels(shapes, values.corruption, generator)
    elif values.visible == "occupied":
        visible = shapes > 0.5
    else:
        visible = read_grids(values.visible)
    write, draw = _writers(values, len(shapes), transform)
    started = time.perf_counter()
    outputs.start_keras()
    from descnet3d.evaluation import reconstruction

    model = presets.load_descriptor(folder)
    found = model.recover(
        shapes,
        visible,
        seed=values.seed,
        batch_size=reconstruction.batch_size(model.grid),
        progress=sys.stdout.isatty(),
    )
    known = np.where(visible, shapes, 0.0)
    truth = shapes if values.corruption else None
    sheets = [[path] for path in draw(known, found, truth)]
    outputs.report([write(found), *sheets], len(found), started)
    if truth is not None:
        problem = reconstruction.Problem(truth, known, ~np.asarray(visible, bool), None)
        print(reconstruction.table({"the hidden voxels": reconstruction.score(found, problem)}))


def _upscale(arguments: Sequence[str], values: flags.FlagValues) -> None:
    from descnet3d.models import preset_config

    folder, size = _preset(arguments[0], values, "super_resolution")
    recipe = preset_config.read_config(folder).get("training", {}).get("recipe") or {}
    own_ratio = recipe.get("ratio", 4)
    truth, transform = _read(values, size if values.ratio else size // own_ratio)
    from descnet3d.shapes import blocks

    coarse = blocks.average(truth, values.ratio) if values.ratio else truth
    if not values.ratio:
        ratio = size / coarse.shape[1]
        if transform is not None:
            transform = replace(transform, scale=transform.scale / ratio)
    write, draw = _writers(values, len(coarse), transform)
    started = time.perf_counter()
    outputs.start_keras()
    from descnet3d.evaluation import reconstruction

    model = presets.load_descriptor(folder)
    batch_size = reconstruction.batch_size(model.grid)
    found = model.super_resolve(
        coarse, seed=values.seed, batch_size=batch_size, progress=sys.stdout.isatty()
    )
    known = blocks.spread(coarse, found.shape[1:])
    sheets = [[path] for path in draw(known, found, truth if values.ratio else None)]
    outputs.report([write(found), *sheets], len(found), started)
    if values.ratio:
        problem = reconstruction.pose_blocks(truth, values.ratio)
        print(reconstruction.table({"all voxels": reconstruction.score(found, problem)}))


def _preset(name: str, values: flags.FlagValues, task: str) -> tuple[Path, int]:
    """The folder of a preset of a task, or else of one that synthesises, and its grid's side."""
    from descnet3d.models import preset_config

    for flag in ("input", "out"):
        if values[flag].value is None:
            raise UsageError(f"--{flag} missing")
    try:
        folder = presets.find(name, task)
    except presets.PresetNotFoundError as error:
        try:
            folder = presets.find(name)
        except presets.PresetNotFoundError:
            raise error from None
        print(
            f"no preset of {name} is trained for this; taking the one that synthesises",
            file=sys.stderr,
        )
    return folder, int(preset_config.read_config(folder)["size"][0])


def _read(values: flags.FlagValues, size: int) -> _Input:
    from descnet3d.datasets.grid_files import GRID_ENDINGS, read_grid_file
    from descnet3d.shapes.occupancy import as_occupancy

    if Path(values.input).suffix.lower() in GRID_ENDINGS:
        shapes, transform = read_grid_file(values.input, values.key)
        return _Input(as_occupancy(shapes, values.input), transform)
    from descnet3d.datasets.shape_files import load_shape

    shape = load_shape(values.input, size, up=values.up)
    return _Input(shape.occupancy[None].astype("float32"), shape.transform)


def _writers(values: flags.FlagValues, count: int, transform: GridTransform | None) -> Any:
    """What writes shapes to --out, and what draws the sheet; each gives the paths it wrote."""
    from descnet3d import files
    from descnet3d.shapes import sheets
    from descnet3d.shapes.surfaces import open3d

    is_sheet = Path(values.out).suffix.lower() in sheets.IMAGE_ENDINGS
    pictures = [path for path in (values.out if is_sheet else None, values.sheet) if path]
    write = None if is_sheet else outputs.writer(values.out, count, transform=transform)
    for path in pictures:
        if Path(path).suffix.lower() not in sheets.IMAGE_ENDINGS:
            raise UsageError(f"--sheet={path} ends in none of {', '.join(sheets.IMAGE_ENDINGS)}")
        files.check_writable(path)
        open3d()

    def draw(known: Any, found: Any, truth: Any) -> list[Path]:
        from descnet3d.evaluation import reconstruction

        tiles, labels = reconstruction.sheet_rows(known, found, truth, SHEET_COLUMNS)
        columns = min(count, SHEET_COLUMNS)
        return [sheets.save_sheet(tiles, path, labels=labels, columns=columns) for path in pictures]

    return (write or (lambda found: [])), draw


RECOVER = Command(
    name="recover",
    arguments=("NAME",),
    summary="find the hidden voxels of damaged shapes",
    description=(
        "Fills in the hidden voxels of shapes by Langevin dynamics that holds the visible ones, "
        "and writes the shapes, or a sheet of them before and after. NAME is a category, the id of "
        "a preset, or a folder that a training run wrote. A mesh is put on the model's grid, and "
        "meshes that are written lie where it lies."
    ),
    example="descnet3d recover chair --input=scan.off --visible=occupied --out=whole.obj",
    define_flags=_recover_flags,
    run=_recover,
)
UPSCALE = Command(
    name="upscale",
    arguments=("NAME",),
    summary="refine coarse shapes",
    description=(
        "Makes shapes on the model's grid of coarse ones, by Langevin dynamics that holds the "
        "averages of blocks of voxels, and writes them, or a sheet of them before and after. NAME "
        "is a category, the id of a preset, or a folder that a training run wrote. A mesh is put "
        "on a coarse grid first, and meshes that are written lie where it lies."
    ),
    example="descnet3d upscale bed --input=coarse.npz --out=beds.png",
    define_flags=_upscale_flags,
    run=_upscale,
)
