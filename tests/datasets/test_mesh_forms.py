"""Meshes as people want them, as another library reads them."""

import numpy as np
import pytest

from descnet3d.commands import cli
from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.grid_files import write_grids
from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save, save_all
from descnet3d.datasets.shape_files import load_shape
from descnet3d.shapes.surfaces import from_occupancy
from descnet3d.shapes.transform import GridTransform

trimesh = pytest.importorskip("trimesh", reason="needs trimesh")
SURFACES = ["cubes", "isosurface", "smooth"]


def read(path):
    """A mesh whose vertices at one place are one, as programs for printing take it."""
    mesh = trimesh.load(path, force="mesh", process=False)
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    return mesh


def noise(side=12):
    """Grids in which many voxels touch along an edge, or at a corner, alone."""
    random = np.random.default_rng(0).random((3, side, side, side))
    return random < np.array([0.05, 0.3, 0.6])[:, None, None, None]


@pytest.mark.parametrize("ending", MESH_ENDINGS)
@pytest.mark.parametrize("surface", SURFACES)
def test_every_mesh_is_watertight_and_faces_outwards(tmp_path, ending, surface):
    grids = noise()
    for grid, path in zip(
        grids, save_all(grids, tmp_path / f"a{ending}", surface=surface), strict=True
    ):
        mesh = read(path)
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume > 0  # the sign is that of the orientation
        if surface == "cubes":
            assert mesh.volume == pytest.approx(grid.sum(), rel=1e-5)


def test_two_voxels_that_touch_along_an_edge_are_two_bodies(tmp_path):
    grid = np.zeros((1, 4, 4, 4))
    grid[0, 1, 1, 1] = grid[0, 2, 2, 1] = 1
    mesh = read(save_all(grid, tmp_path / "two.ply")[0])
    bodies = mesh.split(only_watertight=True)
    assert sorted(body.volume for body in bodies) == pytest.approx([1, 1])
    # As `save` has it by itself, four triangles share the edge.
    assert not read(save(from_occupancy(grid[0]), tmp_path / "one.ply")).is_watertight


@pytest.mark.parametrize("surface", SURFACES)
def test_real_shapes_are_decimated_and_stay_watertight(tmp_path, modelnet10, surface):
    archive = read_archive(modelnet10, split="test")
    grids = archive.occupancy[[np.flatnonzero(archive.labels == label)[3] for label in range(10)]]
    whole = save_all(grids, tmp_path / "whole.ply", surface=surface)
    fewer = save_all(grids, tmp_path / "fewer.ply", surface=surface, triangles=600)
    for grid, path in zip(grids, whole, strict=True):
        np.testing.assert_array_equal(load_shape(path, 32).occupancy, grid)
    for before, after in zip(map(read, whole), map(read, fewer), strict=True):
        assert len(after.faces) <= 600 < len(before.faces)
        assert after.is_watertight and after.is_winding_consistent
        assert after.volume == pytest.approx(before.volume, rel=0.12)


def test_a_smooth_surface_bends_less_and_holds_as_much(tmp_path):
    """A ball's own curvature is all that there should be."""
    ball = np.linalg.norm(np.indices((24,) * 3) - 11.5, axis=0) < 9
    bends, volumes = [], []
    for surface in SURFACES:
        mesh = read(save_all(ball[None], tmp_path / f"{surface}.ply", surface=surface)[0])
        bends.append(np.abs(mesh.face_adjacency_angles).mean())
        volumes.append(mesh.volume)
    assert bends[2] < 0.7 * bends[1] < bends[0]
    assert volumes[2] == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.05)


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_in_metres_a_shape_stands_on_the_ground(tmp_path, ending):
    grid = np.zeros((1, 16, 16, 16))
    grid[0, 6:10, 7:9, 3:11] = 1  # half as high as the grid
    place = GridTransform(3.0, (5.0, 6.0, 7.0), up="y")
    [path] = save_all(grid, tmp_path / f"a{ending}", metres=1.8, transform=place)
    low, high = read(path).bounds
    if ending == ".glb":  # y up; what was y is -z
        low, high = low[[0, 2, 1]] * [1, -1, 1], high[[0, 2, 1]] * [1, -1, 1]
        low, high = np.minimum(low, high), np.maximum(low, high)
    np.testing.assert_allclose(low, [-0.225, -0.1125, 0], atol=1e-6)
    np.testing.assert_allclose(high, [0.225, 0.1125, 0.9], atol=1e-6)


