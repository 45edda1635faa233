"""How long a cooperative preset takes, from its import to a thousand shapes.

    python benchmarks/generator_speed.py --preset=chair

In a process of its own: import and load, the first sixteen revised shapes (with compilation), the
next sixteen, and a thousand of the generator alone.
"""

from __future__ import annotations

import argparse
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="chair", help="a cooperative preset, by category or id")
    options = parser.parse_args()
    started = [time.perf_counter()]
    import descnet3d

    model = descnet3d.load(options.preset, task="cooperative")
    started.append(time.perf_counter())
    for make in (
        lambda: model.synthesize(16, seed=0),
        lambda: model.synthesize(16, seed=1),
        lambda: model.generate(1000, seed=0),
    ):
        make()
        started.append(time.perf_counter())
    names = ("import and load", "first synthesize(16)", "second", "generate(1000)")
    for name, begin, end in zip(names, started, started[1:], strict=False):
        print(f"{name}: {end - begin:.1f} s")


if __name__ == "__main__":
    main()
