"""Mesh files of other programs through each library that reads them: why the readers are our own.

    python benchmarks/mesh_readers.py --cases=../shared/cases

The cases are folders with `expected.off`, the shape that their other files hold, or a file that
must be refused. A file is right where its voxels are those of `expected.off` (for glTF, with y up),
refused where an error is raised, and else wrong: another shape, without a word. Libraries that
are not installed are left out. Each file has a process of its own, lest
one that dies takes the table with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
from pathlib import Path

import numpy as np

from descnet3d.datasets.mesh_files import is_mesh_file, read_mesh
from descnet3d.shapes.mesh import Mesh
from descnet3d.shapes.voxelize import voxelize

MUST_BE_REFUSED = ("glb_draco", "ply_ascii_cut_short")


def by_trimesh(path):
    import trimesh

    mesh = trimesh.load_scene(path, process=False).to_mesh()
    return mesh.vertices, mesh.faces


def by_open3d(path):
    import open3d

    mesh = open3d.io.read_triangle_mesh(str(path))
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles)


def by_meshio(path):
    import meshio

    mesh = meshio.read(path)
    triangles = [block.data for block in mesh.cells if block.type == "triangle"]
    triangles += [
        block.data[:, corners]
        for block in mesh.cells
        if block.type == "quad"
        for corners in ([0, 1, 2], [0, 2, 3])
    ]
    return mesh.points, np.concatenate(triangles)


def by_pymeshlab(path):
    import pymeshlab

    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(str(path))
    meshes.generate_by_merging_visible_meshes()
    mesh = meshes.current_mesh()
    return mesh.transformed_vertex_matrix(), mesh.face_matrix()


READERS = {
    "descnet3d": lambda path: read_mesh(path)[:2],
    "trimesh": by_trimesh,
    "open3d": by_open3d,
    "meshio": by_meshio,
    "pymeshlab": by_pymeshlab,
}


def answer(name: str, path: Path, results) -> None:
    expected = voxelize(read_mesh(path.parent / "expected.off")).occupancy
    try:
        vertices, triangles = READERS[name](path)
        up = "y" if path.suffix in (".glb", ".gltf") else "z"
        mesh = Mesh(np.asarray(vertices, np.float64), np.asarray(triangles, np.int32))
        found = voxelize(mesh, up=up).occupancy
    except BaseException:  # whatever it is, it was said
        results.put("refused")
        return
    iou = (found & expected).sum() / (found | expected).sum()
    must = path.parent.name in MUST_BE_REFUSED
    results.put("right" if iou == 1 and not must else f"wrong ({iou:.3f})")


def judged(name: str, path: Path) -> str:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=answer, args=(name, path, results))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        return "hangs"
    return "crashes" if results.empty() else results.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=Path, default=Path("../shared/cases"))
    cases = parser.parse_args().cases
    if not cases.is_dir():
        raise SystemExit(f"there is no folder {cases}; name one by --cases")
    paths = sorted(
        path
        for folder in cases.iterdir()
        if (folder / "expected.off").is_file()
        for path in folder.iterdir()
        if path.name != "expected.off" and is_mesh_file(path)
    )
    readers = [name for name in READERS if importlib.util.find_spec(name)]
    print(f"| file | {' | '.join(readers)} |")
    print("|---" * (len(readers) + 1) + "|")
    good = dict.fromkeys(readers, 0)
    for path in paths:
        words = [judged(name, path) for name in readers]
        must = path.parent.name in MUST_BE_REFUSED
        for name, word in zip(readers, words, strict=True):
            good[name] += word == ("refused" if must else "right")
        print(f"| {path.relative_to(cases)} | {' | '.join(words)} |", flush=True)
    print(f"| as it should be, of {len(paths)} | {' | '.join(map(str, good.values()))} |")


if __name__ == "__main__":
    main()
