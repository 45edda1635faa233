"""Pictures of shapes: rendered tiles and contact sheets, without a display.

Rays are cast by open3d's `RaycastingScene` (Embree), on the CPU; PIL lays out the sheet.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from descnet3d import files, meshes, voxels

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

# In the aligned ModelNet grids chairs, toilets and beds face -y, and sofas and monitors -x: from
# here, between the two, all of them show their front.
AZIMUTH = 236.0
ELEVATION = 26.0
COLOR = (96, 149, 196)

_BACKGROUND = (250, 250, 251)
_INK = (60, 64, 70)
# A narrow lens: nearly parallel, so that near and far voxels keep about the same size.
_FIELD_OF_VIEW = 18.0
_MARGIN = 0.96
_SUPERSAMPLING = 2
# The longest side of a shape is 0.75 of its grid by the convention of all our data.
_TYPICAL_SPAN = 0.75
# Directions of shadow rays for each of the samples of a pixel, every sample with its own.
_SKY_DIRECTIONS = 16
_KEY_DIRECTIONS = 6


class Camera(NamedTuple):
    """A pinhole camera that looks at the centre of a grid.

    Attributes:
        position: where it is, float64 `[3]`, in voxels.
        axes: float64 `[3, 3]`; the rows are the directions right, up and away in the picture.
        focal: the focal length, as a share of the picture's side.
    """

    position: np.ndarray
    axes: np.ndarray
    focal: float


def render(
    occupancy,
    size: int = 256,
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
    threshold: float = 0.5,
    surface: str = "cubes",
    color: Sequence[int] = COLOR,
    span: float | None = None,
) -> np.ndarray:
    """A picture of one shape, seen from above its front.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1], the last axis up.
        size: the side of the picture, in pixels.
        azimuth: where the camera stands, in degrees about the up axis: 0 on the side of +x, 90 on
            the side of +y.
        elevation: how high it stands, in degrees above the horizon, -90 to 90.
        threshold: voxels above it are shown; between 0 and 1.
        surface: "cubes" or "isosurface", as in `meshes.extract_surface`.
        color: of the shape, red, green and blue, 0 to 255.
        span: the part of the grid, about its centre, that the picture is framed for, as a share of
            its side. None for 0.75, which holds any shape voxelized by our convention, or for 1
            where the shape reaches further. Pictures of the same span have the same scale.

    Returns:
        uint8 `[size, size, 3]`. Without a voxel above the threshold, the bare background.

    Raises:
        ValueError: an argument is not one of the above.
        ImportError: open3d cannot be imported.
    """
    if np.ndim(occupancy) != 3:
        raise ValueError(
            f"occupancy must be one grid [D, H, W], and came with shape "
            f"{list(np.shape(occupancy))}; pass one of the batch, or draw all with view.sheet"
        )
    grid = voxels.as_occupancy(np.asarray(occupancy)[None], "occupancy")[0]
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, and came as {size}")
    if not -90 <= elevation <= 90:
        raise ValueError(f"elevation must lie between -90 and 90 degrees, and came as {elevation}")
    color = np.asarray(color)
    if color.shape != (3,) or color.min() < 0 or color.max() > 255:
        raise ValueError(f"color must be three numbers, 0 to 255, and came as {color}")
    if span is None:
        span = _span(grid[None], threshold)
    elif not 0 < span <= 1:
        raise ValueError(f"span must be above 0 and at most 1, and came as {span}")
    background = _linear(np.array(_BACKGROUND))
    side = size * _SUPERSAMPLING
    if not (grid > threshold).any():
        picture = np.broadcast_to(background, (side, side, 3))
    else:
        vertices, triangles = meshes.extract_surface(grid, threshold, surface)
        camera = place_camera(grid.shape, azimuth, elevation, span)
        picture = _shade(
            vertices, triangles, camera, azimuth, side, _linear(color), background, surface
        )
    picture = picture.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return _encode(picture)


def place_camera(
    grid: tuple[int, int, int], azimuth: float, elevation: float, span: float
) -> Camera:
    """The camera that frames the middle part of a grid, the same from all sides.

    Args:
        grid: the grid's size `(D, H, W)`.
        azimuth: as in `render`.
        elevation: as in `render`.
        span: as in `render`.

    Returns:
        The camera. The upright cylinder around the middle `span` of the grid just fits its picture,
        and the grid's centre is the picture's centre.
    """
    center = np.array(grid, dtype=np.float64) / 2
    turn, rise = math.radians(azimuth), math.radians(elevation)
    away = -np.array(
        [math.cos(turn) * math.cos(rise), math.sin(turn) * math.cos(rise), math.sin(rise)]
    )
    right = np.array([-math.sin(turn), math.cos(turn), 0.0])
    axes = np.stack([right, np.cross(right, away), away])

    radius, height = span * math.hypot(center[0], center[1]), span * center[2]
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    rim = np.concatenate([np.pad(ring, ((0, 0), (0, 1)), constant_values=z) for z in (-1, 1)])
    rim[:, 2] *= height
    across, depth = np.abs(rim @ axes[:2].T).max(axis=1), rim @ axes[2]
    tangent = math.tan(math.radians(_FIELD_OF_VIEW / 2))
    distance = (across / (tangent * _MARGIN) - depth).max()
    return Camera(center - distance * away, axes, 0.5 / tangent)


def sheet(
    shapes,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    tile: int = 256,
    threshold: float = 0.5,
    surface: str = "cubes",
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
        surface: "cubes" or "isosurface", as in `meshes.extract_surface`.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: `shapes` is no occupancy, or another argument is not one of the above.
        ImportError: open3d cannot be imported.
    """
    from PIL import Image, ImageDraw

    shapes = voxels.as_occupancy(shapes, "shapes")
    if labels is not None and len(labels) != len(shapes):
        raise ValueError(
            f"labels must be one text for each of the {len(shapes)} shapes, and came as "
            f"{len(labels)}"
        )
    if columns is None:
        columns = math.ceil(math.sqrt(len(shapes)))
    if columns < 1:
        raise ValueError(f"columns must be at least 1, and came as {columns}")
    columns = min(columns, len(shapes))
    rows = math.ceil(len(shapes) / columns)
    text_size = max(9, round(tile / 15))
    label_height = 0 if labels is None else round(1.7 * text_size)
    title_size = round(1.35 * text_size)
    title_height = 0 if title is None else round(2.2 * title_size)
    span = _span(shapes, threshold)

    size = (columns * tile, title_height + rows * (tile + label_height))
    page = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(page)
    if title is not None:
        middle = (size[0] / 2, title_height / 2)
        _write(draw, title, middle, title_size, size[0] - text_size)
    for index, shape in enumerate(shapes):
        left = index % columns * tile
        top = title_height + index // columns * (tile + label_height)
        picture = render(shape, tile, threshold=threshold, surface=surface, span=span)
        page.paste(Image.fromarray(picture), (left, top))
        middle = left + tile / 2
        if not (shape > threshold).any():
            _write(draw, "empty", (middle, top + tile / 2), text_size, tile)
        if labels is not None:
            place = (middle, top + tile + 0.4 * label_height)
            _write(draw, str(labels[index]), place, text_size, tile - text_size)
    return np.asarray(page)


