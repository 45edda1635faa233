"""What commands share: Keras started quietly, and shapes written by the ending of a path."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from descnet3d import files, progress, startup
from descnet3d.commands import interrupts
from descnet3d.commands.console import UsageError
from descnet3d.commands.flags import define_settings, given_settings
from descnet3d.shapes.mesh_form import MeshForm

if TYPE_CHECKING:
    import numpy as np

    from descnet3d.shapes.transform import GridTransform

MEANING = (
    "Where to write. The ending says what: a rendered sheet (.png, .jpg, .webp), the grids (.npz, "
    ".npy, .binvox, .mat), or meshes (.ply, .obj, .glb, .stl, .off). Where a kind of file holds "
    "one shape, the names are numbered."
)
_MESH_ENDINGS = ".ply, .obj, .glb, .stl, .off"


# Of more shapes a sheet cannot be looked at, and takes minutes to draw.
MOST_TILES = 256
# Categories and the models' own batches divide them: ten of the one, 32 of the other.
AT_A_TIME, TRIAL = 160, 20


def define_flags(values: flags.FlagValues, more: str = "") -> None:
    """Adds `--out`, and the flags of how meshes are written to it (`MeshForm`).

    Args:
        values: the table of flags.
        more: what else `--out` means.
    """
    flags.DEFINE_string("out", None, " ".join(filter(None, [MEANING, more])), flag_values=values)
    define_settings(MeshForm, values, where="of meshes: ")


def mesh_form(values: flags.FlagValues) -> MeshForm:
    """How meshes are written, as the flags say.

    Raises:
        UsageError: they say something that cannot be, or `--out` is no mesh.
    """
    given = given_settings(MeshForm, values)
    if given and Path(values.out).suffix.lower() not in _MESH_ENDINGS.split(", "):
        raise UsageError(f"--{next(iter(given))} is for meshes ({_MESH_ENDINGS})")
    try:
        return MeshForm(**given)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def start_keras() -> None:
    """Imports Keras and its backend quietly; from then on freed memory is kept."""
    keep_freed_memory()
    startup.import_keras()
    interrupts.raise_lost()


def keep_freed_memory() -> None:
    """Tells the C library to keep the memory that tensors give back for the next ones.

    glibc returns large blocks to the system at once, and the system clears each page before it
    lends it again; `benchmarks/freed_memory.py` measures what that costs. Other C libraries have no
    `mallopt`, or have one that does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    no_mapped_blocks, keep_everything, grow_by = (-4, 0), (-1, 2**31 - 1), (-2, 2**26)
    for option in (no_mapped_blocks, keep_everything, grow_by):
        mallopt(*option)


def check_sheet(path: str) -> None:
    """Raise what stands in the way of a sheet, the value of `--sheet`, before anything is made.

    Raises:
        UsageError: when the ending is no image's.
        OutputError: when the path can't be written.
    """
    from descnet3d.shapes.sheets import IMAGE_ENDINGS

    if Path(path).suffix.lower() not in IMAGE_ENDINGS:
        raise UsageError(f"--sheet={path} ends in none of {', '.join(IMAGE_ENDINGS)}")
    files.check_writable(path)


