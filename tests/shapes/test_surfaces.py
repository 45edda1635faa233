"""Surfaces enclose exactly the occupied voxels, and files keep them."""

from __future__ import annotations

import builtins
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save, save_all
from descnet3d.shapes.surfaces import SURFACES, extract_surface, from_occupancy, open3d

binary_grids = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)).filter(np.any)


def signed_volume(vertices, triangles) -> float:
    """By the divergence theorem; positive where triangles face outwards."""
    first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6)


def triangles_per_edge(triangles) -> np.ndarray:
    edges = np.concatenate([triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    return np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)[1]


def box(sides=(3, 4, 5)) -> np.ndarray:
    return np.pad(np.ones(sides), 2)


def ring() -> np.ndarray:
    grid = np.zeros((7, 7, 4))
    grid[1:6, 1:6, 1:3] = 1
    grid[3, 3] = 0
    return grid


@settings(max_examples=60, deadline=None)
@given(grid=binary_grids)
def test_cubes_enclose_as_much_as_there_are_occupied_voxels(grid):
    vertices, triangles = extract_surface(grid)
    assert signed_volume(vertices, triangles) == pytest.approx(grid.sum())
    # Two triangles for every face between an occupied voxel and an empty one.
    padded = np.pad(grid, 1)
    faces = sum((np.diff(padded.astype(int), axis=axis) != 0).sum() for axis in range(3))
    assert len(triangles) == 2 * faces
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert (triangles_per_edge(triangles) % 2 == 0).all()


@settings(max_examples=60, deadline=None)
@given(grid=binary_grids)
def test_every_edge_of_an_isosurface_has_two_triangles(grid):
    vertices, triangles = extract_surface(grid, surface="isosurface")
    assert (triangles_per_edge(triangles) == 2).all()
    assert signed_volume(vertices, triangles) > 0


@settings(max_examples=30, deadline=None)
@given(grid=binary_grids)
def test_the_centres_of_the_occupied_voxels_and_no_others_are_inside(grid):
    geometry = open3d()
    centres = np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float32) + 0.5
    for surface in SURFACES:
        vertices, triangles = extract_surface(grid, surface=surface)
        scene = geometry.t.geometry.RaycastingScene()
        scene.add_triangles(
            geometry.core.Tensor(vertices.astype(np.float32)),
            geometry.core.Tensor(triangles.astype(np.uint32)),
        )
        inside = scene.compute_occupancy(geometry.core.Tensor(centres), nsamples=3).numpy()
        np.testing.assert_array_equal(inside.astype(bool), grid)


def test_checkerboards_and_values_at_the_threshold_leave_an_isosurface_whole():
    random = np.random.default_rng(0)
    half = np.float32(0.5)
    near = [0, np.nextafter(half, half - 1), half, np.nextafter(half, half + 1), 1]
    for values in ([0, 1], [0, 0.25, 0.5, 0.75, 1], near):
        grid = random.choice(np.array(values, np.float32), (16, 16, 16))
        vertices, triangles = extract_surface(grid, 0.5, "isosurface")
        assert (triangles_per_edge(triangles) == 2).all()
        first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
        areas = np.linalg.norm(np.cross(second - first, third - first), axis=1)
        assert (areas > 0).all()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("grid", "characteristic"), [(box(), 2), (ring(), 0)])
def test_open3d_finds_a_watertight_surface_of_the_right_kind(grid, characteristic, surface):
    mesh = from_occupancy(grid, surface=surface)
    assert mesh.is_watertight()
    assert mesh.euler_poincare_characteristic() == characteristic
    if surface == "cubes":
        assert mesh.get_volume() == pytest.approx(grid.sum())


def test_normals_point_away_from_the_middle_of_a_box():
    for surface in SURFACES:
        mesh = from_occupancy(box(), surface=surface)
        outwards = np.asarray(mesh.vertices) - mesh.get_center()
        along = np.einsum("ij,ij->i", outwards, np.asarray(mesh.vertex_normals))
        assert (along > 0).all()


