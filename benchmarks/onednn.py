"""What oneDNN's operations are worth to TensorFlow on this processor.

    python benchmarks/onednn.py --rounds=3

The package turns them on (`descnet3d.startup`); TensorFlow by itself does so only on processors
with instructions for neural networks, which `lscpu` lists as avx512_vnni, avx512_bf16 or amx. Each
round is a process without them and one with them, in turns, on one core. Processor time a shape of
the drawing and of the training of `synthesis_modelnet10_32`, and of a gradient of the descriptor
`langevin_toilet_32`; medians with the smallest and the largest, and how many times as fast.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from tabulate import tabulate


def spent() -> dict[str, float]:
    """Processor milliseconds a shape, of each kind of work."""
    import numpy as np
    from keras import ops

    import descnet3d
    from descnet3d.energy import backend
    from descnet3d.energy.settings import Denoising

    def of(work: Callable[[], object], shapes: int, times: int = 4) -> float:
        work()
        taken = []
        for _ in range(times):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
        return 1000 * statistics.median(taken) / shapes

    noise = np.random.default_rng(0).standard_normal((16, 32, 32, 32, 1), np.float32)
    model = descnet3d.load("modelnet10")
    draw = backend.compiled(model.conditional.drawn_by_odds)
    told = [ops.convert_to_tensor(noise), ops.zeros((16, 16)), ops.full((16, 1), 4.0)]
    found = {"a drawing": of(lambda: ops.convert_to_numpy(draw(*told, None)), 16)}
    occupancy = (noise[:8, ..., 0] > 1).astype(np.float32)  # what is learned costs no less
    kinds = {"odds": "training of the odds", "energy": "of an energy, the same network"}
    for learns, name in kinds.items():
        model.compile(denoising=Denoising(learns=learns))
        fit = partial(model.fit, occupancy, np.arange(8), batch_size=8, verbose=0)
        found[name] = of(fit, 8)
    plain = descnet3d.load("langevin_toilet_32")

    def gradient(positions):
        return backend.value_and_input_gradient(plain.energy_of, positions)[1]

    compiled = backend.compiled(gradient)
    positions = ops.convert_to_tensor(noise)
    found["a gradient of langevin_toilet_32"] = of(
        lambda: ops.convert_to_numpy(compiled(positions)), 16
    )
    return found


def main() -> None:
    """Start the processes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(spent()))
        return
    core = max(os.sched_getaffinity(0))
    rows: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.rounds):
        for used in ("0", "1"):
            ran = subprocess.run(
                [sys.executable, __file__, "--row"],
                preexec_fn=lambda: os.sched_setaffinity(0, [core]),
                env={
                    **os.environ,
                    "KERAS_BACKEND": "tensorflow",
                    "TF_ENABLE_ONEDNN_OPTS": used,
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            for name, value in json.loads(ran.stdout.splitlines()[-1]).items():
                rows.setdefault(name, {}).setdefault(used, []).append(value)
    shown = []
    for name, by in rows.items():
        ratios = [without / with_it for without, with_it in zip(by["0"], by["1"], strict=True)]
        cells = [_median(values, " ms") for values in (by["0"], by["1"])]
        shown.append([name, *cells, _median(ratios)])
    print(tabulate(shown, ["a shape", "without", "with oneDNN", "times as fast"], "github"))


def _median(values: list[float], unit: str = "") -> str:
    """With the smallest and the largest."""
    digits = 0 if min(values) > 100 else 1 if unit else 2
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{unit} [{low}, {high}]"


if __name__ == "__main__":
    main()
