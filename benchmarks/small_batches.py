"""What small batches cost a generator, as it is and drawing its patches by a matrix product.

    python benchmarks/small_batches.py [--preset=chair] [--rounds=3]

Seconds of one call of the generator's network on n latents, and of the same through
`generators.patchwise`, in turns in one process; medians with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import descnet3d
from descnet3d.models.generators import patchwise


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="chair")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = descnet3d.load(given.preset, task="cooperative")
    functions = {"as it is": model.generator, "patchwise": patchwise(model.generator)}
    print(f"| latents | {' | '.join(functions)} |\n|---|---|---|")
    for count in (1, 2, 4, 8, 16, 20, 32, 64):
        latents = np.random.default_rng(0).standard_normal((count, model.num_latents), "float32")
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for function in functions.values():
            function(latents[:1] if count > 1 else latents)
        for _ in range(given.rounds):
            for name, function in functions.items():
                started = time.perf_counter()
                np.asarray(function(latents))
                seconds[name].append(time.perf_counter() - started)
        cells = [
            f"{statistics.median(each):.2f} s [{min(each):.2f}, {max(each):.2f}]"
            for each in seconds.values()
        ]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
