"""Everything that is known to go wrong, tried anew: a table of faults, tries and survivals.

    python benchmarks/faults.py                   # all of it: an hour of one core
    python benchmarks/faults.py --only=kills --tries=80

A fault is survived when what comes after it is right: a run that was killed ends with the weights
of the run that was not, a command that cannot go on says so in one line, and no file is left that
is half written. Linux, and a checkout with its tests.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
STAND_INS = ROOT / "tests" / "stand_ins"
# Faults that the tests try, each in one parametrised case.
TESTED = {
    "hostile and damaged presets": ["tests/zoo/test_hostile_presets.py"],
    "damaged indexes": ["tests/zoo/test_presets.py", "-k", "index"],
    "server faults": ["tests/zoo/test_downloads.py"],
    "zoos that are down, damaged or shared": ["tests/zoo/test_cache.py"],
    "full disks": ["tests/test_full_disks.py"],
    "interrupts within training": ["tests/training/test_interruptions.py"],
}
# The installed program, which says when Python has got so far as to ask it anything.
PROGRAM = """
import sys
import descnet3d.commands.interrupts
print("begun", flush=True)
from descnet3d.commands.cli import main
sys.exit(main())
"""
# An interrupt is heard within so many seconds, on a machine that has other work as well.
LONGEST = 20.0
SECTIONS = ("kills", "stops", "together", "tests", "interrupts", "places")
PHASES = ("descriptor", "cooperative", "annealed", "classifier")


class Row(NamedTuple):
    """A line of the table."""

    fault: str
    tries: int
    survived: int
    seen: str = ""


def tested(fault: str, words: list[str]) -> Row:
    """How many cases of tests there are, and how many pass."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        [suite] = xml.etree.ElementTree.parse(report).getroot()
        count = {name: int(value) for name, value in suite.items() if value.isdigit()}
    cases = count["tests"] - count["skipped"]
    return Row(fault, cases, cases - count["failures"] - count["errors"])


def _child(work: Callable[..., object], *arguments: object) -> int:
    """The number of a process that does some work; it begins where this one has imported all."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if "FAULTS_DEBUG" not in os.environ:
            os.dup2(quiet, 2)
        work(*arguments)
        status = 0
    finally:
        os._exit(status)


def _state(folder: Path) -> dict[str, bytes]:
    """What a run has come to, array by array, to the bit."""
    import numpy as np

    state = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            for name in set(file.files) - {"progress"}:  # which counts seconds, too
                state[f"{path.name} {name}"] = file[name].tobytes()
    return state


def _differs(folder: Path, whole: dict[str, bytes]) -> list[str]:
    """Where a run did not come to what the unbroken one came to, and what else it left."""
    state = _state(folder)
    other = [name for name in state.keys() | whole.keys() if state.get(name) != whole.get(name)]
    return sorted(other) + sorted(path.name for path in folder.rglob(".*") if path.is_file())


def _ended(child: int, seconds: float, number: signal.Signals) -> bool:
    """Whether a process came to its end before it was killed at a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return True
        time.sleep(0.02)
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _train(kind: str, folder: Path) -> None:
    import tiny_runs

    getattr(tiny_runs, kind)(folder, checkpoint_every=0.0)


def kills(
    tries: int, number: signal.Signals, seed: int, phases: Sequence[str] = PHASES
) -> Iterator[Row]:
    """Runs of every phase, ended at random moments and begun again, against unbroken ones."""
    generator = random.Random(seed)
    for kind in phases:
        with tempfile.TemporaryDirectory() as top:
            started = time.monotonic()
            assert os.waitpid(_child(_train, kind, Path(top) / "whole"), 0)[1] == 0, kind
            lasted, whole = time.monotonic() - started, _state(Path(top) / "whole")
            killed = survived = runs = 0
            seen = ""
            while killed < tries:
                folder, here = Path(top) / str(runs), 0
                # Killed again and again, until it is quicker; the last time it is left alone.
                while killed + here < tries:
                    child = _child(_train, kind, folder)
                    if _ended(child, generator.uniform(0, lasted), number):
                        break
                    here += 1
                else:
                    assert os.waitpid(_child(_train, kind, folder), 0)[1] == 0, kind
                wrong = _differs(folder, whole)
                survived += 0 if wrong else here
                seen = f"; {len(wrong)} differ, as {wrong[0]}" if wrong else seen
                killed, runs = killed + here, runs + 1
            said = f"{runs} runs, each the unbroken one's to the bit" if not seen else seen[2:]
            yield Row(f"{number.name} in training: {kind}", killed, survived, said)


def two_trainers(tries: int) -> Row:
    """Two processes that train in one folder at once."""
    survived = 0
    with tempfile.TemporaryDirectory() as top:
        os.waitpid(_child(_train, "descriptor", Path(top) / "whole"), 0)
        whole = _state(Path(top) / "whole")
        for index in range(tries):
            folder = Path(top) / str(index)
            pair = [_child(_train, "descriptor", folder) for _ in range(2)]
            ended = [os.waitpid(each, 0)[1] for each in pair]
            survived += 0 in ended and not _differs(folder, whole)
    return Row("two trainers in one folder", tries, survived)


def _write_again_and_again(folder: Path) -> None:
    from tiny_models import tiny_model

    models = [tiny_model(seed) for seed in (0, 1)]
    while True:
        for model in models:
            model.save_preset(folder, task="synthesis")
            time.sleep(0.05)


