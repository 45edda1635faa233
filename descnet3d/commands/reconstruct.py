"""The commands `descnet3d recover` and `descnet3d upscale`: shapes in, better shapes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command, UsageError
from descnet3d.commands.flags import define_file_flags, define_seed_flag
from descnet3d.energy.tasks import Problem, Recovery, SuperResolution, condition_of
from descnet3d.zoo import presets

if TYPE_CHECKING:
    import numpy as np

    from descnet3d.datasets.grid_files import GridBatches
    from descnet3d.evaluation.reconstruction import Tally
    from descnet3d.shapes.transform import GridTransform

# In columns, the rows before, after and of the truth.
SHEET_SHAPES = 8


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "input",
        None,
        "The shapes: a file of grids (.npz, .npy, .binvox, .mat), or a mesh (.off, .obj, .ply, "
        ".stl, .glb, .gltf), whose coordinates what is written keeps.",
        flag_values=values,
    )
    outputs.define_flags(
        values, "A sheet shows the shapes before and after, and the truth where it is known."
    )
    flags.DEFINE_integer(
        "num_samples",
        None,
        "How many wholes to find of each shape, samples of what it may have been, which are "
        "written one after the other. Without it one, the best guess.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string("sheet", None, "Where to write that sheet as well.", flag_values=values)
    define_file_flags(values, "a mesh")
    define_seed_flag(values, "Chooses what is random.")


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
    condition = Recovery(values.corruption) if values.corruption else None
    folder, size = _preset(arguments[0], values, "recovery")
    shapes = _open(values, size)
    import numpy as np

    from descnet3d.datasets.grid_files import open_grids
    from descnet3d.shapes.occupancy import as_visible

    masks = None if values.visible in (None, "occupied") else open_grids(values.visible)
    if masks is not None and masks.shape != shapes.shape:
        as_visible(np.broadcast_to(True, masks.shape), shapes.shape)  # says what does not fit
    work = _Work(values, shapes.shape[0], shapes.transform)
    outputs.start_keras()
    from descnet3d.evaluation import reconstruction

    model = presets.load_descriptor(folder)
    batch_size = reconstruction.batch_size(model.grid)
    unseen: list[int] = []

    def recover(rows: slice, seed: int, progress: bool) -> np.ndarray:
        some = shapes.read(rows)
        problem = condition.pose(some, seed) if condition is not None else None
        if problem is not None:
            visible = ~problem.hidden
        else:
            visible = some > 0.5 if masks is None else as_visible(masks.read(rows), some.shape)
        how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": progress}
        found = model.recover(some, visible, num_samples=values.num_samples, **how)
        known = np.where(visible, some, 0.0)
        nothing = np.flatnonzero(~(known > 0.5).any(axis=(1, 2, 3)))
        unseen.extend((rows.start + nothing).tolist())
        return work.note(known, found, problem)

    work.write(recover)
    if unseen:
        listed = ", ".join(map(str, unseen[:20])) + (" and more" if len(unseen) > 20 else "")
        print(f"of shapes [{listed}] nothing is to be seen: they are invented", file=sys.stderr)
    work.tell("the hidden voxels")


def _upscale(arguments: Sequence[str], values: flags.FlagValues) -> None:
    from descnet3d.models import preset_config

    folder, size = _preset(arguments[0], values, "super_resolution")
    recipe = (preset_config.read_config(folder).get("training") or {}).get("recipe") or {}
    own = condition_of(recipe)
    ratio = own.ratio if isinstance(own, SuperResolution) else SuperResolution().ratio
    shapes = _open(values, size if values.ratio else size // ratio)
    transform = shapes.transform
    from descnet3d.shapes import blocks

    if not values.ratio and shapes.shape[1] >= size:
        raise ValueError(
            f"the shapes of {values.input} are as fine as the model's grid already: give --ratio="
            f"{ratio} to have blocks of them averaged first, or coarser shapes"
        )
    if values.ratio:
        blocks.average(shapes.read(slice(1)), values.ratio)  # says what does not fit
    elif transform is not None:
        transform = replace(transform, scale=transform.scale * shapes.shape[1] / size)
    work = _Work(values, shapes.shape[0], transform)
    outputs.start_keras()
    from descnet3d.evaluation import reconstruction

    model = presets.load_descriptor(folder)
    batch_size = reconstruction.batch_size(model.grid)

    def upscale(rows: slice, seed: int, progress: bool) -> np.ndarray:
        some = shapes.read(rows)
        problem = SuperResolution(values.ratio).pose(some) if values.ratio else None
        coarse = some if problem is None or problem.coarse is None else problem.coarse
        how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": progress}
        found = model.super_resolve(coarse, num_samples=values.num_samples, **how)
        return work.note(blocks.spread(coarse, model.grid), found, problem)

    work.write(upscale)
    work.tell("all voxels")


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


def _open(values: flags.FlagValues, size: int) -> GridBatches:
    from descnet3d.datasets.grid_files import GRID_ENDINGS, GridBatches, open_grids

    if Path(values.input).suffix.lower() in GRID_ENDINGS:
        return open_grids(values.input, values.key)
    from descnet3d.datasets.shape_files import load_shape

    shape = load_shape(values.input, size, up=values.up)
    return GridBatches.of(shape.occupancy[None], shape.transform)


class _Work:
    """What becomes of shapes that are found some at a time: files, a sheet of the first, scores.

    Whatever stands in the way of writing is raised when it is made.
    """

    def __init__(
        self, values: flags.FlagValues, count: int, transform: GridTransform | None
    ) -> None:
        from descnet3d.shapes import sheets
        from descnet3d.shapes.surfaces import open3d

        self._values, self._count = values, count
        self._each = values.num_samples or 1  # wholes of a shape
        self._started = time.perf_counter()
        is_sheet = Path(values.out).suffix.lower() in sheets.IMAGE_ENDINGS
        self._pictures = [path for path in (values.out if is_sheet else None, values.sheet) if path]
        form = outputs.mesh_form(values)
        self._write = (
            None
            if is_sheet
            else outputs.writer(values.out, count * self._each, transform=transform, form=form)
        )
        for path in self._pictures:
            outputs.check_sheet(path)
            open3d()
        self._first: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self._noted = 0
        self._tallies: dict[str, Tally] = {}

    def note(self, known: np.ndarray, found: np.ndarray, problem: Problem | None) -> np.ndarray:
        """Keeps the first for the sheet, and counts the errors of those whose truth is known.

        Returns:
            What was found, `[n, D, H, W]`, or `[n, k, D, H, W]` one after the other.
        """
        from descnet3d.evaluation.reconstruction import Tally, best_of

        samples = found.reshape(-1, self._each, *found.shape[-3:])
        if problem is not None:
            for index in range(self._each):
                self._tallies.setdefault("", Tally()).add(samples[:, index], problem)
            if self._each > 1:
                best = self._tallies.setdefault(f", the best of {self._each}", Tally())
                best.add(best_of(samples, problem), problem)
        some = slice(SHEET_SHAPES - self._noted)
        if self._pictures and self._noted < SHEET_SHAPES:
            truth = None if problem is None else problem.truth[some]
            self._first.append((known[some], samples[some], truth))
            self._noted += len(self._first[-1][0])
        return samples.reshape(-1, *found.shape[-3:])

    def write(self, make: Callable[[slice, int, bool], np.ndarray]) -> None:
        """Makes all, writes them, and draws the sheet."""
        made = outputs.in_batches(self._count, self._values.seed, make, self._each)
        written: list[Sequence[Path]] = []
        if self._write is not None:
            written.append(self._write(made))
        else:
            for _ in made:
                pass
        written += [[path] for path in self._draw()]
        outputs.report(written, self._count * self._each, self._started)

    def tell(self, what: str) -> None:
        """Prints the scores, where there are any."""
        from descnet3d.evaluation import reconstruction

        if self._tallies:
            scores = {what + of: tally.scores() for of, tally in self._tallies.items()}
            print(reconstruction.scores_by_name(scores))

    def _draw(self) -> list[Path]:
        if not self._pictures:
            return []
        import numpy as np

        from descnet3d.evaluation import reconstruction
        from descnet3d.shapes import sheets

        if self._count > SHEET_SHAPES:
            print(
                f"the sheet shows the first {SHEET_SHAPES} of {self._count} shapes",
                file=sys.stderr,
            )
        known = np.concatenate([each[0] for each in self._first])
        found = np.concatenate([each[1] for each in self._first])
        truths = [each[2] for each in self._first if each[2] is not None]
        truth = np.concatenate(truths) if truths else None
        tiles, labels = reconstruction.sheet_rows(known, found, truth, SHEET_SHAPES)
        columns = min(self._count, SHEET_SHAPES)
        return [
            sheets.save_sheet(tiles, path, labels=labels, columns=columns, progress=True)
            for path in self._pictures
        ]


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
