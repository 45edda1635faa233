"""Pictures show the shape where geometry says it is."""

from __future__ import annotations

import numpy as np
import pytest

from descnet3d.datasets.archives import read_archive
from descnet3d.shapes.camera import place_camera
from descnet3d.shapes.rendering import AZIMUTH, ELEVATION, render

BACKGROUND = 250


def covered(picture: np.ndarray) -> np.ndarray:
    """Where the shape is: it is blue, and the ground and its shadow are grey."""
    return picture[..., 2].astype(int) - picture[..., 0] > 20


def bare(picture: np.ndarray) -> np.ndarray:
    """Where neither the shape is nor its outline."""
    shape = np.pad(covered(picture), 1)
    around = [np.roll(shape, shift, axis) for shift in (-1, 1) for axis in (0, 1)]
    return ~(shape | np.any(around, axis=0))[1:-1, 1:-1]


def project(point, grid, size, azimuth, elevation, camera) -> tuple[float, float]:
    """Column and row of a point, by rotating the world in front of a camera on the axis."""
    turn, rise = np.radians(azimuth), np.radians(elevation)
    x, y, z = np.asarray(point) - np.array(grid) / 2
    across = -np.sin(turn) * x + np.cos(turn) * y
    toward = np.cos(turn) * x + np.sin(turn) * y
    up = np.cos(rise) * z - np.sin(rise) * toward
    depth = np.linalg.norm(camera.position - np.array(grid) / 2) - (
        np.cos(rise) * toward + np.sin(rise) * z
    )
    scale = size * camera.focal / depth
    return size / 2 + scale * across, size / 2 - scale * up


@pytest.mark.parametrize(("azimuth", "elevation"), [(233, 26), (20, 0), (100, 60), (0, 90)])
@pytest.mark.parametrize("voxel", [(4, 4, 4), (1, 5, 6)])
def test_a_voxel_is_seen_where_its_corners_are_projected(azimuth, elevation, voxel):
    grid = np.zeros((9, 9, 9))
    grid[voxel] = 1
    picture = render(grid, 128, azimuth, elevation, span=1)
    camera = place_camera(grid.shape, azimuth, elevation, span=1)
    corners = [
        project(np.array(voxel) + offset, grid.shape, 128, azimuth, elevation, camera)
        for offset in np.ndindex(2, 2, 2)
    ]
    rows, columns = np.nonzero(covered(picture))
    expected = np.concatenate([np.min(corners, axis=0), np.max(corners, axis=0)])
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, expected, atol=1.1)


def test_turning_the_camera_is_turning_the_shape():
    grid = np.zeros((8, 8, 8))
    grid[1:6, 2:4, 1:7] = 1
    grid[5, 5, 1] = 1
    for surface in ("cubes", "isosurface"):
        turned = np.rot90(grid, axes=(0, 1))  # from x towards y, as the azimuth goes
        one = render(grid, 64, azimuth=30, surface=surface)
        other = render(turned, 64, azimuth=120, surface=surface)
        # Rays along an edge may fall to either side of it.
        assert (np.abs(one.astype(int) - other) > 8).mean() < 0.01
        assert (np.abs(one.astype(int) - render(turned, 64, 30)) > 8).mean() > 0.05


def test_a_taller_box_reaches_higher_in_the_picture_and_stands_on_the_same_line():
    tops, feet = [], []
    for height in (8, 12, 16):
        grid = np.zeros((32, 32, 32))
        grid[12:20, 12:20, 6 : 6 + height] = 1
        rows = np.nonzero(covered(render(grid, 96)).any(axis=1))[0]
        tops.append(rows.min())
        feet.append(rows.max())
    assert tops[0] > tops[1] > tops[2]
    assert len(set(feet)) == 1


@pytest.mark.parametrize("azimuth", [0, 45, 233])
@pytest.mark.parametrize("elevation", [0, 26, 80])
@pytest.mark.parametrize(("side", "rim"), [(24, 4), (26, 3), (32, 0), (3, 0), (2, 1)])
def test_nothing_is_cut_off_and_the_picture_is_used(azimuth, elevation, side, rim):
    grid = np.pad(np.ones((side, side, side)), rim)
    seen = covered(render(grid, 64, azimuth, elevation))
    assert not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())
    rows, columns = np.nonzero(seen)
    assert max(np.ptp(rows), np.ptp(columns)) > 0.4 * 64


