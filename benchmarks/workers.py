"""What two workers make of a training iteration that one makes alone, each on one core.

    python benchmarks/workers.py --engine=processes            # PyTorch, torch.distributed
    python benchmarks/workers.py --engine=hosts                # TensorFlow, two processes
    python benchmarks/workers.py --engine=processes --rounds=15 --objective=likelihood

All start at once and take turns, a few iterations each: one worker with the whole batch; two, which
exchange gradients, with half of it each; two that train on their halves side by side and exchange
nothing; and one with the whole batch again, whose package has forgotten that there may be others.
The table has medians of the rounds and, in brackets, the smallest and the largest; of a round of
two the slower counts. Speed-up is one worker's time over two's, round by round, and what is lost to
communication is the share of two's time that goes without the exchange. Processor time tells the
same where other programs have their share of the cores, but for the time spent waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

SIZE = 32
# Name: how many workers, and whether they are to know of each other.
TEAMS = {"one": (1, False), "two": (2, True), "two, no exchange": (2, False), "bare": (1, False)}


def work(given: argparse.Namespace) -> None:
    """A worker: prints the seconds of an iteration each time that it is told to go on."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[given.rank % len(cores)]})
    count, together = TEAMS[given.team]
    model, strategy = build(given, count if together else 1)
    if given.team == "bare":
        forget_others()
    import numpy as np

    batch = given.batch if strategy is not None else given.batch // count
    generator = np.random.default_rng(given.rank)
    shapes = generator.random((given.iterations * batch, SIZE // 8, SIZE // 8, SIZE // 8)) < 0.3
    for axis in (1, 2, 3):
        shapes = np.repeat(shapes, 8, axis)
    clock = made_clock()
    for _ in sys.stdin:
        model.fit(shapes, batch_size=batch, epochs=1, callbacks=[clock], verbose=0)
        print(*clock.seconds, flush=True)


def build(given: argparse.Namespace, world: int):
    """The model that is trained, and the strategy of `tf.distribute` that it is made under."""
    strategy = None
    if world > 1 and given.engine == "processes":
        import torch

        torch.distributed.init_process_group(
            "gloo", f"tcp://127.0.0.1:{given.ports[0]}", rank=given.rank, world_size=world
        )
    elif world > 1:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in given.ports]}
        own = {"type": "worker", "index": given.rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": own})
        import tensorflow as tf

        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras

    from descnet3d.energy.settings import (
        ChainSettings,
        EquilibriumMatching,
        LangevinSettings,
        MaximumLikelihood,
    )
    from descnet3d.models import networks
    from descnet3d.models.descriptor import DescriptorNet

    chains = ChainSettings(per_step=given.batch // TEAMS[given.team][0])
    learned = MaximumLikelihood(langevin=LangevinSettings(given.steps, 0.05), chains=chains)
    objective = {"matching": EquilibriumMatching()}
    if given.objective == "likelihood":
        objective = {"likelihood": learned}
    with ExitStack() as stack:
        if strategy is not None:
            stack.enter_context(strategy.scope())
        keras.utils.set_random_seed(0)
        model = DescriptorNet(networks.build("base", SIZE, 0.5), voxel_mean=0.5)
        model.compile(keras.optimizers.Adam(1e-5, global_clipnorm=1.0), **objective)
    return model, strategy


def forget_others() -> None:
    """Takes out of the package what it does for those that train along."""
    from descnet3d.energy import together

    nobody = together.Workers()
    together.averaged = list
    together.workers_of = lambda model: nobody
    together.processes = lambda: nobody


def made_clock():
    """A callback that measures an iteration by the distance of the ends of the first and last."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append((time.perf_counter(), time.process_time()))

        @property
        def seconds(self):
            first, last = self.ends[0], self.ends[-1]
            return [(b - a) / (len(self.ends) - 1) for a, b in zip(first, last, strict=True)]

    return Clock()


def start(given: argparse.Namespace, team: str) -> list[subprocess.Popen]:
    """The processes of a team."""
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    backend = "torch" if given.engine == "processes" else "tensorflow"
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment |= dict.fromkeys(threads, "1")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [str(each.getsockname()[1]) for each in sockets]
    words = [f"--{name}={value}" for name, value in vars(given).items() if value is not None]
    return [
        subprocess.Popen(
            [sys.executable, __file__, *words, f"--team={team}", f"--rank={rank}"]
            + [f"--ports={port}" for port in ports],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SAY") else subprocess.DEVNULL,
            text=True,
        )
        for rank in range(TEAMS[team][0])
    ]


def turn(processes: list[subprocess.Popen]) -> tuple[float, float]:
    """The seconds of an iteration of a team, and its processor time: the slower's."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [tuple(map(float, process.stdout.readline().split())) for process in processes]
    return max(wall for wall, _ in told), max(processor for _, processor in told)


def show(values: list[float], unit: str = "", digits: int = 0) -> str:
    """The median, with the smallest and the largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["processes", "hosts"], default="processes")
    parser.add_argument("--objective", choices=["matching", "likelihood"], default="matching")
    parser.add_argument("--batch", type=int, default=16, help="shapes of an iteration, of all")
    parser.add_argument("--steps", type=int, default=10, help="Langevin steps of an iteration")
    parser.add_argument("--iterations", type=int, default=6, help="of a turn")
    parser.add_argument("--rounds", type=int, default=9)
    for name, kind in (("team", str), ("rank", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--ports", action="append", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.team is not None:
        work(given)
        return
    teams = {team: start(given, team) for team in TEAMS}
    try:
        for processes in teams.values():
            turn(processes)  # traces, and fills the pools of memory
        taken: dict[str, list[tuple[float, float]]] = {team: [] for team in TEAMS}
        for _ in range(given.rounds):
            for team, processes in teams.items():
                taken[team].append(turn(processes))
    finally:
        for process in (process for team in teams.values() for process in team):
            process.kill()
    print(f"{given.engine}, {given.objective}, {given.batch} shapes an iteration")
    print("\n| workers | an iteration | its processor time |\n|---|---|---|")
    for team, told in taken.items():
        cells = [
            show([1000 * value for value in values], " ms") for values in zip(*told, strict=True)
        ]
        print(f"| {team} | {' | '.join(cells)} |")
    for kind, measured in ((0, "time"), (1, "processor time")):
        one, two, apart, bare = ([each[kind] for each in told] for told in taken.values())
        speed = [a / b for a, b in zip(one, two, strict=True)]
        lost = [100 * (1 - b / a) for a, b in zip(two, apart, strict=True)]
        cost = [a / b for a, b in zip(one, bare, strict=True)]
        print(f"\nby {measured}: speed-up of two {show(speed, '', 2)}, lost to communication")
        print(f"{show(lost, ' %')}, one worker over bare {show(cost, '', 3)}")


if __name__ == "__main__":
    main()
