"""What it is worth on a CPU that freed memory is kept: training with and without, in turn.

    python benchmarks/freed_memory.py

Each run is a process of its own that pretrains the `base` network on noise for `--steps` iterations
of batch 8 on one core, after ten that don't count. It is returned to the system; kept by the C
library (`descnet3d.commands.outputs.keep_freed_memory`); kept by TensorFlow's own pool, as the
package has it wherever it is imported; or kept by both, as commands have it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

KEEPERS = ("returned", "kept by the C library", "kept by TensorFlow", "kept by both")


def measure(keeper: str, steps: int) -> None:
    """Prints wall, user and system milliseconds an iteration."""
    from descnet3d.commands import outputs

    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = str(keeper in KEEPERS[2:]).lower()
    if keeper in KEEPERS[1::2]:
        outputs.keep_freed_memory()
    import numpy as np

    from descnet3d.energy.settings import EquilibriumMatching
    from descnet3d.models import networks
    from descnet3d.models.descriptor import DescriptorNet

    shapes = np.random.default_rng(0).random((8, 32, 32, 32), dtype=np.float32)
    model = DescriptorNet(networks.build("base"), voxel_mean=0.5)
    model.compile(matching=EquilibriumMatching())
    model.fit(shapes, epochs=10, verbose=0)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    model.fit(shapes, epochs=steps, verbose=0)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = (wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
    print(*(1000 * seconds / steps for seconds in spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=KEEPERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.steps)
        return
    threads = dict.fromkeys(
        ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"
    )
    rows: dict[str, list[list[float]]] = {name: [] for name in KEEPERS}
    for _ in range(options.rounds):
        for name, measured in rows.items():
            command = [sys.executable, __file__, f"--measure={name}", f"--steps={options.steps}"]
            environment = {**os.environ, **threads}
            printed = subprocess.check_output(command, env=environment, text=True)
            measured.append([float(word) for word in printed.splitlines()[-1].split()])
    print("| freed memory is | ms an iteration | of it user | of it system |\n|---|---|---|---|")
    for name, measured in rows.items():
        wall, user, system = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"| {name} | {wall:.0f} | {user:.0f} | {system:.0f} |")
    for name in KEEPERS[1:]:
        pairs = zip(rows[name], rows["returned"], strict=True)
        ratios = [kept[0] / returned[0] for kept, returned in pairs]
        print(
            f"\n{name} / returned: median {statistics.median(ratios):.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f}, in {options.rounds} rounds"
        )


if __name__ == "__main__":
    main()
