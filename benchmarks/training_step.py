"""What an iteration of training costs: the odds of ten categories, and the energy fitted to them.

    KERAS_BACKEND=torch python benchmarks/training_step.py --data=modelnet10_32.npz [--rounds=5]

Processor milliseconds of one iteration of 8 shapes with the network of `synthesis_modelnet10_32`,
as it is and with numbers below 1e-38 kept, in turns in one process (TensorFlow never keeps them);
medians with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time

import keras
import numpy as np

import descnet3d
from descnet3d.datasets.archives import read_archive
from descnet3d.energy import backend
from descnet3d.energy.settings import Denoising

BATCH = 8


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="an archive of the ten categories")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    archive = read_archive(given.data)
    rows = np.random.default_rng(0).permutation(len(archive.labels))[:BATCH]
    shapes, labels = archive.occupancy[rows], archive.labels[rows]
    model = descnet3d.load("modelnet10")
    ways = {"as it is": backend._without_subnormal_numbers}  # noqa: SLF001 - it is what is compared
    if keras.backend.backend() == "torch":
        ways["subnormal numbers kept"] = contextlib.nullcontext
    print(f"| {keras.backend.backend()} | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    for learns in ("energy", "odds"):
        model.compile(denoising=Denoising(learns=learns))
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.rounds + 1):
            for name, way in ways.items():
                backend._without_subnormal_numbers = way
                started = time.process_time()
                model.fit(shapes, labels, batch_size=BATCH, verbose=0)
                if turn:  # the first one traces and warms up
                    spent[name].append(1000 * (time.process_time() - started))
        cells = [
            f"{statistics.median(each):.0f} ms [{min(each):.0f}, {max(each):.0f}]"
            for each in spent.values()
        ]
        print(f"| {learns} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
