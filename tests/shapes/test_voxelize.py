"""Voxels are where the mesh is: drawn shapes by their formulas, real ones by their points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placing import to_grid

from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.grid_files import write_grids
from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.datasets.mesh_writers import save
from descnet3d.datasets.shape_files import Skipped, voxelize_files
from descnet3d.shapes.mesh import Mesh
from descnet3d.shapes.rasterize import surface_voxels
from descnet3d.shapes.surfaces import from_occupancy
from descnet3d.shapes.voxelize import voxelize

# --- meshes drawn by formula ----------------------------------------------------------------------


def box(sides, corner=(0.0, 0.0, 0.0)) -> Mesh:
    """Twelve triangles."""
    vertices = np.array(list(np.ndindex(2, 2, 2))) * np.asarray(sides, float) + corner
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    triangles = [[a, b, c] for q in quads for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))]
    return Mesh(vertices, np.array(triangles, np.int32))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([m.triangles + start for m, start in zip(meshes, starts, strict=False)]),
    )


def revolved(profile, steps: int = 64, closed: bool = False) -> Mesh:
    """A profile of points (radius, height), turned about the z axis."""
    profile = np.asarray(profile, float)
    angles = 2 * np.pi * np.arange(steps) / steps
    rings = np.stack(
        [
            np.outer(np.cos(angles), profile[:, 0]),
            np.outer(np.sin(angles), profile[:, 0]),
            np.tile(profile[:, 1], (steps, 1)),
        ],
        axis=-1,
    )
    count = len(profile)
    triangles = []
    for ring in range(steps):
        for point in range(count if closed else count - 1):
            a, b = ring * count + point, ring * count + (point + 1) % count
            c, d = (a + count) % (steps * count), (b + count) % (steps * count)
            triangles += [[a, c, b], [b, c, d]]
    return Mesh(rings.reshape(-1, 3), np.array(triangles, np.int32))


def sphere() -> Mesh:
    """Of radius 1."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 49)
    return revolved(np.stack([np.cos(angles), np.sin(angles)], axis=1), 96)


def torus(radius: float = 1.0, thickness: float = 0.35) -> Mesh:
    """About the z axis; `thickness` is the tube's radius."""
    angles = 2 * np.pi * np.arange(32) / 32
    profile = np.stack([radius + thickness * np.cos(angles), thickness * np.sin(angles)], axis=1)
    return revolved(profile, 96, closed=True)


def open_box() -> Mesh:
    """Four walls and a floor without thickness, open above: (0, 0, 0) to (2, 2, 1)."""
    whole = box((2, 2, 1))
    above = (whole.vertices[whole.triangles][:, :, 2] == 1).all(axis=1)
    return Mesh(whole.vertices, whole.triangles[~above])


def without(mesh: Mesh, share: float, seed: int = 0) -> Mesh:
    """The mesh with a share of its triangles lost, and half of the others turned round."""
    random = np.random.default_rng(seed)
    triangles = mesh.triangles[random.random(len(mesh.triangles)) >= share]
    turned = random.random(len(triangles)) < 0.5
    triangles[turned] = triangles[turned][:, ::-1]
    return Mesh(mesh.vertices, triangles)


def off_text(mesh: Mesh) -> str:
    vertices = "\n".join(" ".join(f"{x:.9g}" for x in vertex) for vertex in mesh.vertices)
    faces = "\n".join("3 " + " ".join(map(str, triangle)) for triangle in mesh.triangles)
    return f"OFF\n{len(mesh.vertices)} {len(mesh.triangles)} 0\n{vertices}\n{faces}\n"


def iou(first, second) -> float:
    return (first & second).sum() / (first | second).sum()


# --- the surface ----------------------------------------------------------------------------------