def test_whatever_its_surface_a_mesh_in_metres_touches_the_ground(tmp_path):
    grids = noise()
    for surface in SURFACES:
        form = {"surface": surface, "metres": 2.0, "triangles": 900}
        for path in save_all(grids, tmp_path / f"{surface}.ply", **form):
            assert read(path).bounds[0, 2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_a_scene_holds_all_shapes_side_by_side(tmp_path, ending):
    grids = np.concatenate([noise(8), noise(8)[:2]])
    paths = save_all(grids, tmp_path / f"many{ending}", scene=True)
    assert [path.name for path in paths] == [f"many{ending}"]
    mesh = read(paths[0])
    assert mesh.is_watertight and mesh.volume == pytest.approx(grids.sum(), rel=1e-5)
    width, depth = sorted(np.ptp(mesh.bounds, axis=0))[:0:-1]
    assert 18 < width <= 26 and 9 < depth <= 17  # three columns, two rows, a voxel apart
    if ending in (".glb", ".obj"):
        options = {"split_objects": True} if ending == ".obj" else {}
        parts = trimesh.load_scene(paths[0], process=False, **options).geometry
        assert sorted(parts) == [f"many_{index:02d}" for index in range(5)]
        volumes = [part.volume for name, part in sorted(parts.items())]
        assert volumes == pytest.approx([grid.sum() for grid in grids], rel=1e-5)


@pytest.mark.parametrize("normals", ["faces", "vertices"])
@pytest.mark.parametrize("ending", [".glb", ".ply", ".obj"])
def test_normals_are_those_asked_for(tmp_path, ending, normals):
    cube = np.pad(np.ones((1, 2, 2, 2)), 1)[1:2]
    [path] = save_all(cube, tmp_path / f"cube{ending}", normals=normals)
    mesh = trimesh.load(path, force="mesh", process=False)
    outwards = mesh.vertices - mesh.centroid
    corners = np.isclose(np.abs(outwards), 1).all(axis=1)
    told = mesh.vertex_normals[corners]
    along = np.abs(told).max(axis=1)
    if normals == "vertices":  # at a corner, between three faces
        assert along.max() < 0.9
    elif ending == ".obj":  # whose reader repeats a corner for each of its faces
        np.testing.assert_allclose(along, 1)
    assert (np.einsum("ij,ij->i", told, outwards[corners]) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"surface": "sphere"}, "surface must be one of cubes, isosurface, smooth"),
        ({"triangles": 3}, "triangles must be at least 4, but it is 3"),
        ({"normals": "all"}, "normals must be one of faces, vertices"),
        ({"metres": -1.0}, "metres must be a positive number"),
    ],
)
def test_what_no_mesh_can_be_is_said_before_any_is_written(tmp_path, wrong, message, capsys):
    with pytest.raises(ValueError, match=message):
        save_all(noise(), tmp_path / "a.ply", **wrong)
    [(name, value)] = wrong.items()
    words = ["synthesize", "toilet", f"--out={tmp_path}/a.ply", f"--{name}={value}"]
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_commands_take_the_same_flags(tmp_path, capsys):
    """A mesh comes out where the mesh that came in lay, or in metres."""
    grid = np.zeros((1, 32, 32, 32), bool)
    grid[0, 8:24, 10:20, 4:28] = True
    place = GridTransform(25.4, (100.0, 0.0, 0.0))  # thousandths of a metre, say
    [damaged] = save_all(grid, tmp_path / "damaged.ply", transform=place)
    told = ["recover", "toilet", f"--input={damaged}", "--visible=occupied"]
    assert cli.main([*told, f"--out={tmp_path}/cubes.glb"]) == 0
    whole = len(read(tmp_path / "cubes.glb").faces)
    for more, height in (([], 24 * 25.4), (["--metres=0.8"], 0.8 * 24 / 32)):
        out = tmp_path / "whole.glb"
        flags = ["--surface=smooth", "--triangles=800", "--scene", *more]
        assert cli.main([*told, f"--out={out}", *flags]) == 0
        mesh = read(out)
        assert mesh.is_watertight and len(mesh.faces) < whole
        assert np.ptp(mesh.bounds, axis=0)[1] == pytest.approx(height, rel=0.35)
    capsys.readouterr()
    grids = tmp_path / "grids.npz"
    write_grids(grids, grid.astype("float32"))
    for command in (
        ["synthesize", "toilet"],
        ["generate", "toilet"],
        ["interpolate", "toilet"],
        ["arithmetic", "toilet"],
        ["recover", "toilet", f"--input={grids}", "--visible=occupied"],
        ["upscale", "toilet", f"--input={grids}", "--ratio=4"],
    ):
        assert cli.main([*command, f"--out={tmp_path}/a.png", "--surface=smooth"]) == 2
        assert "--surface is for meshes (.ply, .obj" in capsys.readouterr().err
