"""How many meshes a second become grids, and where the time goes.

    python benchmarks/voxelization.py
    python benchmarks/voxelization.py --meshes=ModelNet10 --workers=2 --size=32

Without `--meshes` it draws meshes of the sizes that ModelNet10's have (a few hundred to tens of
thousands of triangles, furniture of boxes, round parts and thin walls, a few triangles lost). The
first table is one process, mesh by mesh: medians, in brackets the smallest and the largest of the
rounds, and the shares of reading, surface and filling. The second is the whole road through
`voxelize_files`, its processes' start included.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from descnet3d.datasets import folders
from descnet3d.datasets.mesh_files import MESH_INPUT_ENDINGS, read_mesh
from descnet3d.datasets.shape_files import (
    Skipped,
    voxelize_files,  # noqa: E402
)
from descnet3d.shapes.voxelize import voxelize


def box(sides, corner):
    vertices = np.array(list(np.ndindex(2, 2, 2))) * sides + corner
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return vertices, np.array([[q[0], q[k], q[k + 1]] for q in quads for k in (1, 2)])


def round_part(radius, height, corner, steps):
    """A vase of `steps`² vertices."""
    along = np.linspace(0, 1, steps)
    radii = radius * (1 + 0.3 * np.sin(4 * along))
    angles = 2 * np.pi * np.arange(steps) / steps
    vertices = np.stack(
        [
            np.outer(radii, np.cos(angles)),
            np.outer(radii, np.sin(angles)),
            np.outer(height * along, np.ones(steps)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    row, column = (index.ravel() for index in np.indices((steps - 1, steps)))
    a, b = row * steps + column, row * steps + (column + 1) % steps
    triangles = np.concatenate(
        [np.stack([a, b, a + steps], 1), np.stack([b, b + steps, a + steps], 1)]
    )
    return vertices + corner, triangles


def drawn_furniture(random):
    """Vertices and triangles; the number of triangles is spread as ModelNet10's is."""
    wanted = int(np.exp(random.normal(np.log(4000), 1.3)).clip(100, 100_000))
    parts = [box(random.uniform(0.05, 1, 3), random.uniform(0, 1, 3)) for _ in range(8)]
    steps = max(4, int(np.sqrt(wanted / 4)))
    parts += [
        round_part(*random.uniform(0.1, 0.5, 2), random.uniform(0, 1, 3), steps) for _ in range(2)
    ]
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    triangles = np.concatenate([t + start for (_, t), start in zip(parts, starts, strict=False)])
    kept = triangles[random.random(len(triangles)) > 0.01]
    return np.concatenate([vertices for vertices, _ in parts]) * 50, kept


def write_off(path, vertices, triangles):
    with open(path, "w") as file:
        file.write(f"OFF\n{len(vertices)} {len(triangles)} 0\n")
        np.savetxt(file, vertices, "%.6f")
        np.savetxt(file, np.insert(triangles, 0, 3, axis=1), "%d")


def draw(folder, count):
    random = np.random.default_rng(0)
    paths = [Path(folder) / f"{index:04d}.off" for index in range(count)]
    for path in paths:
        write_off(path, *drawn_furniture(random))
    return paths


def show(values, digits=1):
    values = sorted(values)
    low, middle, high = (f"{values[i]:.{digits}f}" for i in (0, len(values) // 2, -1))
    return f"{middle} [{low}, {high}]"


def stages(paths, size):
    """Seconds of reading, of the surface and of the whole, for all meshes in one process."""
    reading = surface = whole = 0.0
    for path in paths:
        started = time.perf_counter()
        mesh = read_mesh(path)
        read = time.perf_counter()
        voxelize(mesh, size, fill="surface")
        filled = time.perf_counter()
        voxelize(mesh, size)
        ended = time.perf_counter()
        reading += read - started
        surface += filled - read
        whole += read - started + ended - filled
    return reading, surface, whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--meshes", help="a folder of CATEGORY/FILE; drawn ones if absent")
    parser.add_argument("--count", type=int, default=200, help="how many meshes")
    parser.add_argument("--size", type=int, action="append", help="32, 64 and 128 if absent")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of every measurement")
    parser.add_argument("--sample", type=int, default=40, help="meshes of the first table")
    options = parser.parse_args()
    sizes = options.size or [32, 64, 128]
    with tempfile.TemporaryDirectory() as folder:
        if options.meshes:
            listed = [shape.path for shape in folders.list_shapes(options.meshes)]
            paths = [p for p in listed if p.suffix.lower() in MESH_INPUT_ENDINGS]
            paths = paths[:: max(1, len(paths) // options.count)][: options.count]
        else:
            paths = draw(folder, options.count)
        triangles = sorted(len(read_mesh(path).triangles) for path in paths)
        print(
            f"{len(paths)} meshes of {triangles[0]} to {triangles[-1]} triangles, the median "
            f"{triangles[len(triangles) // 2]}\n"
        )
        few = paths[:: max(1, len(paths) // options.sample)]
        print(
            "| size | ms a mesh, one process | reading | surface | filling |\n|---|---|---|---|---|"
        )
        for size in sizes:
            rounds = [stages(few, size) for _ in range(options.rounds)]
            reading, surface, whole = sorted(rounds, key=lambda each: each[2])[len(rounds) // 2]
            filling = whole - reading - surface
            shares = [f"{100 * part / whole:.0f} %" for part in (reading, surface, filling)]
            cell = show([1000 * each[2] / len(few) for each in rounds])
            print(f"| {size} | {cell} | {' | '.join(shares)} |", flush=True)
        print(
            f"\n| size | s for {len(paths)} meshes, {options.workers} processes | meshes a second "
            "| skipped |\n|---|---|---|---|"
        )
        for size in sizes:
            seconds = []
            for _ in range(options.rounds if size < 128 else 1):
                started = time.perf_counter()
                found = list(voxelize_files(paths, size, workers=options.workers))
                seconds.append(time.perf_counter() - started)
            skipped = sum(isinstance(one, Skipped) for one in found)
            rate = show([len(paths) / each for each in seconds])
            print(f"| {size} | {show(seconds)} | {rate} | {skipped} |", flush=True)


if __name__ == "__main__":
    main()