def save_sheet(
    shapes,
    path: str | os.PathLike,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    tile: int = 256,
    threshold: float = 0.5,
    surface: str = "cubes",
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

    Returns:
        The path.

    Raises:
        ValueError: as in `sheet`, or the path cannot be written; before anything is drawn.
        ImportError: open3d cannot be imported.
    """
    from PIL import Image

    ending = Path(path).suffix.lower()
    if ending not in IMAGE_ENDINGS:
        raise ValueError(
            f"sheets are kept in {', '.join(IMAGE_ENDINGS)} files, and path came as {path}"
        )
    files.check_writable(path)
    page = Image.fromarray(sheet(shapes, labels, columns, title, tile, threshold, surface))
    options = {} if ending == ".png" else {"quality": 92}
    with files.replacing(path) as temporary:
        try:
            page.save(temporary, **options)
        except ValueError as error:  # JPEG and WebP have a largest side
            raise files.OutputError(
                f"cannot write {path}: a sheet of {page.width} x {page.height} pixels is too large "
                "for this kind of file; choose .png, a smaller tile, or more columns"
            ) from error
    return Path(path)


def _span(shapes: np.ndarray, threshold: float) -> float:
    """0.75 where all shapes keep to the middle 0.75 of the grid, else 1."""
    occupied = (shapes > threshold).any(axis=0)
    for axis in range(3):
        side = occupied.shape[axis]
        rim = round(side * (1 - _TYPICAL_SPAN) / 2)
        slabs = occupied.any(axis=tuple(other for other in range(3) if other != axis))
        if slabs[:rim].any() or slabs[side - rim :].any():
            return 1.0
    return _TYPICAL_SPAN


def _write(draw, text: str, middle: tuple[float, float], size: int, width: float) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text = text.rstrip() + "…"
    draw.text(middle, text, fill=_INK, font=font, anchor="mm")


def _linear(color: np.ndarray) -> np.ndarray:
    return (color / 255.0) ** 2.2


def _encode(light: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)


# --- Light ----------------------------------------------------------------------------------------
#
# A sky that is brighter above (ambient occlusion), a large key light at the left behind the
# camera, with soft shadows, and a weak fill from the right. All of it turns with the camera.


def _shade(vertices, triangles, camera, azimuth, side, color, background, surface) -> np.ndarray:
    tensor = meshes.open3d().core.Tensor
    scene = meshes.open3d().t.geometry.RaycastingScene()
    scene.add_triangles(
        tensor(vertices.astype(np.float32)), tensor(triangles.astype(np.uint32))
    )
    rays = _camera_rays(camera, side)
    hits = scene.cast_rays(tensor(rays))
    distance = hits["t_hit"].numpy()
    on_shape = np.isfinite(distance)

    # The ground the shape stands on is not drawn, but takes its shadow. Seen from below there is
    # none.
    ground = vertices[:, 2].min()
    with np.errstate(divide="ignore"):
        to_ground = (ground - rays[:, 2]) / rays[:, 5]
    on_ground = ~on_shape & (to_ground > 0) & (rays[:, 2] > ground)

    seen = np.flatnonzero(on_shape | on_ground)
    along = np.where(on_shape, distance, to_ground)[seen]
    points = rays[seen, :3] + along[:, None] * rays[seen, 3:]
    normals = np.zeros((len(seen), 3), dtype=np.float32)
    normals[:, 2] = 1
    on_shape_seen = on_shape[seen]
    normals[on_shape_seen] = _normals(vertices, triangles, hits, np.flatnonzero(on_shape), surface)

    # Beyond this height's shadow the ground is bare, and needs no rays.
    near = on_shape_seen | _near_shape(points, vertices)
    seen, points, normals, on_shape_seen = (
        values[near] for values in (seen, points, normals, on_shape_seen)
    )
    sample = (seen // side) % _SUPERSAMPLING * _SUPERSAMPLING + seen % side % _SUPERSAMPLING
    origins = (points + 1e-2 * normals).astype(np.float32)

    turn = math.radians(azimuth)
    toward = np.array([math.cos(turn), math.sin(turn), 0])
    right = np.array([-math.sin(turn), math.cos(turn), 0])
    basis = np.stack([right, toward, [0, 0, 1]])

    sky, open_sky = _sky_light(scene, tensor, origins, normals, sample, basis)
    key_direction = np.array([-0.62, 0.55, 0.95]) @ basis
    key_direction /= np.linalg.norm(key_direction)
    key = _key_light(scene, tensor, origins, normals, sample, key_direction)
    fill_direction = np.array([0.9, 0.5, 0.1]) @ basis
    fill_direction /= np.linalg.norm(fill_direction)
    fill = np.clip(normals @ fill_direction, 0, None)

    picture = np.empty((side * side, 3))
    picture[:] = background
    light = 0.52 * sky + 0.75 * key + 0.16 * fill * open_sky
    shape_rows = seen[on_shape_seen]
    picture[shape_rows] = color * light[on_shape_seen, None]
    ground_rows = seen[~on_shape_seen]
    full_key = key_direction[2]
    shadow = 0.55 * sky[~on_shape_seen] + 0.45 * key[~on_shape_seen] / full_key
    picture[ground_rows] = background * np.minimum(shadow, 1)[:, None]
    return picture.reshape(side, side, 3)


def _camera_rays(camera: Camera, side: int) -> np.ndarray:
    """float32 `[side², 6]`, origins and unit directions, row by row from the top left."""
    offsets = (np.arange(side) + 0.5) / side - 0.5
    directions = (
        offsets[None, :, None] * camera.axes[0]
        - offsets[:, None, None] * camera.axes[1]
        + camera.focal * camera.axes[2]
    ).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(camera.position, directions.shape)
    return np.concatenate([origins, directions], axis=1).astype(np.float32)


def _normals(vertices, triangles, hits, rows, surface) -> np.ndarray:
    """Unit normals at the hits: flat for cubes, and between the vertices' own for isosurfaces."""
    faces = hits["primitive_ids"].numpy()[rows]
    corners = vertices[triangles]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if surface == "cubes":
        normals = face_normals[faces]
    else:
        vertex_normals = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(vertex_normals, triangles[:, corner], face_normals)
        second, third = hits["primitive_uvs"].numpy()[rows].T[..., None]
        ends = vertex_normals[triangles[faces]]
        ends /= np.linalg.norm(ends, axis=2, keepdims=True) + 1e-12
        normals = (1 - second - third) * ends[:, 0] + second * ends[:, 1] + third * ends[:, 2]
    normals = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
    return normals.astype(np.float32)


def _near_shape(points: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    reach = 2.5 * (high[2] - low[2]) + 4
    return ((points[:, :2] > low[:2] - reach) & (points[:, :2] < high[:2] + reach)).all(axis=1)


def _directions(count: int) -> np.ndarray:
    """Directions spread evenly over the sphere, `[samples of a pixel, count, 3]`."""
    samples = _SUPERSAMPLING**2
    index = np.arange(samples * count) + 0.5
    height = 1 - 2 * index / len(index)
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    return directions.reshape(count, samples, 3).transpose(1, 0, 2)


def _visible(scene, tensor, origins, directions) -> np.ndarray:
    rays = np.concatenate([origins, directions.astype(np.float32)], axis=1)
    return ~scene.test_occlusions(tensor(rays)).numpy()


def _sky_light(scene, tensor, origins, normals, sample, basis) -> tuple[np.ndarray, np.ndarray]:
    directions = _directions(_SKY_DIRECTIONS) @ basis
    light, openness, total = (np.zeros(len(origins)) for _ in range(3))
    for index in range(_SKY_DIRECTIONS):
        direction = directions[sample, index]
        facing = np.einsum("ij,ij->i", normals, direction)
        rows = np.flatnonzero(facing > 0)
        visible = _visible(scene, tensor, origins[rows], direction[rows])
        # From below comes what the ground throws back.
        brightness = np.where(direction[rows, 2] > 0, 0.65 + 0.35 * direction[rows, 2], 0.45)
        total[rows] += facing[rows]
        openness[rows] += facing[rows] * visible
        light[rows] += facing[rows] * visible * brightness
    # An open face that looks straight up is lit with 1.
    full = 0.65 + 0.35 * 2 / 3
    return light / total / full, openness / total


def _key_light(scene, tensor, origins, normals, sample, direction) -> np.ndarray:
    # A round lamp, whose points are sampled in a spiral.
    samples = _SUPERSAMPLING**2
    index = np.arange(samples * _KEY_DIRECTIONS)
    radius = 0.11 * np.sqrt((index + 0.5) / len(index))
    angle = index * math.pi * (3 - math.sqrt(5))
    across = np.cross(direction, [0, 0, 1])
    across /= np.linalg.norm(across)
    up = np.cross(across, direction)
    lamp = direction + radius[:, None] * (
        np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    )
    lamp = lamp.reshape(_KEY_DIRECTIONS, samples, 3)
    facing = np.clip(normals @ direction, 0, None)
    rows = np.flatnonzero(facing > 0)
    visible = np.zeros(len(rows))
    for points in lamp:
        visible += _visible(scene, tensor, origins[rows], points[sample[rows]])
    light = np.zeros(len(origins))
    light[rows] = facing[rows] * visible / _KEY_DIRECTIONS
    return light