def _read(folder: Path, tries: int, report: Path) -> None:
    """Notes of each try to load a preset whether one of the two came out, whole, or what else."""
    import numpy as np
    from tiny_models import tiny_model

    import descnet3d

    shapes = np.random.default_rng(0).random((2, 8, 8, 8), dtype="float32")
    known = [tiny_model(seed).energy(shapes) for seed in (0, 1)]
    for _ in range(tries):
        try:
            energy = descnet3d.load(folder).energy(shapes)
            right = any(np.allclose(energy, each, rtol=0.01) for each in known)
            said = "whole" if right else "mixed"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        with report.open("a", encoding="utf-8") as file:
            print(" ".join(said.split()), file=file)


def readers(tries: int, count: int = 4) -> Row:
    """Processes that load a preset, at once, while another writes it again and again."""
    from tiny_models import tiny_model

    with tempfile.TemporaryDirectory() as top:
        folder, report = Path(top) / "preset", Path(top) / "report"
        folder.mkdir()
        os.waitpid(_child(lambda: tiny_model().save_preset(folder, task="synthesis")), 0)
        writer = _child(_write_again_and_again, folder)
        reading = [_child(_read, folder, tries // count, report) for _ in range(count)]
        for each in reading:
            os.waitpid(each, 0)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        said = report.read_text(encoding="utf-8").splitlines()
    wrong = [line for line in said if line != "whole"]
    worst = wrong[0][-150:] if wrong else f"{count} readers at once"
    return Row("readers of a preset that is written anew", tries, len(said) - len(wrong), worst)


def interrupts(tries: int, seconds: float, words: list[str], what: str, early: bool) -> Row:
    """Ctrl-C, and now and then SIGTERM, at moments from the start of a command on.

    Args:
        tries: how many.
        seconds: the moments lie evenly between none and so many.
        words: the command.
        what: its name, for the table.
        early: whether the time runs from the start of the process, in which Python itself starts
            before anything of the package is read; else from where that is done.
    """
    program = ["-m", "descnet3d.commands.cli"] if early else ["-c", PROGRAM]
    environment = {**os.environ}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # who has set it wants to hear of TensorFlow
    survived, worst = 0, []
    for index in range(tries):
        process = subprocess.Popen(
            [sys.executable, *program, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        if not early:
            process.stdout.readline()
        moment = index * seconds / tries
        time.sleep(moment)
        process.send_signal(signal.SIGTERM if index % 4 == 0 else signal.SIGINT)
        sent = time.monotonic()
        _, said = process.communicate()
        heard = time.monotonic() - sent < LONGEST  # or it did all that it was to do
        ended = process.returncode in (0, 130, 143, -2, -15)
        good = heard and ended and len(said.splitlines()) <= 1
        survived += good
        if not good:
            worst.append(
                f"after {moment:.2f} s {process.returncode}, {' '.join(said.split())[-150:]}"
            )
    return Row(f"interrupts of {what}", tries, survived, "; ".join(worst))


def read_only_places() -> Row:
    """Commands that write where nobody can, root neither."""
    place = Path("/proc/sys")
    commands = [
        "generate chair --num=1 --out=PLACE/a.npz",
        "generate chair --num=1 --out=PLACE/new/a.ply",
        "presets publish PLACE/zoo",
        "presets show toilet --out=PLACE/a.png",
        "voxelize SHAPES --out=PLACE/a.npz",
        "train --data=SHAPES --out=PLACE/run",
        "finetune --data=SHAPES --out=PLACE/run",
        "evaluate toilet --data=SHAPES --json=PLACE/a.json",
    ]
    survived, worst = 0, ""
    with tempfile.TemporaryDirectory() as shapes:
        for command in commands:
            words = command.replace("PLACE", str(place)).replace("SHAPES", shapes).split()
            done = subprocess.run(
                [sys.executable, "-m", "descnet3d.commands.cli", *words],
                capture_output=True,
                text=True,
            )
            told = done.stderr.splitlines()
            good = done.returncode == 1 and len(told) == 1 and str(place) in told[0]
            survived += good
            worst = worst if good else done.stderr[-200:]
    return Row("places that cannot be written", len(commands), survived, worst)


def campaign(only: str, tries: int, seed: int, phases: Sequence[str]) -> Iterator[Row]:
    """The table, row by row."""
    if only in ("", "kills", "stops"):
        # Imported once, for all that are killed; nothing is computed before they part.
        import tiny_runs  # noqa: F401

        if only != "stops":
            yield from kills(tries, signal.SIGKILL, seed, phases)
        if only != "kills":
            yield from kills(max(2, tries // 4), signal.SIGTERM, seed + 1, phases)
    if only in ("", "together"):
        import tiny_models  # noqa: F401
        import tiny_runs  # noqa: F401

        yield two_trainers(3)
        yield readers(200)
    for fault, words in TESTED.items():
        if only in ("", "tests", fault):
            yield tested(fault, words)
    if only in ("", "interrupts"):
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as folder:
            words = ["generate", "chair", "--num=4", f"--out={folder}/a.npz"]
            yield interrupts(40, 4.0, words, "generate", early=False)
            yield interrupts(40, 1.5, ["presets"], "presets", early=False)
            yield interrupts(40, 1.2, words, "generate, from the start of Python", early=True)
    if only in ("", "places"):
        yield read_only_places()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", choices=["", *SECTIONS, *TESTED], help="one section of it"
    )
    parser.add_argument("--tries", type=int, default=16, help="kills of each kind of run")
    parser.add_argument("--phases", nargs="*", default=PHASES, choices=PHASES)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    # Shells have it ignored in the background, and then all that is started there ignores it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, str(STAND_INS))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("| fault | tries | survived | |\n|---|---|---|---|")
    tries = survived = 0
    for row in campaign(chosen.only, chosen.tries, chosen.seed, chosen.phases):
        print(f"| {row.fault} | {row.tries} | {row.survived} | {row.seen} |", flush=True)
        tries, survived = tries + row.tries, survived + row.survived
    print(f"| all | {tries} | {survived} | |")


if __name__ == "__main__":
    main()