def overlaps(triangle, voxel) -> bool:
    """Whether a triangle meets an open unit cube: separating planes, one after the other."""
    corners = triangle - (np.asarray(voxel) + 0.5)
    edges = np.roll(corners, -1, axis=0) - corners
    axes = [*np.eye(3), np.cross(edges[0], edges[1])]
    axes += [np.cross(edge, axis) for edge in edges for axis in np.eye(3)]
    for axis in axes:
        reach = np.abs(axis).sum() / 2
        heights = corners @ axis
        if heights.min() >= reach + 1e-9 or heights.max() <= -reach - 1e-9:
            return False
    return True


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), flat=st.booleans())
def test_a_triangle_fills_exactly_the_voxels_that_no_plane_separates_from_it(seed, flat):
    triangle = np.random.default_rng(seed).uniform(0.1, 5.9, (1, 3, 3))
    if flat:  # stands on an axis, as most triangles of drawn furniture do
        triangle[0, :, seed % 3] = triangle[0, 0, seed % 3]
    expected = [voxel for voxel in np.ndindex(6, 6, 6) if overlaps(triangle[0], voxel)]
    assert [*map(tuple, np.argwhere(surface_voxels(triangle, 6)))] == expected


def test_every_point_of_a_real_surface_lies_in_a_filled_voxel(bathtubs):
    for mesh, _, _ in bathtubs:
        shape = voxelize(mesh, 64, fill="surface")
        weights = np.random.default_rng(0).dirichlet(np.ones(3), (len(mesh.triangles), 1, 20))[:, 0]
        points = np.einsum("tpc,tcx->tpx", weights, mesh.vertices[mesh.triangles]).reshape(-1, 3)
        at = np.floor(to_grid(shape.transform, points) + 1e-5 * np.array([-1, 1])[:, None, None])
        found = [shape.occupancy[tuple(each.astype(int).T)] for each in at]
        assert (found[0] | found[1]).all()