def writer(
    out: str,
    count: int,
    labels: Sequence[str] | None = None,
    transform: GridTransform | None = None,
    columns: int | None = None,
    form: MeshForm | None = None,
) -> Callable[[Iterable[np.ndarray]], Sequence[Path]]:
    """What writes shapes to a path, by its ending; whatever stands in its way is raised now.

    Args:
        out: the path.
        count: how many shapes there will be.
        labels: what stands under the shapes of a sheet.
        transform: where their grid lies in the coordinates of the mesh that they came from.
        columns: the shapes in a row of a sheet.
        form: how meshes are written.

    Returns:
        A function of batches of the shapes that returns the paths of what it wrote. Grids and
        meshes are written as they come, so that no more than a batch is in memory.

    Raises:
        UsageError: when the ending is none that is written, or a sheet would be too large.
        OutputError: when the path can't be written.
    """
    from descnet3d.datasets.grid_files import GRID_ENDINGS, SINGLE_ENDINGS, write_grid_batches
    from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save_batches
    from descnet3d.shapes import sheets
    from descnet3d.shapes.surfaces import open3d

    ending = Path(out).suffix.lower()
    known = (*sheets.IMAGE_ENDINGS, *GRID_ENDINGS, *MESH_ENDINGS)
    if ending not in known:
        raise UsageError(f"--out={out} ends in none of {', '.join(known)}")
    if ending in sheets.IMAGE_ENDINGS and count > MOST_TILES:
        raise UsageError(
            f"--out={out} would show {count} shapes, and a sheet shows {MOST_TILES} at most: ask "
            "for fewer, or write their grids (.npz)"
        )

    is_scene = form is not None and form.scene
    one_file_a_shape = ending in (*MESH_ENDINGS, *SINGLE_ENDINGS) and not is_scene
    for path in files.numbered(out, count if one_file_a_shape else 1):
        files.check_writable(path)
    if ending not in GRID_ENDINGS:
        open3d()

    def write(batches: Iterable[np.ndarray]) -> Sequence[Path]:
        if ending == ".binvox":  # holds yes and no, nothing between
            batches = (batch > 0.5 for batch in batches)
        if ending in GRID_ENDINGS:
            place = None if ending == ".npy" else transform  # .npy holds none
            return write_grid_batches(out, batches, count, place)
        if ending in MESH_ENDINGS:
            return save_batches(batches, count, out, form, transform=transform)
        import numpy as np

        shapes = np.concatenate(list(batches))
        return [sheets.save_sheet(shapes, out, labels=labels, columns=columns, progress=True)]

    return write


def in_batches(
    count: int, seed: int, make: Callable[[slice, int, bool], np.ndarray], together: int = 1
) -> Iterator[np.ndarray]:
    """Shapes as they are made; where there are many, the time that they will take is said first.

    Args:
        count: how many, or how many rows of them.
        seed: the seed of the first batch, of which those of the others are made.
        make: makes some of them from a seed, with a progress bar or without.
        together: the shapes of a row.

    Yields:
        Batches; a single one where a few shapes are wanted, which are then those that the model
        makes of this seed.
    """
    most, trial = max(1, AT_A_TIME // together), max(1, TRIAL // together)
    if count <= most:
        yield make(slice(0, count), seed, True)
        return
    import numpy as np

    done = 0
    shown = progress.bar(count * together, "shape")
    while done < count:
        # What comes first takes longer: the second trial tells.
        number = min(trial if done < 2 * trial else most, count - done)
        own = np.random.SeedSequence((seed, done)).generate_state(1)[0]
        started = time.perf_counter()
        yield make(slice(done, done + number), int(own) if done else seed, False)
        if done == trial:
            seconds = (time.perf_counter() - started) / number * count
            if seconds > 60:
                said = f"{count * together} shapes will take about {_duration(seconds)}"
                print(f"{said}; Ctrl-C stops, and then nothing is written", file=sys.stderr)
        done += number
        shown.update(number * together)
    shown.close()


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{seconds:.0f} seconds"


def report(groups: Iterable[Sequence[Path]], count: int, started: float) -> None:
    """Prints what was written, of how many shapes, and how long it took.

    Args:
        groups: the paths, those that are numbered together in one group.
        count: how many shapes.
        started: when the work began, by `time.perf_counter`.
    """
    names = [
        f"{group[0]} to {group[-1]}" if len(group) > 1 else str(group[0])
        for group in groups
        if group
    ]
    counted = "1 shape" if count == 1 else f"{count} shapes"
    print(f"wrote {', '.join(names)}: {counted} in {time.perf_counter() - started:.1f} s")
