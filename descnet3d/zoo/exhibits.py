"""What the presets of a zoo make, as meshes and pictures for the zoo's page.

A preset that synthesises shows what it makes of the seeds 0 and on, none of it chosen. One that
recovers or refines shows what it makes of shapes that the zoo's own synthesis of its category made,
so that nothing but the zoo is needed. Classifiers make nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from descnet3d import files, json_files, progress
from descnet3d.energy.tasks import Condition, condition_of
from descnet3d.models import preset_config
from descnet3d.zoo import presets
from descnet3d.zoo.index import Preset

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "gallery"
LISTED = "shapes.json"
FRAMES, PICTURE = 24, 320  # pictures of a turn, and the side of each in pixels
_MOST_PROBLEMS = 2  # a problem is shown three times: solved, as posed, and the truth
_SYNTHESISES = ("synthesis", "cooperative")
# Changes whenever other files are made of the same presets.
_VERSION = 1


class Shape(NamedTuple):
    """A shape on the page.

    Attributes:
        title: what it is.
        occupancy: `[D, H, W]`.
    """

    title: str
    occupancy: np.ndarray


def listed(zoo: Path, preset_id: str) -> list[dict[str, Any]]:
    """The shapes of a preset that lie in a zoo, as their list describes them.

    Args:
        zoo: the zoo's folder.
        preset_id: the preset's id.

    Returns:
        For each shape its `title`, the number of its `voxels`, and the names of its files: `mesh`
        (None where it is empty), `picture`, and `turn` for the first, pictures from all around.
        Nothing where none were made.
    """
    try:
        kept = json_files.read_object(zoo / FOLDER / preset_id / LISTED)
        return list(kept["shapes"])
    except (ValueError, LookupError, TypeError):
        return []


def make(zoo: Path, chosen: Iterable[Preset], count: int) -> Iterator[str]:
    """Makes the shapes of presets, and writes them to `gallery` in the zoo.

    What was made of the same weights before is kept.

    Args:
        zoo: the zoo's folder, whose index is written.
        chosen: its presets.
        count: how many shapes of each.

    Yields:
        A line for each preset that could not be used, with the reason.

    Raises:
        OutputError: the zoo cannot be written.
    """
    chosen = list(chosen)
    for preset in progress.bar(len(chosen), "preset", items=chosen):
        config = preset_config.read_config(zoo / preset.id)
        source = _source(config, chosen)
        digest = _digest(count, preset, source, *_shared(zoo, chosen, preset, source))
        if not _is_kept(zoo / FOLDER / preset.id, digest):
            try:
                shapes = _shapes(zoo, preset, config, source, count)
            except files.OutputError:
                raise
            except (OSError, ValueError) as error:  # the page shows the others all the same
                yield f"{preset.id}: {error}"
                continue
            _write(zoo / FOLDER / preset.id, shapes, digest)


def _source(config: dict[str, Any], chosen: list[Preset]) -> Preset | None:
    """The preset whose shapes a preset for recovery or super-resolution is shown with."""
    for preset in chosen:
        if (preset.task, preset.category) == ("synthesis", config["category"]) and preset.default:
            return preset
    return None


def _shared(zoo: Path, chosen: list[Preset], *presets: Preset | None) -> Iterator[Preset]:
    """Those whose weights presets share."""
    for preset in filter(None, presets):
        shares = preset_config.read_config(zoo / preset.id)["model"].get("shares")
        yield from (other for other in chosen if other.id == shares)


def _digest(count: int, *made_of: Preset | None) -> str:
    records = [
        (preset.id, [(name, preset.files[name].sha256) for name in sorted(preset.files)])
        for preset in made_of
        if preset is not None
    ]
    return hashlib.sha256(json.dumps([_VERSION, count, records]).encode()).hexdigest()


def _is_kept(folder: Path, digest: str) -> bool:
    try:
        return json_files.read_object(folder / LISTED).get("of") == digest
    except ValueError:
        return False


def _shapes(
    zoo: Path, preset: Preset, config: dict[str, Any], source: Preset | None, count: int
) -> list[Shape]:
    recipe = (config.get("training") or {}).get("recipe") or {}
    condition = condition_of({**recipe, "task": preset.task})
    if condition is not None:
        if source is None:
            return []
        return _solved(zoo, preset, condition, source, min(count, _MOST_PROBLEMS))
    if preset.task not in _SYNTHESISES:
        return []
    model = presets.load_descriptor(zoo / preset.id)
    categories = config.get("categories") or []
    # A model of several categories makes them in turn.
    made = model.synthesize(max(count, len(categories)), seed=0, batch_size=_batch(model))
    titles = [name.replace("_", " ") for name in categories]
    return [
        Shape(titles[row] if row < len(titles) else f"shape {row + 1}", shape)
        for row, shape in enumerate(made)
    ]


def _solved(
    zoo: Path, preset: Preset, condition: Condition, source: Preset, count: int
) -> list[Shape]:
    from descnet3d.shapes import blocks

    model: Any = presets.load(zoo / preset.id)  # which may refine, and is no descriptor of wholes
    truth = presets.load_descriptor(zoo / source.id).synthesize(count, seed=0)
    if truth.shape[1:] != model.grid:
        truth = blocks.spread(truth, model.grid)  # what is posed of it is as fine as before
    problem = condition.pose(truth, 0)
    found = condition.solve(model, problem, seed=0, batch_size=_batch(model))
    return [
        Shape(f"{row + 1}: {title}", shapes[row])
        for row in range(count)
        for title, shapes in (
            ("found", found),
            ("known", problem.known),
            ("truth", truth),
        )
    ]


def _batch(model: Any) -> int:
    return 32 if max(model.grid) <= 32 else 4


def _write(folder: Path, shapes: list[Shape], digest: str) -> None:
    from descnet3d.datasets import mesh_writers

    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for row, shape in enumerate(shapes):
        occupied = int((shape.occupancy > 0.5).sum())
        entry = {"title": shape.title, "voxels": occupied, "mesh": None, "picture": f"{row}.webp"}
        _save_picture(_pictures(shape.occupancy, 1), folder / f"{row}.webp")
        if row == 0 and occupied:
            entry["turn"] = "turn.webp"
            _save_picture(_pictures(shape.occupancy, FRAMES), folder / "turn.webp")
        if occupied:
            entry["mesh"] = f"{row}.glb"
            mesh_writers.save_all(shape.occupancy[None], folder / f"{row}.glb", metres=1.0)
        entries.append(entry)
    with files.replacing(folder / LISTED) as temporary:  # last: what is listed is there
        text = json.dumps({"of": digest, "frames": FRAMES, "shapes": entries}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _pictures(occupancy: np.ndarray, count: int) -> Image:
    """Pictures from all around, side by side; the first from where all our pictures are taken."""
    from PIL import Image

    from descnet3d.shapes.rendering import AZIMUTH, common_span, render

    span = common_span(occupancy[None], 0.5)
    strip = Image.new("RGBA", (count * PICTURE, PICTURE))
    for frame in range(count):
        azimuth = AZIMUTH + 360 * frame / count
        picture = render(occupancy, PICTURE, azimuth, span=span, transparent=True)
        strip.paste(Image.fromarray(picture), (frame * PICTURE, 0))
    return strip


def _save_picture(picture: Image, path: Path) -> None:
    content = io.BytesIO()
    picture.save(content, "webp", quality=80)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
