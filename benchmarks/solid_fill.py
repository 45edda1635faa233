"""Ways of making meshes with holes solid, side by side: why the one that is shipped.

    python benchmarks/solid_fill.py --data=../shared/data

Real: IoU with the rows that another program (binvox) made of the same three ModelNet meshes, after
aligning by at most one voxel; the first one's row was rebuilt from points after its thin walls had
been lost. Drawn: the mean IoU with the truth, known by formula, of five shapes (sphere, torus, cup,
shelf and table) as they are and rotated, whole and with holes. Every method keeps the voxels that
the surface passes through. Votes alone would fill a cup of walls without thickness.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from skimage.measure import marching_cubes

from descnet3d.datasets.archives import read_archive
from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.shapes import fill, transform
from descnet3d.shapes.mesh import Mesh
from descnet3d.shapes.surfaces import open3d
from descnet3d.shapes.voxelize import voxelize

SIZE = 32
CENTRES = np.moveaxis(np.indices((SIZE,) * 3), 0, -1).reshape(-1, 3) + 0.5


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def aligned_iou(grid, expected):
    shifts = itertools.product((-1, 0, 1), repeat=3)
    return max(iou(np.roll(grid, shift, (0, 1, 2)), expected) for shift in shifts)


def spread_directions(count):
    """Unit vectors on a spiral from pole to pole."""
    place = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * place / count), np.pi * (1 + 5**0.5) * place
    flat = np.sin(polar)
    return np.stack([np.cos(around) * flat, np.sin(around) * flat, np.cos(polar)], axis=1)


def ray_crossings(corners, directions):
    """How often rays from the voxels' centres cross the triangles, by open3d."""
    geometry = open3d()
    scene = geometry.t.geometry.RaycastingScene()
    indices = np.arange(3 * len(corners), dtype=np.uint32).reshape(-1, 3)
    scene.add_triangles(
        geometry.core.Tensor(corners.reshape(-1, 3).astype(np.float32)),
        geometry.core.Tensor(indices),
    )
    counts = []
    for direction in directions:
        rays = np.concatenate([CENTRES, np.broadcast_to(direction, CENTRES.shape)], axis=1)
        found = scene.count_intersections(geometry.core.Tensor(rays.astype(np.float32)))
        counts.append(found.numpy().reshape((SIZE,) * 3))
    return np.stack(counts)


def winding_numbers(corners):
    total = np.zeros(len(CENTRES))
    for start in range(0, len(CENTRES), 1024):
        a, b, c = (corners[None, :, k] - CENTRES[start : start + 1024, None] for k in range(3))
        la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
        triple = np.einsum("pti,pti->pt", a, np.cross(b, c))
        rest = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        total[start : start + 1024] = np.arctan2(triple, rest).sum(axis=1) / (2 * np.pi)
    return total.reshape((SIZE,) * 3)


def methods(mesh, with_winding):
    """Each method's name and grid."""
    shape = voxelize(mesh, SIZE, fill="surface")
    surface, placed = shape.occupancy, shape.transform
    upright = mesh.vertices[mesh.triangles] @ transform.upright(placed.up, placed.turn).T
    corners = (upright - placed.offset) / placed.scale
    axes = np.concatenate([np.eye(3), -np.eye(3)]) + 1e-4 * np.array([0.3, 0.5, 0.7])
    by_axis, around = ray_crossings(corners, axes), ray_crossings(corners, spread_directions(26))
    flood, hidden = fill.unreachable(surface), fill.hidden(surface)
    vote = (by_axis % 2).sum(axis=0) > 3
    found = {
        "surface alone": surface,
        "parity of one ray": surface | (by_axis[0] % 2 == 1),
        "parity, vote of 6 axes": surface | vote,
        "parity, vote of 26 directions": surface | ((around % 2).sum(axis=0) > 13),
        "every one of 26 rays hits": surface | (around > 0).all(axis=0),
        "hidden from 6 axes": hidden,
        "flood from outside": flood,
        "flood, or vote of 6 axes": flood | vote,
        "shipped: flood, or hidden and vote": voxelize(mesh, SIZE).occupancy,
    }
    if with_winding:
        found["winding number above 1/2"] = surface | (np.abs(winding_numbers(corners)) > 0.5)
    return found


