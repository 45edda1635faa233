"""From the command to the picture: where the seconds of `descnet3d synthesize` go.

    python benchmarks/first_picture.py --category=chair --num=16 --rounds=3

Each round runs the command, and then its parts in a process of their own: what is imported, the
preset loaded, graphs traced and the first shapes drawn, as many drawn again, and their sheet. The
table gives medians with the smallest and the largest, of the time that passes and of the
processor's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate


def parts(category: str, num: int, path: str) -> dict[str, tuple[float, float]]:
    """Seconds that pass, and the processor's, of each part."""
    found: dict[str, tuple[float, float]] = {}
    last = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter(), time.process_time()
        found[name] = (now[0] - last[0], now[1] - last[1])
        last = time.perf_counter(), time.process_time()

    import descnet3d

    model = descnet3d.load(category)
    lap("imports and load")
    descnet3d.load(category)
    lap("a second load")
    shapes = model.synthesize(num, seed=0)
    lap(f"{num} shapes, the first time")
    model.synthesize(num, seed=1)
    lap(f"{num} shapes again")
    descnet3d.save_sheet(shapes, path)
    lap("their sheet")
    return found


def main() -> None:
    """Run the command and its parts, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--category", default="chair")
    parser.add_argument("--num", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.parts:
        print(json.dumps(parts(options.category, options.num, options.parts)))
        return
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    told = [f"--category={options.category}", f"--num={options.num}"]
    rows: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sheet.png")
        command = [str(Path(sys.executable).with_name("descnet3d")), "synthesize"]
        command += [options.category, f"--num={options.num}", f"--out={path}"]
        for _ in range(options.rounds):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rows.setdefault("the command", []).append((time.perf_counter() - began, used))
            ran = subprocess.run(
                [sys.executable, __file__, *told, f"--parts={path}"],
                env=environment,
                check=True,
                capture_output=True,
            )
            for name, seconds in json.loads(ran.stdout.splitlines()[-1]).items():
                rows.setdefault(name, []).append(tuple(seconds))
    shown = [
        [name, *(_median([each[clock] for each in seconds]) for clock in (0, 1))]
        for name, seconds in rows.items()
    ]
    print(tabulate(shown, ["", "time", "of the processor"], "github"))


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s [{min(seconds):.1f}, {max(seconds):.1f}]"


if __name__ == "__main__":
    main()
