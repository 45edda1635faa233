"""Pictures of shapes: contact sheets of rendered tiles, laid out by PIL."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from descnet3d import files
from descnet3d.progress import bar
from descnet3d.shapes.camera import Camera, place_camera
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.rendering import AZIMUTH, BACKGROUND, COLOR, ELEVATION, common_span, render
from descnet3d.shapes.surfaces import check_options
from descnet3d.startup import available_cores

__all__ = [
    "AZIMUTH",
    "COLOR",
    "ELEVATION",
    "IMAGE_ENDINGS",
    "Camera",
    "place_camera",
    "render",
    "save_sheet",
    "sheet",
]
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_INK = (60, 64, 70)


def sheet(
    shapes,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    tile: int = 256,
    threshold: float = 0.5,
    surface: str = "cubes",
    progress: bool = False,
) -> np.ndarray:
    """A contact sheet: a picture of every shape, all to the same scale.

    Args:
        shapes: `[n, D, H, W]` in [0, 1].
        labels: a text under each tile.
        columns: tiles in a row; about the root of n if None. `columns=n` makes a strip.
        title: a text above all tiles.
        tile: the side of a tile, in pixels.
        threshold: voxels above it are shown; between 0 and 1. A shape without one gets an empty
            tile that says so.
        surface: "cubes" or "isosurface", as in `surfaces.extract_surface`.
        progress: whether to show a progress bar with the time left.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: `shapes` is no occupancy, or another argument is not one of the above.
        ImportError: open3d cannot be imported.
    """
    from PIL import Image, ImageDraw

    shapes = as_occupancy(shapes, "shapes")
    check_options(threshold, surface)
    if labels is not None and len(labels) != len(shapes):
        raise ValueError(
            f"labels must be one text for each of the {len(shapes)} shapes, but they are "
            f"{len(labels)}"
        )
    if columns is None:
        columns = math.ceil(math.sqrt(len(shapes)))
    if columns < 1:
        raise ValueError(f"columns must be at least 1, but it is {columns}.")
    columns = min(columns, len(shapes))
    rows = math.ceil(len(shapes) / columns)
    text_size = max(9, round(tile / 15))
    label_height = 0 if labels is None else round(1.7 * text_size)
    title_size = round(1.35 * text_size)
    title_height = 0 if title is None else round(2.2 * title_size)
    span = common_span(shapes, threshold)

    size = (columns * tile, title_height + rows * (tile + label_height))
    page = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(page)
    if title is not None:
        _write(draw, title, (size[0] / 2, title_height / 2), title_size, size[0] - text_size)
    options = {"threshold": threshold, "surface": surface, "span": span}
    with closing(_rendered(shapes, size=tile, **options)) as pictures:
        shown = bar(len(shapes), "tile", items=pictures) if progress else pictures
        drawn = list(shown)
    for index, (shape, picture) in enumerate(zip(shapes, drawn, strict=True)):
        left = index % columns * tile
        top = title_height + index // columns * (tile + label_height)
        page.paste(Image.fromarray(picture), (left, top))
        middle = left + tile / 2
        if not (shape > threshold).any():
            _write(draw, "empty", (middle, top + tile / 2), text_size, tile)
        if labels is not None:
            place = (middle, top + tile + 0.4 * label_height)
            _write(draw, str(labels[index]), place, text_size, tile - text_size)
    return np.asarray(page)


def _rendered(shapes, **options: Any) -> Generator[np.ndarray]:
    """A picture of each shape; as many at a time as there are cores, as open3d frees the GIL."""
    pool = ThreadPoolExecutor(available_cores())
    try:
        yield from pool.map(lambda shape: render(shape, **options), shapes)
    finally:
        pool.shutdown(cancel_futures=True)


def save_sheet(
    shapes,
    path: str | os.PathLike,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    tile: int = 256,
    threshold: float = 0.5,
    surface: str = "cubes",
    progress: bool = False,
) -> Path:
    """Writes a contact sheet to an image file.

    Args:
        shapes: `[n, D, H, W]` in [0, 1].
        path: `.png`, `.jpg`, `.jpeg` or `.webp`. The file appears whole or not at all.
        labels: as in `sheet`.
        columns: as in `sheet`.
        title: as in `sheet`.
        tile: as in `sheet`.
        threshold: as in `sheet`.
        surface: as in `sheet`.
        progress: as in `sheet`.

    Returns:
        The path.

    Raises:
        ValueError: as in `sheet`, or the path cannot be written; before anything is drawn.
        ImportError: open3d cannot be imported.
    """
    from PIL import Image

    ending = Path(path).suffix.lower()
    if ending not in IMAGE_ENDINGS:
        raise ValueError(f"sheets are kept in {', '.join(IMAGE_ENDINGS)} files, and path is {path}")
    files.check_writable(path)
    picture = sheet(shapes, labels, columns, title, tile, threshold, surface, progress)
    page = Image.fromarray(picture)
    options: dict[str, Any] = {} if ending == ".png" else {"quality": 92}
    content = io.BytesIO()  # PIL does not tell of every disk that is full
    try:
        page.save(content, {".jpg": "jpeg"}.get(ending, ending[1:]), **options)
    except ValueError as error:  # JPEG and WebP have a largest side
        raise files.OutputError(
            f"cannot write {path}: a sheet of {page.width} x {page.height} pixels is too large "
            "for this kind of file; choose .png, a smaller tile, or more columns"
        ) from error
    with files.replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return Path(path)


def _write(draw, text: str, middle: tuple[float, float], size: int, width: float) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text = text.rstrip() + "…"
    draw.text(middle, text, fill=_INK, font=font, anchor="mm")
