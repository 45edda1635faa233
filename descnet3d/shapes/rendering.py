"""The renderer: a picture of one shape, without a display.

Rays are cast by open3d's `RaycastingScene` (Embree), on the CPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.shapes.surfaces import check_options, extract_surface, open3d

# In the aligned ModelNet grids chairs, toilets and beds face -y, and sofas and monitors -x: from
# here, between the two, all of them show their front.
AZIMUTH = 233.0
ELEVATION = 26.0
COLOR = (96, 149, 196)
BACKGROUND = (250, 250, 251)
# A narrow lens: nearly parallel, so that near and far voxels keep about the same size.
_FIELD_OF_VIEW = 18.0
_MARGIN = 0.96
_SUPERSAMPLING = 2
# The longest side of a shape is 0.75 of its grid by the convention of all our data.
_TYPICAL_SPAN = 0.75


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
    transparent: bool = False,
) -> np.ndarray:
    """A picture of one shape, seen from above its front.

    Args:
        occupancy: one grid `[D, H, W]` in [0, 1], the last axis up.
        size: the side of the picture, in pixels.
        azimuth: where the camera stands, in degrees about the up axis: 0 on the side of +x, 90 on
            the side of +y.
        elevation: how high it stands, in degrees above the horizon, -90 to 90.
        threshold: voxels above it are shown; between 0 and 1.
        surface: "cubes" or "isosurface", as in `surfaces.extract_surface`.
        color: of the shape, red, green and blue, 0 to 255.
        span: the part of the grid, about its centre, that the picture is framed for, as a share of
            its side. None for 0.75, which holds any shape voxelized by our convention, or for 1
            where the shape reaches further. Pictures of the same span have the same scale.
        transparent: whether the background is left out, for pages of any color; the shadow is then
            translucent.

    Returns:
        uint8 `[size, size, 3]`, or `[size, size, 4]` where it is transparent. Without a voxel above
        the threshold, the bare background.

    Raises:
        ValueError: an argument is not one of the above.
        ImportError: open3d cannot be imported.
    """
    if np.ndim(occupancy) != 3:
        raise ValueError(
            f"occupancy must be one grid [D, H, W], but its shape is "
            f"{list(np.shape(occupancy))}; pass one of the batch, or draw all with view.sheet"
        )
    grid = as_occupancy(np.asarray(occupancy)[None], "occupancy")[0]
    check_options(threshold, surface)
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, but it is {size}.")
    if not -90 <= elevation <= 90:
        raise ValueError(f"elevation must lie between -90 and 90 degrees, but it is {elevation}.")
    paint = np.asarray(color)
    if paint.shape != (3,) or paint.min() < 0 or paint.max() > 255:
        raise ValueError(f"color must be three numbers, 0 to 255, but it is {color}.")
    if span is None:
        span = common_span(grid[None], threshold)
    elif not 0 < span <= 1:
        raise ValueError(f"span must be above 0 and at most 1, but it is {span}.")
    side = size * _SUPERSAMPLING
    rows, light, ground = np.zeros(0, int), np.zeros(0), np.ones(side * side)
    if (grid > threshold).any():
        camera = place_camera(grid.shape, azimuth, elevation, span)
        body = _Body(*extract_surface(grid, threshold, surface), is_smooth=surface != "cubes")
        lights = _place_lights(azimuth)
        ground = _light_on_ground(body, camera, lights, side)
        rows, light = _light_on_body(body, camera, lights, side)
    painted = _linear(paint) * light[:, None]
    if transparent:
        return _cut_out(rows, painted, ground, size)
    picture = _linear(np.array(BACKGROUND)) * ground[:, None]
    picture[rows] = painted
    return _encode(_reduced(picture, size))


def _reduced(samples: np.ndarray, size: int) -> np.ndarray:
    """The means of the samples of each pixel, `[size, size, channels]`."""
    times = _SUPERSAMPLING
    samples = samples.reshape(times * size, times * size, -1)
    parts = [samples[row::times, column::times] for row in range(times) for column in range(times)]
    return functools.reduce(np.add, parts) / len(parts)


def _cut_out(rows: np.ndarray, body: np.ndarray, ground: np.ndarray, size: int) -> np.ndarray:
    """The shape's samples, and a black veil where its shadow lies, over nothing."""
    covered, colors = np.zeros((len(ground), 1)), np.zeros((len(ground), 3))
    covered[rows], colors[rows] = 1.0, body
    # Browsers lay a veil over encoded colors, so that its weight is one of those.
    veil = (1 - np.clip(ground, 0, 1) ** (1 / 2.2))[:, None] * (1 - covered)
    share, opacity = _reduced(covered, size), _reduced(covered + veil, size)
    own = _encode(_reduced(colors, size) / np.maximum(share, 1e-6))
    painted = np.round(own * share / np.maximum(opacity, 1e-6)).astype(np.uint8)
    return np.concatenate([painted, np.round(255 * opacity).astype(np.uint8)], axis=-1)


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