# --- what it encloses -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
def test_a_box_of_whole_voxels_fills_exactly_these(size):
    span = 0.75 * size
    shape = voxelize(box((1, 0.5, 0.25), corner=(7, -3, 100)), size).occupancy
    expected = np.zeros((size,) * 3, bool)
    half = [int(span * side / 2) for side in (1, 0.5, 0.25)]
    expected[tuple(slice(size // 2 - h, size // 2 + h) for h in half)] = True
    np.testing.assert_array_equal(shape, expected)


def test_a_sphere_fills_its_volume_and_half_a_voxel_of_skin():
    centres = np.moveaxis(np.indices((48,) * 3), 0, -1) + 0.5
    distance = np.linalg.norm(centres - 24, axis=-1)
    shape = voxelize(sphere(), 48).occupancy
    assert shape[distance < 18].all()
    assert not shape[distance > 18 + np.sqrt(3) / 2].any()
    assert 4 / 3 * np.pi * 18**3 < shape.sum() < 4 / 3 * np.pi * 19**3
    hollow = voxelize(sphere(), 48, fill="surface").occupancy
    assert hollow.sum() < shape.sum() and not hollow[distance < 17].any()
    assert shape[hollow].all()


@pytest.mark.parametrize("turned", [False, True])
def test_the_hole_of_a_torus_stays_open(turned):
    mesh = torus()
    if turned:
        mesh = Mesh(mesh.vertices @ np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2)[0], mesh[1])
    shape = voxelize(mesh, 48).occupancy
    assert not shape[23:25, 23:25, 23:25].any()
    volume = 2 * np.pi**2 * 0.35**2 * (36 / np.ptp(mesh.vertices, axis=0).max()) ** 3
    assert volume < shape.sum() < 1.4 * volume


def test_a_box_without_a_lid_stays_empty_and_one_with_a_lid_does_not():
    tub = voxelize(open_box()).occupancy
    assert not tub[7:25, 7:25, 12:20].any()
    assert tub[4, 4:28, 10:22].all() and tub[4:28, 4:28, 10].all()
    closed = voxelize(box((2, 2, 1))).occupancy
    assert closed[4:28, 4:28, 10:22].all() and closed.sum() == 24 * 24 * 12


@pytest.mark.parametrize("mesh", [sphere(), torus(), box((1, 0.8, 0.6))])
def test_holes_and_triangles_the_wrong_way_round_change_little(mesh):
    whole = voxelize(mesh).occupancy
    # Lost are 5 % of the triangles, which are smaller than voxels, or one of a box's twelve.
    share = 0.05 if len(mesh.triangles) > 12 else 0.0
    damaged = without(mesh, share)
    assert iou(voxelize(damaged).occupancy, whole) > 0.97
    doubled = joined(mesh, Mesh(mesh.vertices, mesh.triangles[::2]))
    np.testing.assert_array_equal(voxelize(doubled).occupancy, whole)


def test_a_hole_wider_than_a_voxel_does_not_empty_a_sphere():
    mesh = sphere()
    middles = mesh.vertices[mesh.triangles].mean(axis=1)
    hole = np.linalg.norm(middles - [0.6, 0.64, 0.48], axis=1) < 0.2
    whole, holed = (voxelize(m).occupancy for m in (mesh, Mesh(mesh[0], mesh[1][~hole])))
    assert iou(whole, holed) > 0.9
    assert not voxelize(Mesh(mesh[0], mesh[1][~hole]), fill="surface").occupancy[16, 16, 16]
    assert holed[16, 16, 16]


# --- where the mesh lies --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    move=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    size=st.sampled_from([8, 31, 32]),
)
def test_neither_the_unit_nor_the_place_of_a_mesh_changes_its_voxels(scale, move, size):
    mesh = joined(box((4, 2, 1)), box((1, 1, 5), corner=(1, 0.5, 1)))
    moved = Mesh((mesh.vertices + move) * scale, mesh.triangles)
    expected, found = voxelize(mesh, size), voxelize(moved, size)
    np.testing.assert_array_equal(found.occupancy, expected.occupancy)
    assert found.transform.scale == pytest.approx(scale * expected.transform.scale)
    points = to_grid(found.transform, moved.vertices)
    np.testing.assert_allclose(points, to_grid(expected.transform, mesh.vertices), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    sides=st.tuples(*[st.floats(0.05, 1)] * 3),
    size=st.integers(4, 40),
    span=st.floats(0.3, 1),
    up=st.sampled_from(["z", "y"]),
    turn=st.floats(-720, 720),
)
def test_the_longest_side_spans_its_share_and_the_mesh_is_centred(sides, size, span, up, turn):
    mesh = box(sides, corner=(3, -8, 0.5))
    shape = voxelize(mesh, size, span=span, up=up, turn=turn)
    placed = to_grid(shape.transform, mesh.vertices)
    lowest, highest = placed.min(axis=0), placed.max(axis=0)
    np.testing.assert_allclose((lowest + highest) / 2, size / 2, atol=1e-6)
    assert (highest - lowest).max() == pytest.approx(span * size)
    occupied = np.argwhere(shape.occupancy)
    assert (occupied.min(axis=0) >= np.floor(lowest + 1e-5)).all()
    assert (occupied.max(axis=0) < np.ceil(highest - 1e-5)).all()


def test_unused_vertices_have_no_say():
    mesh = box((1, 1, 1))
    stray = Mesh(np.concatenate([mesh.vertices, [[1e9, 0, np.nan]]]), mesh.triangles)
    np.testing.assert_array_equal(voxelize(stray).occupancy, voxelize(mesh).occupancy)


def test_a_mesh_with_y_up_is_stood_up():
    tower = joined(box((1, 4, 1)), box((2, 1, 1)))  # 4 high along y, a foot along x
    shape = voxelize(tower, up="y")
    standing = joined(box((1, 1, 4)), box((2, 1, 1)))
    np.testing.assert_array_equal(shape.occupancy, voxelize(standing).occupancy)
    point = shape.transform.to_mesh([16, 16, 28])  # the top
    np.testing.assert_allclose(point, [1, 4, 0.5])


@pytest.mark.parametrize("up", ["z", "y"])
@pytest.mark.parametrize("pose", [0, 30, 77])
def test_quarter_turns_give_exactly_the_turned_grid(up, pose):
    mesh = joined(box((3, 1, 2)), box((1, 2, 0.4), corner=(0.3, 0.1, 1)))
    still = voxelize(mesh, up=up, turn=pose)
    for quarter in (1, 2, 3, 4, -1):
        turned = voxelize(mesh, up=up, turn=pose + 90 * quarter)
        expected = np.rot90(still.occupancy, quarter, axes=(0, 1))
        np.testing.assert_array_equal(turned.occupancy, expected)
        # The transform goes with it: the centre of an occupied voxel lies where it lay.
        centres = still.transform.to_mesh(np.argwhere(still.occupancy) + 0.5)
        voxel = np.floor(to_grid(turned.transform, centres)).astype(int)
        assert turned.occupancy[tuple(voxel.T)].all()


def test_a_turn_is_counter_clockwise_from_above():
    arrow = joined(box((4, 1, 1)), box((0.5, 0.5, 3)))
    shape = voxelize(arrow, turn=45)
    [placed] = to_grid(shape.transform, [[4.0, 0.5, 0.5]]) - to_grid(
        shape.transform, [[0, 0.5, 0.5]]
    )
    np.testing.assert_allclose(placed[:2] / np.linalg.norm(placed), [0.5**0.5] * 2)


# --- against what others made of the same meshes --------------------------------------------------


@pytest.fixture(scope="module")
def bathtubs(data_folder):
    """The three real meshes: mesh, grid of the archive, points of the surface."""
    archive = read_archive(data_folder / "modelnet10_32.npz", "bathtub", "train")
    with np.load(data_folder / "modelnet10_points_1024_train.npz", allow_pickle=False) as points:
        row = {str(name): index for index, name in enumerate(points["ids"])}
        cloud = points["points"]
    found = []
    for path in sorted((data_folder / "meshes" / "bathtub").glob("*.off")):
        grid = archive.occupancy[archive.ids.index(path.stem)]
        found.append((read_mesh(path), grid, cloud[row[path.stem]].astype(float)))
    return found


def test_real_bathtubs_agree_with_the_archive_that_another_program_made(bathtubs):
    figures = []
    for mesh, expected, _ in bathtubs:
        found = voxelize(mesh).occupancy
        shifts = itertools.product((-1, 0, 1), repeat=3)
        figures.append(max(iou(np.roll(found, shift, (0, 1, 2)), expected) for shift in shifts))
    # The first one's row was made anew from points, after its thin walls were lost.
    assert figures[1] >= 0.85 and figures[2] >= 0.85, figures


def test_points_of_real_surfaces_lie_within_a_voxel_of_the_occupancy(bathtubs):
    for mesh, _, points in bathtubs:
        shape = voxelize(mesh).occupancy
        occupied = np.argwhere(shape) + 0.5
        lowest, highest = points.min(axis=0), points.max(axis=0)
        placed = (points - (lowest + highest) / 2) / (highest - lowest).max() * 24 + 16
        # The distance to the nearest voxel, which reaches half a side about its centre.
        gap = np.abs(placed[:, None] - occupied[None]).max(axis=-1).min(axis=1) - 0.5
        assert (gap <= 1).mean() >= 0.95
        assert (gap <= 0.25).mean() >= 0.95


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "size must be a whole number from 2 to 256, but it is 1"),
        ({"size": 4096}, "size must be"),
        ({"size": 8.5}, "size must be"),
        ({"fill": "hollow"}, "fill must be .*'hollow'"),
        ({"span": 0}, "span must be"),
        ({"span": 1.5}, "span must be"),
        ({"up": "x"}, 'up must be "z" or "y"'),
        ({"turn": float("nan")}, "turn must be"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_a_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):  # before the first file is read
        voxelize_files(["none.off"], **options)
    if "workers" not in options:
        with pytest.raises(ValueError, match=message):
            voxelize(box((1, 1, 1)), **options)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (Mesh(np.zeros((3, 2)), np.zeros((1, 3), int)), r"vertices must be \[v, 3\]"),
        (Mesh(np.zeros((3, 3)), np.zeros((1, 3))), "triangles must be whole numbers"),
        (Mesh(np.zeros((3, 3)), np.zeros((0, 3), int)), "no surface"),
        (Mesh(np.zeros((3, 3)), np.full((1, 3), 3)), "run from 3 to 3, and there are 3"),
        (Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), "single point"),
        (Mesh(np.full((3, 3), np.inf), np.array([[0, 1, 2]])), "infinity"),
    ],
)
def test_what_is_no_mesh_is_named(mesh, message):
    with pytest.raises(ValueError, match=message):
        voxelize(mesh)


