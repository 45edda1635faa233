"""Meshes that are written: whole or not at all, and the way back to the grid."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save, save_all
from descnet3d.datasets.shape_files import load_shape
from descnet3d.files import OutputError
from descnet3d.shapes.surfaces import from_occupancy
from descnet3d.shapes.transform import GridTransform

PLACES = [
    None,
    GridTransform(0.037, (1.5, -20.0, 0.25)),
    GridTransform(12.5, (0.0, 3.0, 9.0), up="y"),
]


@pytest.mark.parametrize("ending", MESH_ENDINGS)
@pytest.mark.parametrize("surface", ["cubes", "isosurface"])
@pytest.mark.parametrize("transform", PLACES)
def test_from_grid_to_mesh_and_back_nothing_changes(tmp_path, ending, surface, transform):
    generator = np.random.default_rng(0)
    grids = generator.random((4, 12, 12, 12))
    grids[:3] = grids[:3] < [[[[0.03]]], [[[0.3]]], [[[0.7]]]]  # and one of probabilities
    paths = save_all(grids, tmp_path / f"a{ending}", surface=surface, transform=transform)
    for grid, path in zip(grids, paths, strict=True):
        options = {"up": transform.up} if transform and ending != ".glb" else {}
        back = load_shape(path, 12, **options)
        np.testing.assert_array_equal(back.occupancy, grid > 0.5)
        placed = transform or GridTransform(1.0, (0.0, 0.0, 0.0))
        assert back.transform.scale == placed.scale and back.transform.offset == placed.offset


@pytest.mark.parametrize("surface", ["cubes", "isosurface"])
@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_real_grids_come_back_as_they_were(tmp_path, modelnet10, ending, surface):
    archive = read_archive(modelnet10, split="test")
    rows = [np.flatnonzero(archive.labels == label)[1:40:10] for label in range(10)]
    grids = archive.occupancy[np.concatenate(rows)]
    assert len(grids) == 40
    paths = save_all(grids, tmp_path / f"a{ending}", surface=surface)
    for grid, path in zip(grids, paths, strict=True):
        np.testing.assert_array_equal(load_shape(path, 32).occupancy, grid)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(MESH_ENDINGS))
def test_a_lone_mesh_comes_back_where_its_shape_fills_the_grid(tmp_path_factory, seed, ending):
    generator = np.random.default_rng(seed)
    grid = np.zeros((16,) * 3, bool)
    grid[2:14, 4:9, 3:12] = generator.random((12, 5, 9)) < 0.5
    grid[2, 4, 3] = grid[13, 8, 11] = True
    path = save(from_occupancy(grid), tmp_path_factory.mktemp("lone") / f"a{ending}")
    np.testing.assert_array_equal(load_shape(path, 16).occupancy, grid)


def test_a_mesh_that_was_changed_since_is_voxelised_as_any_other(tmp_path):
    grid = np.zeros((16,) * 3, bool)
    grid[0:5, 0:3, 0:4] = True
    path = save_all(grid[None], tmp_path / "a.obj")[0]
    lines = path.read_text().splitlines()
    moved = [
        " ".join(["v", *(str(float(word) + 2) for word in line.split()[1:])])
        if line.startswith("v ")
        else line
        for line in lines
    ]
    path.write_text("\n".join(moved))
    assert read_mesh(path).grid is None
    assert np.argwhere(load_shape(path, 16).occupancy)[:, 0].tolist()[0] == 2


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path, ending):
    grid = np.ones((4, 4, 4))
    path = save(from_occupancy(grid), tmp_path / f"a{ending}")
    before = path.read_bytes()
    noise = np.random.default_rng(0).random((24, 24, 24))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            save(from_occupancy(noise), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("surface", ["cubes", "isosurface"])
def test_cubes_are_shaded_flat_and_isosurfaces_smoothly(tmp_path, surface):
    """Where a file gives vertices no normals, readers shade triangles by their own."""
    ball = np.linalg.norm(np.indices((12,) * 3) - 5.5, axis=0) < 4
    [glb] = save_all(ball[None], tmp_path / "ball.glb", surface=surface)
    [ply] = save_all(ball[None], tmp_path / "ball.ply", surface=surface)
    [obj] = save_all(ball[None], tmp_path / "ball.obj", surface=surface)
    is_smooth = surface == "isosurface"
    assert (b'"NORMAL"' in glb.read_bytes()) == is_smooth
    assert (b"property double nx" in ply.read_bytes()) == is_smooth
    normals = [line.split()[1:] for line in obj.read_text().splitlines() if line[:3] == "vn "]
    if is_smooth:
        assert len(normals) > 100
    else:
        along = {tuple(map(float, normal)) for normal in normals}
        axes = np.concatenate([np.eye(3), -np.eye(3)]).tolist()
        assert along == set(map(tuple, axes)) and len(normals) == 6