def common_span(shapes: np.ndarray, threshold: float) -> float:
    """The span for pictures of several shapes that are to have one scale.

    Args:
        shapes: `[n, D, H, W]`.
        threshold: voxels above it are shown.

    Returns:
        0.75 where all shapes keep to the middle 0.75 of the grid, else 1.
    """
    voxel = np.argwhere((shapes > threshold).any(axis=0))
    side = np.array(shapes.shape[1:])
    rim = side * (1 - _TYPICAL_SPAN) / 2
    return _TYPICAL_SPAN if ((voxel >= rim) & (voxel + 1 <= side - rim)).all() else 1.0


def _linear(color: np.ndarray) -> np.ndarray:
    return (color / 255.0) ** 2.2


def _encode(light: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)


#
# A sky that is brighter above, which makes corners and undersides dark; a large key lamp at the
# right above the camera, with soft shadows; and a weak fill from the left. All of it turns with the
# camera. The shape's light is traced at every sample of every pixel; that on the ground changes
# slowly and is traced at every third pixel.

# Directions for each sample of a pixel on the shape. Every sample has others, so that a pixel has
# _SUPERSAMPLING² times as many without any noise.
_BODY_DIRECTIONS = (12, 4)
_GROUND_DIRECTIONS = (128, 20)
_GROUND_PIXEL = 3 * _SUPERSAMPLING
_RAYS_AT_ONCE = 2**20  # 24 MB of them


class _Lights(NamedTuple):
    basis: np.ndarray  # the rows are the directions right, toward the camera, and up
    key: np.ndarray  # the direction to the middle of the key lamp
    fill: np.ndarray


def _place_lights(azimuth: float) -> _Lights:
    turn = math.radians(azimuth)
    right = [-math.sin(turn), math.cos(turn), 0.0]
    toward = [math.cos(turn), math.sin(turn), 0.0]
    basis = np.array([right, toward, [0.0, 0.0, 1.0]])
    key = np.array([0.42, 0.64, 1.05]) @ basis
    fill = np.array([-0.90, 0.45, 0.15]) @ basis
    return _Lights(basis, key / np.linalg.norm(key), fill / np.linalg.norm(fill))