def slab(points, sides):
    return (np.abs(points) - sides).max(axis=-1)


def cup(p):
    radius, height = np.linalg.norm(p[..., :2], axis=-1), p[..., 2]
    outside = np.maximum(radius - 0.7, np.abs(height) - 1)
    return np.maximum(outside, -np.maximum(radius - 0.5, -0.8 - height))


def shelf(p):
    whole = slab(p, [0.5, 0.7, 1.0])
    for height in (-0.65, 0, 0.65):
        whole = np.maximum(whole, -slab(p - [0.1, 0, height], [0.5, 0.6, 0.26]))
    return whole


def table(p):
    legs = itertools.product((-0.85, 0.85), (-0.55, 0.55))
    parts = [slab(p - [x, y, 0], [0.1, 0.1, 0.6]) for x, y in legs]
    return np.minimum.reduce([slab(p - [0, 0, 0.6], [1, 0.7, 0.1]), *parts])


DRAWN = {
    "sphere": lambda p: np.linalg.norm(p, axis=-1) - 1,
    "torus": lambda p: np.hypot(np.linalg.norm(p[..., :2], axis=-1) - 0.7, p[..., 2]) - 0.28,
    "cup": cup,
    "shelf": shelf,
    "table": table,
}
# The radius of the holes and how many there are.
DAMAGES = {"whole": (0, 0), "small holes": (0.11, 6), "large holes": (0.25, 3)}


def drawn_scores():
    """Method to damage to the IoUs with the truth."""
    random = np.random.default_rng(0)
    scores = {}
    side = np.linspace(-1.2, 1.2, 48)
    lattice = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1)
    for distance, is_turned in itertools.product(DRAWN.values(), (False, True)):
        vertices, triangles, _, _ = marching_cubes(distance(lattice), 0)
        rotation = np.linalg.qr(random.normal(size=(3, 3)))[0] if is_turned else np.eye(3)
        whole = Mesh((vertices * (side[1] - side[0]) - 1.2) @ rotation.T, triangles)
        middles = whole.vertices[triangles].mean(axis=1)
        surface = voxelize(whole, SIZE, fill="surface")
        at = surface.transform.to_mesh(CENTRES) @ rotation
        truth = surface.occupancy | (distance(at) < 0).reshape((SIZE,) * 3)
        for damage, (radius, count) in DAMAGES.items():
            holes = middles[random.choice(len(middles), count)]
            kept = np.linalg.norm(middles[:, None] - holes, axis=-1) > radius
            mesh = Mesh(whole.vertices, triangles[kept.all(axis=1)])
            for name, grid in methods(mesh, with_winding=False).items():
                scores.setdefault(name, {}).setdefault(damage, []).append(iou(grid, truth))
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="../shared/data", help="the folder of real shapes")
    data = Path(parser.parse_args().data)
    archive = read_archive(data / "modelnet10_32.npz", "bathtub", "train")
    paths = sorted((data / "meshes" / "bathtub").glob("*.off"))
    real = {}
    for path in paths:
        expected = archive.occupancy[archive.ids.index(path.stem)]
        for name, grid in methods(read_mesh(path), with_winding=True).items():
            real.setdefault(name, []).append(aligned_iou(grid, expected))
    drawn = drawn_scores()
    print(f"| method | {' | '.join(path.stem for path in paths)} | {' | '.join(DAMAGES)} | worst |")
    print("|" + "---|" * (len(paths) + len(DAMAGES) + 2))
    for name, figures in real.items():
        cells = [f"{figure:.3f}" for figure in figures]
        if name in drawn:
            cells += [f"{np.mean(drawn[name][damage]):.3f}" for damage in DAMAGES]
            cells.append(f"{min(map(min, drawn[name].values())):.3f}")
        else:
            cells += ["-"] * (len(DAMAGES) + 1)
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
