"""The light on a shape and on the ground around it, traced.

A sky that is brighter above, which makes corners and undersides dark; a large key lamp at the
right above the camera, with soft shadows; and a weak fill from the left. All of it turns with the
camera. The shape's light is traced at every sample of every pixel; that on the ground changes
slowly and is traced at every third pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from descnet3d.shapes.camera import Camera, in_sight, rays_of, unit
from descnet3d.shapes.surfaces import open3d

SUPERSAMPLING = 2  # samples of a pixel, along each side
# Directions for each sample of a pixel on the shape. Every sample has others, so that a pixel has
# SUPERSAMPLING² times as many without any noise.
_BODY_DIRECTIONS = (12, 4)
_GROUND_DIRECTIONS = (128, 20)
_GROUND_PIXEL = 3 * SUPERSAMPLING
_RAYS_AT_ONCE = 2**20  # 24 MB of them


class Lights(NamedTuple):
    """Where light comes from, beside the sky.

    Attributes:
        basis: `[3, 3]`; the rows are the directions right, toward the camera, and up.
        key: the direction to the middle of the key lamp, of unit length.
        fill: the same of the weak fill.
    """

    basis: np.ndarray
    key: np.ndarray
    fill: np.ndarray


def place_lights(azimuth: float) -> Lights:
    """The lights of a camera that stands at an azimuth, in degrees."""
    turn = math.radians(azimuth)
    right = [-math.sin(turn), math.cos(turn), 0.0]
    toward = [math.cos(turn), math.sin(turn), 0.0]
    basis = np.array([right, toward, [0.0, 0.0, 1.0]])
    key = np.array([0.42, 0.64, 1.05]) @ basis
    fill = np.array([-0.90, 0.45, 0.15]) @ basis
    return Lights(basis, key / np.linalg.norm(key), fill / np.linalg.norm(fill))


class Body:
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
            self._vertex_normals = unit(self._vertex_normals)

    def hit(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of the rays `[r, 6]` that hit, where they do, and the unit normals there."""
        hits = self._scene.cast_rays(self._tensor(rays))
        distance = hits["t_hit"].numpy()
        rows = np.flatnonzero(np.isfinite(distance))
        points = rays[rows, :3] + distance[rows, None] * rays[rows, 3:]
        faces = hits["primitive_ids"].numpy()[rows]
        if self._vertex_normals is None:
            return rows, points, unit(self._face_normals[faces])
        second, third = hits["primitive_uvs"].numpy()[rows].T[..., None]
        ends = self._vertex_normals[self._triangles[faces]]
        normals = (1 - second - third) * ends[:, 0] + second * ends[:, 1] + third * ends[:, 2]
        return rows, points, unit(normals)

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


def light_on_body(
    body: Body, camera: Camera, lights: Lights, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of the picture that the shape covers, and the light on each."""
    seen = in_sight(camera, body.low, body.high, side)
    rows, points, normals = body.hit(rays_of(camera, side, *seen))
    across = seen[1].stop - seen[1].start
    rows = (rows // across + seen[0].start) * side + rows % across + seen[1].start
    samples = SUPERSAMPLING**2
    sample = rows // side % SUPERSAMPLING * SUPERSAMPLING + rows % side % SUPERSAMPLING
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


def light_on_ground(body: Body, camera: Camera, lights: Lights, side: int) -> np.ndarray:
    """The light on what lies behind the shape, 1 where it casts no shadow, `[side²]`.

    The ground is level with the shape's lowest voxel, and ends where its shadow does.
    """
    coarse = max(1, side // _GROUND_PIXEL)
    rays = rays_of(camera, coarse)
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
    body: Body, points: np.ndarray, normals: np.ndarray, directions: np.ndarray
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
    body: Body, points: np.ndarray, normals: np.ndarray, directions: np.ndarray
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
    across = unit(np.cross(middle, [0.0, 0.0, 1.0])[None])[0]
    up = np.cross(across, middle)
    return (
        middle + (radius * np.cos(angle))[:, None] * across + (radius * np.sin(angle))[:, None] * up
    )