class _Body:
    """A surface that rays are cast at."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, is_smooth: bool):
        self._tensor = open3d().core.Tensor.from_numpy  # which copies nothing
        self._scene = open3d().t.geometry.RaycastingScene()
        corners, faces = vertices.astype(np.float32), triangles.astype(np.uint32)
        self._scene.add_triangles(self._tensor(corners), self._tensor(faces))
        self._triangles = triangles
        self.low, self.high = vertices.min(axis=0), vertices.max(axis=0)
        first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
        self._face_normals = np.cross(second - first, third - first).astype(np.float32)
        self._vertex_normals = None
        if is_smooth:
            self._vertex_normals = np.zeros((len(vertices), 3), dtype=np.float32)
            for corner in range(3):
                np.add.at(self._vertex_normals, triangles[:, corner], self._face_normals)
            self._vertex_normals = _unit(self._vertex_normals)

    def hit(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of the rays `[r, 6]` that hit, where they do, and the unit normals there."""
        hits = self._scene.cast_rays(self._tensor(rays))
        distance = hits["t_hit"].numpy()
        rows = np.flatnonzero(np.isfinite(distance))
        points = rays[rows, :3] + distance[rows, None] * rays[rows, 3:]
        faces = hits["primitive_ids"].numpy()[rows]
        if self._vertex_normals is None:
            return rows, points, _unit(self._face_normals[faces])
        second, third = hits["primitive_uvs"].numpy()[rows].T[..., None]
        ends = self._vertex_normals[self._triangles[faces]]
        normals = (1 - second - third) * ends[:, 0] + second * ends[:, 1] + third * ends[:, 2]
        return rows, points, _unit(normals)

    def open_to(
        self, points: np.ndarray, normals: np.ndarray, directions: np.ndarray
    ) -> Iterator[tuple[int, Any, Any, np.ndarray]]:
        """Where nothing lies in a direction, which never lies behind a normal.

        Args:
            points: float32 `[p, 3]`.
            normals: theirs, of unit length; of cubes best with those of a side together.
            directions: float32 `[d, 3]`.

        Yields:
            Of each direction, in order for each point: its index; points that look its way, as a
            slice or as rows; its product with their normals; and whether they are open to it.
        """
        origins = points + 1e-2 * normals
        for some, alike in self._facing(normals, directions):
            rays = np.empty((len(some), len(origins[alike]), 6), dtype=np.float32)
            rays[..., :3] = origins[alike]
            rays[..., 3:] = directions[some, None]
            free = ~self._scene.test_occlusions(self._tensor(rays)).numpy()
            for index, is_open in zip(some, free, strict=True):
                if isinstance(alike, slice):  # all have one normal
                    yield index, alike, directions[index] @ normals[alike.start], is_open
                else:
                    yield index, alike, _along(normals[alike], directions[index]), is_open

    def side_of(self, normals: np.ndarray) -> np.ndarray:
        """A number that is the same for normals of one side of cubes; of other bodies, of all."""
        if self._vertex_normals is not None:
            return np.zeros(len(normals), np.int8)
        return np.round(normals @ np.array([1, 3, 9])).astype(np.int8)

    def _facing(
        self, normals: np.ndarray, directions: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Which directions lie before which normals, in blocks: of cubes, all of a side at once."""
        if self._vertex_normals is not None:
            for index in range(len(directions)):
                yield np.array([index]), np.flatnonzero(_along(normals, directions[index]) > 0)
            return
        sides = self.side_of(normals)
        ends = [*np.flatnonzero(np.diff(sides)) + 1, len(sides)]
        for start, end in zip([0, *ends], ends, strict=False):
            facing = np.flatnonzero(directions @ normals[start] > 0)
            parts = 1 + len(facing) * (end - start) // _RAYS_AT_ONCE
            for some in np.array_split(facing, parts):
                yield some, slice(start, end)


def _light_on_body(
    body: _Body, camera: Camera, lights: _Lights, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of the picture that the shape covers, and the light on each."""
    seen = _in_sight(camera, body, side)
    rows, points, normals = body.hit(_camera_rays(camera, side, *seen))
    across = seen[1].stop - seen[1].start
    rows = (rows // across + seen[0].start) * side + rows % across + seen[1].start
    samples = _SUPERSAMPLING**2
    sample = rows // side % _SUPERSAMPLING * _SUPERSAMPLING + rows % side % _SUPERSAMPLING
    skies = _sky_directions(samples * _BODY_DIRECTIONS[0]) @ lights.basis
    lamps = _lamp_directions(lights.key, samples * _BODY_DIRECTIONS[1])
    light = np.empty(len(rows))
    for index in range(samples):
        part = np.flatnonzero(sample == index)
        part = part[np.argsort(body.side_of(normals[part]), kind="stable")]
        sky, open_sky = _sky_light(body, points[part], normals[part], skies[index::samples])
        key = _key_light(body, points[part], normals[part], lamps[index::samples])
        fill = np.clip(_along(normals[part], lights.fill), 0, None) * open_sky
        light[part] = 0.56 * sky + 0.72 * key + 0.14 * fill
    return rows, light


def _light_on_ground(body: _Body, camera: Camera, lights: _Lights, side: int) -> np.ndarray:
    """The light on what lies behind the shape, 1 where it casts no shadow, `[side²]`.

    The ground is level with the shape's lowest voxel, and ends where its shadow does.
    """
    coarse = max(1, side // _GROUND_PIXEL)
    rays = _camera_rays(camera, coarse)
    light = np.ones(coarse * coarse, dtype=np.float32)
    in_sight = np.ones(coarse * coarse, dtype=bool)
    in_sight[body.hit(rays)[0]] = False

    drop = body.low[2] - rays[:, 2]
    rows = np.flatnonzero((drop < 0) & (rays[:, 5] < 0) & in_sight)
    points = rays[rows, :3] + (drop[rows] / rays[rows, 5])[:, None] * rays[rows, 3:]
    outside = np.maximum(body.low[:2] - points[:, :2], points[:, :2] - body.high[:2]).max(axis=1)
    reach = 2 * (body.high[2] - body.low[2]) + 4
    near = np.flatnonzero(outside < reach)
    rows, points, outside = rows[near], points[near].astype(np.float32), outside[near]
    if len(rows):
        normals = np.zeros_like(points)
        normals[:, 2] = 1
        skies = _sky_directions(_GROUND_DIRECTIONS[0]) @ lights.basis
        sky, _ = _sky_light(body, points, normals, skies[skies[:, 2] > 0])
        key = _key_light(body, points, normals, _lamp_directions(lights.key, _GROUND_DIRECTIONS[1]))
        shadow = 1 - (0.5 * sky + 0.5 * key / lights.key[2])
        # It also fades before the side of the picture, where tiles of a sheet would show a seam.
        place = np.stack([rows // coarse, rows % coarse])
        to_side = np.minimum(place, coarse - 1 - place).min(axis=0) / (0.12 * coarse)
        fade = np.clip(2 - 2 * outside / reach, 0, 1) * np.clip(to_side, 0, 1)
        light[rows] = 1 - shadow * fade

    # Between the coarse pixels only those in sight count: the ground beneath the shape is black
    # and would show as a ragged line along its foot. Gaps too narrow for a coarse pixel take the
    # light from further around.
    weight = in_sight.astype(np.float32).reshape(coarse, coarse)
    light = light.reshape(coarse, coarse) * weight
    around = max(1, coarse // 8)
    enlarged = np.ones((side, side), dtype=np.float32)
    for lit, seen in (
        (_resize(light, around), _resize(weight, around)),
        (light, weight),
    ):
        lit, seen = _resize(lit, side), _resize(seen, side)
        enlarged = np.where(seen > 1e-3, lit / np.maximum(seen, 1e-3), enlarged)
    return enlarged.ravel()


def _resize(values: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(values)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _sky_light(
    body: _Body, points: np.ndarray, normals: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sky's light, 1 on an open face that looks up, and the open share of the half sphere."""
    directions = directions.astype(np.float32)
    # From below comes what the ground throws back.
    height = directions[:, 2]
    brightness = np.where(height > 0, 0.65 + 0.35 * height, 0.45)
    total, opened, light = np.zeros((3, len(points)), np.float32)
    for index, alike, slope, is_open in body.open_to(points, normals, directions):
        total[alike] += slope
        seen = slope * is_open
        opened[alike] += seen
        light[alike] += seen * brightness[index]
    brightest = 0.65 + 0.35 * 2 / 3  # the mean over the half sphere about the zenith
    return light / total / brightest, opened / total


def _key_light(
    body: _Body, points: np.ndarray, normals: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    directions = directions.astype(np.float32)
    opened = np.zeros(len(points))
    for _, alike, _, is_open in body.open_to(points, normals, directions):
        opened[alike] += is_open
    facing = np.clip(_along(normals, directions.mean(axis=0)), 0, None)
    return facing * (opened / len(directions))


def _along(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The products of vectors `[n, 3]` with one direction.

    Not by `@`: its threads would wait for each other where tiles are drawn side by side.
    """
    return np.einsum("ij,j->i", vectors, direction)


def _sky_directions(count: int) -> np.ndarray:
    """Unit vectors spread evenly over the sphere, `[count, 3]`."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def _lamp_directions(middle: np.ndarray, count: int) -> np.ndarray:
    """Directions to points of a round lamp that is seen under about 14 degrees, `[count, 3]`."""
    index = np.arange(count) + 0.5
    radius = 0.12 * np.sqrt(index / count)
    angle = index * math.pi * (3 - math.sqrt(5))
    across = _unit(np.cross(middle, [0.0, 0.0, 1.0])[None])[0]
    up = np.cross(across, middle)
    return (
        middle + (radius * np.cos(angle))[:, None] * across + (radius * np.sin(angle))[:, None] * up
    )


def _in_sight(camera: Camera, body: _Body, side: int) -> tuple[slice, slice]:
    """Which rows and columns of a picture may show the surface: those of the box around it."""
    corners = np.stack(np.meshgrid(*np.stack([body.low, body.high], axis=1)), axis=-1)
    right, up, away = camera.axes @ (corners.reshape(-1, 3) - camera.position).T
    places = side * (0.5 + camera.focal * np.stack([-up, right]) / away)
    first = np.clip(np.floor(places.min(axis=1)) - 1, 0, side).astype(int)
    last = np.clip(np.ceil(places.max(axis=1)) + 1, 0, side).astype(int)
    return slice(first[0], last[0]), slice(first[1], last[1])


def _camera_rays(
    camera: Camera, side: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """float32 `[r, 6]`, origins and unit directions, row by row from the top left."""
    offsets = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    down, across = offsets[rows, None, None], offsets[None, columns, None]
    right, up, away = camera.axes.astype(np.float32)
    directions = (across * right - down * up + camera.focal * away).reshape(-1, 3)
    rays = np.empty((len(directions), 6), dtype=np.float32)
    rays[:, :3] = camera.position
    rays[:, 3:] = _unit(directions)
    return rays


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors / np.maximum(lengths, 1e-12)