def test_a_sheet_without_thickness_is_a_layer_of_voxels():
    quad = Mesh(
        np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1.0, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    assert voxelize(quad).occupancy.sum() == 24 * 12


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "box.off").write_text(off_text(box((2, 1, 1))))
    (tmp_path / "empty.off").touch()
    (tmp_path / "torn.obj").write_text("v 0 0 0\nf 1 2 3\n")
    small = np.zeros((1, 6, 6, 6), bool)
    small[0, 1:3, 2:5, 3] = True
    write_grids(tmp_path / "small.npy", small)
    write_grids(tmp_path / "several.npy", np.concatenate([small, small]))
    write_grids(tmp_path / "large.npy", np.ones((1, 17, 17, 17), bool))
    write_grids(tmp_path / "nothing.npy", 0 * small)
    return tmp_path


def test_files_come_back_in_their_order_and_bad_ones_with_a_reason(folder):
    names = ["empty.off", "box.off", "torn.obj", "none.ply", "small.npy", "several.npy"]
    names += ["large.npy", "nothing.npy", "notes.txt", "box.off"]
    found = list(voxelize_files([folder / name for name in names], 16, workers=2))
    skipped = {
        str(one.path).rpartition("/")[2]: one.reason
        for one in found
        if len(one) == 2 and isinstance(one, Skipped)
    }
    assert skipped.keys() == set(names) - {"box.off", "small.npy"}
    assert skipped["empty.off"] == "is empty"
    assert "there is no file" in skipped["none.ply"]
    assert "2 grids" in skipped["several.npy"]
    assert "larger than 16" in skipped["large.npy"]
    expected = voxelize(box((2, 1, 1)), 16)
    for place in (1, 9):
        np.testing.assert_array_equal(found[place].occupancy, expected.occupancy)
        assert found[place].transform == expected.transform
    padded = np.argwhere(found[4].occupancy)
    assert padded.min(axis=0).tolist() == [6, 7, 8] and len(padded) == 6
    np.testing.assert_allclose(to_grid(found[4].transform, [1, 2, 3]), [6, 7, 8])


def test_a_synthesised_shape_can_be_put_back_into_the_meshs_coordinates(folder, tmp_path):
    mesh = box((2, 1, 1), corner=(40, -7, 3))
    for up in ("z", "y"):
        shape = voxelize(mesh, 32, up=up, turn=90)
        for ending in (".ply", ".glb" if up == "y" else ".off"):
            surface = from_occupancy(shape.occupancy)
            path = save(surface, tmp_path / f"back{ending}", shape.transform)
            back = read_mesh(path)
            np.testing.assert_allclose(back.vertices.min(axis=0), [40, -7, 3], atol=1e-5)
            np.testing.assert_allclose(back.vertices.max(axis=0), [42, -6, 4], atol=1e-5)


def test_the_same_answer_every_time(bathtubs):
    mesh = bathtubs[0][0]
    first, second = (voxelize(mesh, 40, turn=30) for _ in range(2))
    np.testing.assert_array_equal(first.occupancy, second.occupancy)
    assert first.transform == second.transform
