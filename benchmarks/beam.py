"""What one and two workers of Apache Beam make of a folder of meshes, beside no Beam at all.

    python benchmarks/beam.py [--count=200] [--few=10] [--size=32] [--rounds=3]

Each round builds the tfds data set `voxel_folder` of the same drawn meshes (as those of
voxelization.py) in each way, in turns, each in a program of its own: of all meshes and of a few,
since a runner takes its time to start. Seconds are medians, in brackets the smallest and the
largest; meshes a second are those between the few and all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from voxelization import draw

OPTIONS = "runner=FnApiRunner,direct_running_mode=multi_processing,direct_num_workers={}"
WAYS = {
    "no Beam, all cores": [],
    "Beam, 1 worker": [f"--beam_pipeline_options={OPTIONS.format(1)}"],
    "Beam, 2 workers": [f"--beam_pipeline_options={OPTIONS.format(2)}"],
}


def seconds(root: Path, size: int, words: list[str]) -> float:
    """What a build takes, from the start of the program to its end."""
    with tempfile.TemporaryDirectory() as data:
        config = f'--config={{"root": "{root}", "size": {size}}}'
        command = ["-m", "tensorflow_datasets.scripts.cli.main", "build", "voxel_folder", config]
        command += ["--imports=descnet3d.datasets", f"--data_dir={data}", *words]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, *command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return time.perf_counter() - started


def show(values: list[float]) -> str:
    """The median, with the smallest and the largest."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = {}
        for name, count in (("few", given.few), ("all", given.count)):
            roots[name] = Path(folder) / name
            (roots[name] / "furniture/train").mkdir(parents=True)
            draw(roots[name] / "furniture/train", count)
        taken = {(way, name): [] for way in WAYS for name in roots}
        for _ in range(given.rounds):
            for (way, name), values in taken.items():
                values.append(seconds(roots[name], given.size, WAYS[way]))
    print(
        f"| | s for {given.few} meshes | s for {given.count} | meshes a second |\n|---|---|---|---|"
    )
    for way in WAYS:
        few, every = taken[way, "few"], taken[way, "all"]
        rates = [(given.count - given.few) / (b - a) for a, b in zip(few, every, strict=True)]
        print(f"| {way} | {show(few)} | {show(every)} | {show(rates)} |")


if __name__ == "__main__":
    main()
