"""The peak of resident memory of each command, for few shapes and for many.

    python benchmarks/memory.py --data=modelnet10_32.npz             # 16 and 10,000 shapes
    python benchmarks/memory.py --data=modelnet10_32.npz --only recover upscale

Each command runs in a process of its own, whose peak the system counts (`getrusage` of the child),
with its libraries: TensorFlow alone takes most of half a gigabyte. Linux counts the peak of who
starts a process to its own, so what the commands read is made by another one. Chains take one
step, and training a few iterations, since what shapes take in memory does not depend on how long
they are worked at. Shapes are those of the archive, again and again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from descnet3d.datasets.archives import VoxelArchive, read_archive, write_archive
from descnet3d.datasets.grid_files import write_grids
from descnet3d.shapes import blocks
from descnet3d.zoo import presets

BRIEFLY = "--batch_size=4 --matching_steps=2 --likelihood_steps=0 --sheet_every=0"
# What is typed; IN/ holds the shapes, OUT/ takes what is written.
COMMANDS = {
    "synthesize": "synthesize chair --num=COUNT --steps=1 --out=OUT/a.npz",
    "generate": "generate cooperative_chair_32 --num=COUNT --out=OUT/a.npz",
    "interpolate": "interpolate cooperative_chair_32 --num=HALF --steps=2 --out=OUT/a.npz",
    "recover": "recover IN/told --input=IN/fine.npz --corruption=voxels:0.7 --out=OUT/a.npz",
    "upscale": "upscale IN/told --input=IN/coarse.npz --out=OUT/a.npz",
    "voxelize": "voxelize IN/folder --out=OUT/a.npz --workers=1",
    "train": f"train --data=IN/archive.npz --category=chair --out=OUT/a {BRIEFLY}",
    "finetune": "finetune --from=langevin_toilet_32 --data=IN/archive.npz --category=chair "
    "--out=OUT/a --steps=1 --sheet_every=0",
    "evaluate": "evaluate IN/evaluated --data=IN/archive.npz --category=chair --num=16",
}
SHARED = "recovery_modelnet10_32"  # whose weights `told` shares, and looks for beside it
QUICK = {SHARED: SHARED, "told": "recovery_chair_32", "evaluated": "langevin_toilet_32"}


def _prepare(folder: Path, data: str, count: int) -> None:
    """So many chairs in every form that commands read, and presets whose chains take a step."""
    archive = read_archive(data)
    chairs = archive.occupancy[archive.labels == archive.classes.index("chair")]
    shapes = np.resize(chairs, (count, *chairs.shape[1:]))
    names = tuple(f"chair_{index:05d}" for index in range(count))
    labels, tests = np.zeros(count, np.int64), np.arange(count) % 10 == 0
    write_archive(folder / "archive.npz", VoxelArchive(shapes, labels, ("chair",), tests, names))
    write_grids(folder / "fine.npz", shapes)
    coarse = [blocks.average(some, 4) for some in np.array_split(shapes, -(-count // 100))]
    write_grids(folder / "coarse.npz", np.concatenate(coarse))
    (folder / "folder" / "chair").mkdir(parents=True)
    for name, shape in zip(names, shapes, strict=True):
        np.save(folder / "folder" / "chair" / f"{name}.npy", shape)
    for name, preset in QUICK.items():
        shutil.copytree(presets.find(preset), folder / name)
        path = folder / name / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        sampling = config["model"].get("sampling", {})
        for steps in sampling.keys() & {"num_steps", "rounds", "reconstruction_steps"}:
            sampling[steps] = 1
        path.write_text(json.dumps(config), encoding="utf-8")


def _peak(command: str, count: int, shapes: Path) -> tuple[int, float]:
    """The peak of a command in megabytes, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as out:
        numbers = {"COUNT": count, "HALF": count // 2}
        for word, number in numbers.items():
            command = command.replace(word, str(number))
        words = command.replace("IN/", f"{shapes}/").replace("OUT/", f"{out}/").split()
        started = time.monotonic()
        with open(Path(out) / "said", "w+") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "descnet3d.commands.cli", *words], stdout=said, stderr=said
            )
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{command}: {(Path(out) / 'said').read_text()[-500:]}")
        return used.ru_maxrss // 1024, time.monotonic() - started


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a voxel archive of ModelNet10 at 32³")
    parser.add_argument("--counts", type=int, nargs="*", default=[16, 10_000])
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=COMMANDS)
    chosen = parser.parse_args()
    print(f"| command | {' | '.join(f'MB for {count}' for count in chosen.counts)} |")
    print("|---" * (1 + len(chosen.counts)) + "|", flush=True)
    with tempfile.TemporaryDirectory() as top:
        for count in chosen.counts:
            folder = Path(top) / str(count)
            folder.mkdir()
            apart = multiprocessing.Process(target=_prepare, args=(folder, chosen.data, count))
            apart.start()
            apart.join()
            if apart.exitcode:
                raise SystemExit(apart.exitcode)
        for name in chosen.only:
            print(f"| {name} ", end="", flush=True)
            for count in chosen.counts:
                peak, seconds = _peak(COMMANDS[name], count, Path(top) / str(count))
                print(f"| {peak} ({seconds:.0f} s) ", end="", flush=True)
            print("|", flush=True)


if __name__ == "__main__":
    main()