def test_a_voxel_lies_where_its_index_says():
    grid = np.zeros((4, 5, 6))
    grid[1, 2, 3] = 1
    vertices, _ = extract_surface(grid)
    np.testing.assert_array_equal(vertices.min(axis=0), [1, 2, 3])
    np.testing.assert_array_equal(vertices.max(axis=0), [2, 3, 4])
    # Between the centre of a full voxel and that of an empty one, marching cubes goes half way.
    vertices, _ = extract_surface(grid, surface="isosurface")
    np.testing.assert_allclose(vertices.min(axis=0), [1, 2, 3], atol=1e-3)
    np.testing.assert_allclose(vertices.max(axis=0), [2, 3, 4], atol=1e-3)


def test_a_higher_threshold_encloses_less():
    distance = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    ball = np.clip(1 - distance / 8, 0, 1)
    for threshold in (0.25, 0.5):
        radius = 8 * (1 - threshold)
        surface = extract_surface(ball, threshold, "isosurface")
        assert signed_volume(*surface) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4, 4)),), r"no voxel above the threshold 0\.5.*\(the highest is 0\)"),
        ((np.ones((2, 4, 4, 4)),), r"shape is \[2, 4, 4, 4\]; pass one of the batch"),
        ((np.full((2, 2, 2), 2.0),), r"must lie in \[0, 1\]"),
        ((np.ones((2, 2, 2)), 0.0), "threshold must lie between 0 and 1"),
        ((np.ones((2, 2, 2)), 0.5, "sphere"), "surface must be"),
    ],
)
def test_what_has_no_surface_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_occupancy(*arguments)


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_a_file_holds_the_mesh(tmp_path, ending):
    mesh = from_occupancy(ring())
    path = save(mesh, tmp_path / f"ring{ending}")
    read = open3d().io.read_triangle_mesh(str(path))
    assert len(read.triangles) == len(mesh.triangles)
    read.merge_close_vertices(1e-4)  # .stl repeats a vertex for every triangle
    assert len(read.vertices) == len(mesh.vertices)
    assert read.get_volume() == pytest.approx(ring().sum())
    if ending != ".glb":
        np.testing.assert_allclose(read.get_max_bound(), mesh.get_max_bound())
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_glb_file_stands_upright_and_is_laid_out_as_gltf_wants(tmp_path):
    grid = np.zeros((4, 4, 8))
    grid[1:3, 1, 1:7] = 1  # 2 wide, 1 deep, 6 high
    path = save(from_occupancy(grid), tmp_path / "tower.glb")
    content = path.read_bytes()
    magic, version, length, json_length, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + json_length])
    positions = document["accessors"][0]
    np.testing.assert_array_equal(positions["max"], [3, 7, -1])
    np.testing.assert_array_equal(positions["min"], [1, 1, -2])
    binary_length, kind = struct.unpack_from("<I4s", content, 20 + json_length)
    assert kind == b"BIN\0"
    assert document["buffers"][0]["byteLength"] == binary_length
    assert len(content) == 28 + json_length + binary_length


def test_several_shapes_go_to_numbered_files(tmp_path):
    shapes = np.stack([box((2, 2, 2)), box((2, 2, 2)) * 0.7])
    paths = save_all(shapes, tmp_path / "boxes.ply")
    assert [path.name for path in paths] == ["boxes_00.ply", "boxes_01.ply"]
    for path in paths:
        assert open3d().io.read_triangle_mesh(str(path)).get_volume() == pytest.approx(8)
    assert save_all(shapes[:1], tmp_path / "one.ply") == (tmp_path / "one.ply",)


def test_nothing_is_written_where_one_shape_is_empty_or_the_path_is_wrong(tmp_path):
    shapes = np.stack([box(), 0 * box()])
    with pytest.raises(ValueError, match=r"shapes \[1\]"):
        save_all(shapes, tmp_path / "a.ply")
    with pytest.raises(ValueError, match=r"\.glb, \.off files, and path is .*a\.fbx"):
        save_all(shapes, tmp_path / "a.fbx")
    with pytest.raises(ValueError, match="is not a folder"):
        save(from_occupancy(box()), "/dev/null/a.ply")
    with pytest.raises(ValueError, match="no triangles"):
        save(open3d().geometry.TriangleMesh(), tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_a_missing_system_library_is_explained(monkeypatch, error):
    real_import = builtins.__import__

    def without_open3d(name, *rest, **named):
        if name == "open3d":
            raise error("libusb-1.0.so.0: cannot open shared object file")
        return real_import(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_open3d)
    with pytest.raises(ImportError, match=r"libusb-1\.0\.so\.0.*apt-get install libusb-1\.0-0"):
        from_occupancy(box())
