"""What a synthesised shape costs: against the batch, the grid, and the cores; and the memory.

    python benchmarks/scale.py
    KERAS_BACKEND=torch python benchmarks/scale.py --batches 1 16 64 --grids 32 64

A drawing is one run of the network that a step of sampling makes, or two where guidance is asked
for; the network is that of `synthesis_modelnet10_32`, or one like it on a larger grid. Each row is
a process of its own, so that its peak of memory is its own; rows are taken in turns, round after
round. Medians, with the smallest and the largest in brackets: of the time that passes, and of the
processor's, a shape and a drawing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from tabulate import tabulate

PRESET = "synthesis_modelnet10_32"


def drawn(batch: int, grid: int, least_seconds: float) -> dict:
    """Seconds of a drawing, a shape, and what this process has taken of memory."""
    import keras
    import numpy as np
    from keras import ops

    import descnet3d
    from descnet3d.energy import backend
    from descnet3d.energy.conditional_energy import ConditionalEnergy
    from descnet3d.models.conditional_network import conditional

    if grid == 32:
        draw = descnet3d.load(PRESET).conditional.drawn_by_odds
    else:
        draw = ConditionalEnergy(conditional(grid), None, 0.5).drawn_by_odds
    draw = backend.compiled(draw)
    noise = np.random.default_rng(0).standard_normal((batch, grid, grid, grid, 1), np.float32)
    told = [ops.convert_to_tensor(noise), ops.zeros((batch, 16)), ops.full((batch, 1), 4.0)]

    def once() -> None:
        ops.convert_to_numpy(draw(*told, None)).ravel()[0]

    once()
    wall, processor, times = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < least_seconds or not times:
        once()
        times += 1
    shapes = batch * times
    return {
        "backend": keras.backend.backend(),
        "wall": (time.perf_counter() - wall) / shapes,
        "processor": (time.process_time() - processor) / shapes,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def median(values: list[float], unit: str = "ms") -> str:
    """With the smallest and the largest."""
    scale = 1000 if unit == "ms" else 1
    digits = 1 if max(values) * scale < 100 else 0
    low, middle, high = (
        f"{value * scale:.{digits}f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} {unit} [{low}, {high}]"


def main() -> None:
    """Start a process for each row and round, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64, 256])
    parser.add_argument("--grids", nargs="*", type=int, default=[32, 64, 128])
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a row, at least")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        batch, grid = map(int, options.row.split("x"))
        print(json.dumps(drawn(batch, grid, options.seconds)))
        return
    every = sorted(os.sched_getaffinity(0))
    cores = [count for count in options.cores if count <= len(every)]
    # Of larger grids as many shapes as have the voxels of sixteen.
    rows = [(batch, 32, max(cores)) for batch in options.batches]
    rows += [(max(16 * 32**3 // grid**3, 1), grid, max(cores)) for grid in options.grids]
    rows += [(16, 32, count) for count in cores]
    rows = list(dict.fromkeys(rows))
    found: dict[tuple[int, int, int], list[dict]] = {row: [] for row in rows}
    for _ in range(options.rounds):
        for batch, grid, count in rows:
            command = [sys.executable, __file__, f"--row={batch}x{grid}"]
            ran = subprocess.run(
                [*command, f"--seconds={options.seconds}"],
                preexec_fn=lambda used=every[:count]: os.sched_setaffinity(0, used),
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            found[batch, grid, count].append(json.loads(ran.stdout.splitlines()[-1]))
    shown = [
        [
            batch,
            f"{grid}³",
            count,
            *(median([one[key] for one in ran]) for key in ("wall", "processor")),
            median([one["memory"] for one in ran], "GiB"),
        ]
        for (batch, grid, count), ran in found.items()
    ]
    heads = [
        "shapes at once",
        "grid",
        "cores",
        "a shape and drawing",
        "of processor time",
        "memory",
    ]
    print(f"{next(iter(found.values()))[0]['backend']}\n\n{tabulate(shown, heads, 'github')}")


if __name__ == "__main__":
    main()
