"""What an iteration of training costs: the odds of ten categories, and the energy fitted to them.

    KERAS_BACKEND=torch python benchmarks/training_step.py --data=modelnet10_32.npz [--rounds=5]

Processor milliseconds of one iteration of 8 shapes with the network of `synthesis_modelnet10_32`,
in turns in one process; medians with the smallest and the largest. PyTorch's columns: as it is,
with numbers below 1e-38 kept (TensorFlow never keeps them), and as native code with products in
float32 and in bfloat16 (`energy.native`). Its making is measured, too: the first iteration.
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
from descnet3d.energy.settings import PRODUCTS, Denoising

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
    on_torch = keras.backend.backend() == "torch"
    ways = {"as it is": ("no", backend._without_subnormal_numbers)}  # noqa: SLF001 - compared
    if on_torch:
        ways["subnormal numbers kept"] = ("no", contextlib.nullcontext)
        for products in PRODUCTS:
            ways[f"native, {products}"] = (products, backend._without_subnormal_numbers)
    print(f"| {keras.backend.backend()} | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    for learns in ("energy", "odds"):
        models = {name: descnet3d.load("modelnet10") for name in ways}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.rounds + 1):
            for name, (code, numbers) in ways.items():
                if not turn:
                    models[name].compile(denoising=Denoising(learns=learns), native=code)
                backend._without_subnormal_numbers = numbers
                started = time.process_time()
                models[name].fit(shapes, labels, batch_size=BATCH, verbose=0)
                spent[name].append(1000 * (time.process_time() - started))
        first = [f"{each[0] / 1000:.0f} s" for each in spent.values()]
        cells = [
            f"{statistics.median(each):.0f} ms [{min(each):.0f}, {max(each):.0f}]"
            for each in (of_way[1:] for of_way in spent.values())
        ]
        print(f"| {learns} | {' | '.join(cells)} |", flush=True)
        print(f"| {learns}, the first | {' | '.join(first)} |", flush=True)


if __name__ == "__main__":
    main()