def test_the_shadow_falls_on_the_ground_and_nowhere_else():
    grid = np.zeros((32, 32, 32))
    grid[12:20, 12:20, 4:24] = 1
    picture = render(grid, 128)
    shadow = bare(picture) & (picture[..., 0] < BACKGROUND - 40)
    assert shadow.sum() > 100
    # The lamp is at the right above the camera, so the shadow lies to the left, on the ground.
    assert np.nonzero(shadow)[1].mean() < np.nonzero(covered(picture))[1].mean() - 5
    assert np.nonzero(shadow)[0].min() > np.nonzero(covered(picture))[0].min() + 20
    assert (picture[0] >= BACKGROUND - 1).all()
    from_below = render(grid, 128, elevation=-20)
    assert (from_below[bare(from_below)] >= BACKGROUND).all()


def test_the_ground_before_a_box_is_bright_up_to_its_foot():
    grid = np.zeros((32, 32, 32))
    grid[4:28, 14:28, 4:28] = 1
    for size in (128, 130):  # the ground's own pixels fall differently about the foot
        picture = render(grid, size, azimuth=270, elevation=30)
        foot = np.nonzero(covered(picture)[:, size // 2])[0].max()
        assert picture[foot + 1, size // 2, 0] > 210


def test_faces_of_a_box_that_look_different_ways_have_different_light():
    grid = np.pad(np.ones((20, 20, 20)), 6)
    picture = render(grid, 128, azimuth=225).astype(int)
    blue = picture[..., 2]
    top, left, right = blue[44, 64], blue[80, 40], blue[80, 88]
    assert top > right + 10
    assert right > left + 10


def test_a_corner_is_darker_than_an_open_face():
    grid = np.zeros((32, 32, 32))
    grid[6:26, 6:26, 6:8] = 1
    open_floor = render(grid, 96)
    grid[6:26, 24:26, 8:26] = 1  # a wall at the back
    with_wall = render(grid, 96)
    camera = place_camera(grid.shape, AZIMUTH, ELEVATION, 0.75)
    column, row = project((16, 22.5, 8), grid.shape, 96, AZIMUTH, ELEVATION, camera)
    place = (int(row), int(column))
    assert with_wall[place][2] < open_floor[place][2] - 5


def test_voxels_above_the_threshold_are_shown_and_no_others():
    grid = np.zeros((16, 16, 16))
    grid[6:10, 6:10, 6:10] = 0.6
    assert covered(render(grid, 64)).any()
    assert not covered(render(grid, 64, threshold=0.7)).any()
    np.testing.assert_array_equal(render(grid, 64), render(grid > 0, 64))
    assert (render(0 * grid, 64) >= BACKGROUND).all()


def test_the_color_is_the_shapes():
    grid = np.pad(np.ones((8, 8, 8)), 4)
    picture = render(grid, 32, color=(200, 60, 40)).astype(int)
    middle = picture[16, 16]
    assert middle[0] > middle[1] + 60
    assert middle[1] > middle[2]


def test_seats_show_their_front(modelnet10):
    """From the standard azimuth the back of a chair or sofa is behind its seat, not before it."""
    toward = np.array([np.cos(np.radians(AZIMUTH)), np.sin(np.radians(AZIMUTH))])
    for category in ("chair", "toilet", "sofa"):
        mean = read_archive(modelnet10, category, "train").occupancy.mean(axis=0)
        top = np.flatnonzero(mean.sum(axis=(0, 1)).cumsum() > 0.75 * mean.sum())[0]
        places = np.stack(np.meshgrid(np.arange(32), np.arange(32), indexing="ij"))
        back, whole = (
            (places * part).sum(axis=(1, 2)) / part.sum()
            for part in (mean[:, :, top:].sum(axis=2), mean.sum(axis=2))
        )
        assert (back - whole) @ toward < -0.5


def test_a_transparent_picture_over_the_background_is_the_picture():
    grid = np.zeros((16,) * 3)
    grid[4:12, 5:9, 2:10] = 1
    *color, opacity = np.moveaxis(render(grid, 96, transparent=True).astype(float), -1, 0)
    share = (opacity / 255)[..., None]
    over = np.stack(color, axis=-1) * share + np.array([250, 250, 251]) * (1 - share)
    picture = render(grid, 96).astype(float)
    assert np.abs(over - picture)[bare(picture)].max() < 2  # ground and shadow
    inside = opacity == 255
    assert inside.mean() > 0.05 and np.abs(over - picture)[inside].max() < 2
    assert opacity[0].max() == 0 and opacity[~inside].max() > 0
    assert render(0 * grid, 32, transparent=True)[..., 3].max() == 0
