"""Runs every command that README and docs/ show, and says what came of each.

    python benchmarks/documented_commands.py --data=../shared/data --out=commands.md
    python benchmarks/documented_commands.py --only=keras --keep   # one page; its files stay

Commands are the lines of fenced `bash` and `sh` blocks, and what stands in the text in backticks
and has arguments; one that is shown several times is run once. They run in the order of the pages,
in one folder that holds a copy of the committed files; what is published goes to a server of this
machine that speaks as the hub does. What a page calls the user's own (my_chairs,
damaged.off, coarse.npz, ...) is made of real shapes, and the archives hold a few shapes of each
category. Where the page's command would take long, or names what is not here, `CHANGES` says what
is put in its place, and the table has the command as it was run. What installs software (apt-get,
pip, venv) is left out, and what `LEFT_OUT` names.

Every status but 0 is a failure, and the exit status is 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

from descnet3d.datasets import grid_files, mesh_writers, shape_files
from descnet3d.datasets.archives import VoxelArchive, read_archive, write_archive
from descnet3d.shapes import blocks, surfaces

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/stand_ins"))
from hub import Hub  # noqa: E402 - a real server, which takes what is published

with socket.socket() as _free:
    _free.bind(("localhost", 0))
    PORT = _free.getsockname()[1]
LEFT_RUNNING: list[int] = []  # the groups of processes that a page starts with &
INSTALLS = re.compile(r"apt-get|\bpip install|-m venv|pre-commit install")
LEFT_OUT = {
    r"^\.venv/bin/pre-commit": "its checks are those of README's test command",
    r"jupyter notebook tutorials": "opens a browser and stays; tutorials/build.py runs the same",
    r"descnet3d demo": "opens a page and stays; the browser tests of tests/commands open it, too",
    r"docker (build|run)": "needs a daemon",
    r"scontrol|^srun ": "needs a cluster's queue",
    r"^\.venv/bin/pytest$": "the test command of README",
    r"^KERAS_BACKEND=torch \.venv/bin/pytest$": "the test command of README",
}
# Patterns, and what is put in their place. Training is shortened, and so are sets of shapes.
CHANGES = {
    r"\bCOMMAND\b": "synthesize",
    r"\bPRESET\b": "toilet",
    r"\bARCHIVE\b": "modelnet10_32.npz",
    r"<id>": "synthesis_sample_32",
    r"--category=\.\.\.": "--category=toilet",
    r"(localhost:| )8000\b": r"\g<1>PORT",
    r"(presets cooperative)_toilet_32 cooperative_sofa_32": r"\1_chair_32",  # not in the tree
    r"cooperative_bed_32": "cooperative_chair_32",
    r"(descnet3d evaluate (?!superres|recovery|\./|--paper).*)$": r"\1 --num=8",
    r"(descnet3d evaluate --paper.*)$": r"\1 --num=8",
    r"(evaluate.* --num)=192 --num=8$": r"\1=20",
    r"(synthesize.* --num)=16": r"\1=4",
    r"(generate.* --num)=64": r"\1=8",
    r"(descnet3d finetune (?!.*--steps).*)$": r"\1 --steps=4 --sheet_every=0",
    r"(descnet3d train .*)$": r"\1 --matching_steps=8 --average=.5 --sampling_steps=20",
    # Not what a page shows as a file of the user's own.
    r"^(\.venv/bin/ruff (check|format --check))$": r"\1 benchmarks descnet3d docs tests tutorials",
    r"pytest -n 2 --dist=worksteal": "pytest -q -p no:cacheprovider tests/test_tables.py",
    r"(faults\.py)$": r"\1 --only=places",
    r"(memory\.py .*)--counts 10000": r"\1--counts 16",
    r"(voxelization\.py)$": r"\1 --count=8 --size=32 --rounds=1 --sample=4",
    r"(cooperation\.py .*)$": r"\1 --num=8",
    r"(cooperation\.py .*--presets )cooperative_chair_32": r"\1./quick_cooperative",
    r"(benchmarks/finetuning\.py .*)$": r"\1 --steps=4 --scratch_steps 4 --num=8",
    r"(label_efficiency\.py .*)$": r"\1 --shares .2",
    r"(reconstruction\.py .*)$": r"\1 --steps=4 --shapes=2 --categories toilet",
    r"(faster_start\.py .*)--minutes=4": r"\1--minutes=.1",
    r"(small_batches\.py) --rounds=2": r"\1 --rounds=1",
    r"(freed_memory\.py) --steps=25 --rounds=3": r"\1 --steps=2 --rounds=1",
    r"(langevin_step\.py .*)--rounds=\d": r"\1--rounds=1 --network=base --no_iteration",
    r"(workers\.py .*)--rounds=\d+ --iterations=\d": r"\1--rounds=1 --iterations=2",
    r"(tutorials/build\.py 01_synthesise)": r"\1 --small",
    r"^(\.venv/bin/python tutorials/0)": r"DESCNET3D_TUTORIALS=small \1",
    r"--nnodes=2 ": "--nnodes=1 ",
    r"^(KERAS_BACKEND=tensorflow python hosts\.py)$": (
        r'TF_CONFIG="${TF_CONFIG/\"index\": 0/\"index\": 1}" \1 & \1'
    ),
}


def pages() -> list[Path]:
    """Those that a reader finds, in the order of the site."""
    guide = sorted((ROOT / "docs").glob("**/*.md"))
    return [ROOT / "README.md", *guide, ROOT / "tutorials/README.md", ROOT / "CONTRIBUTING.md"]


def commands_of(text: str) -> Iterator[str]:
    """Every command of a page, in its order; chains are taken apart."""
    shown = re.compile(
        r"^```(?:bash|sh)\n(?P<block>.*?)^```|^```.*?^```|`(?P<inline>[^`]+)`", re.DOTALL | re.M
    )
    for found in shown.finditer(text):
        if found["block"]:
            # Strings of several lines are one line to the shell, too, and keep their line breaks.
            lines = re.findall(r"(?:'[^']*'|[^'\n])+", found["block"].replace("\\\n", " "))
        else:
            line = " ".join((found["inline"] or "").split())
            named = re.match(r"(descnet3d (?!\w+$)|descnet3d presets$|python |\.venv/bin/)", line)
            lines = [line] if named else []
        for line in lines:
            for part in re.sub(r"(^|\s)# .*", "", line).split(" && "):
                if part.strip() and not INSTALLS.search(part):
                    yield part if "\n" in part else " ".join(part.split())


def changed(command: str) -> str:
    """A command as it is run here."""
    for pattern, other in CHANGES.items():
        command = re.sub(pattern, other, command)
    return command.replace("PORT", str(PORT))


def few(archive: VoxelArchive, count: int) -> VoxelArchive:
    """So many training shapes of each category, and half as many test shapes."""
    kept = []
    for label in np.unique(archive.labels):
        for split, most in ((False, count), (True, count // 2)):
            of_both = (archive.labels == label) & (archive.is_test == split)
            kept += np.flatnonzero(of_both)[:most].tolist()
    rows = np.array(kept)
    return archive._replace(
        occupancy=archive.occupancy[rows],
        labels=archive.labels[rows],
        is_test=archive.is_test[rows],
        ids=tuple(archive.ids[row] for row in rows),
    )


def make_stand_ins(folder: Path, data: Path) -> None:
    """What the pages call the user's own, of real shapes, by the package itself."""
    archive = few(read_archive(data / "modelnet10_32.npz"), 40)
    write_archive(folder / "modelnet10_32.npz", archive)
    fine = few(read_archive(data / "modelnet10_bed_64.npz"), 12)
    write_archive(folder / "modelnet10_bed_64.npz", fine)
    grid_files.write_grids(folder / "coarse.npz", blocks.average(fine.occupancy[:2], 4))

    def shapes(category: str, count: int) -> np.ndarray:
        return archive.occupancy[archive.labels == archive.classes.index(category)][:count]

    for path, category in {
        "my_chairs/chair/c.off": "chair",
        "my_shapes/chair/s.ply": "chair",
        "my_benches/bench/b.obj": "table",
    }.items():
        (folder / path).parent.mkdir(parents=True)
        mesh_writers.save_all(shapes(category, 12), folder / path)
    grid_files.write_grids(folder / "nine_chairs.npz", shapes("chair", 9))
    for path, category in {"damaged.off": "sofa", "damaged.obj": "chair"}.items():
        shape = shapes(category, 1)[0].copy()
        middle = np.argwhere(shape).mean(axis=0).astype(int)
        shape[middle[0] - 3 : middle[0] + 3, :, middle[2] :] = False
        mesh = surfaces.from_occupancy(shape)
        if path.endswith(".obj"):  # with y up, as `--up=y` is shown with it
            mesh.rotate(mesh.get_rotation_matrix_from_xyz((-np.pi / 2, 0, 0)), (0, 0, 0))
        mesh_writers.save(mesh, folder / path)
    assert shape_files.load_shape(folder / "damaged.off", 32).occupancy.any()

    quick = folder / "quick_cooperative"  # its rivals are taught for as long as it was
    shutil.copytree(ROOT / "zoo/cooperative_chair_32", quick)
    config = (quick / "config.json").read_text(encoding="utf-8")
    config = re.sub(r'("core_minutes": )[\d.]+', r"\g<1>0.1", config)
    (quick / "config.json").write_text(config, encoding="utf-8")
    page = (ROOT / "docs/guide/devices.md").read_text(encoding="utf-8")
    for file in re.finditer(r"<!-- file: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL):
        (folder / file[1]).write_text(file[2], encoding="utf-8")


def copy_of_the_tree(folder: Path) -> None:
    """The files that git knows or would take, and the environment that runs this."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)


def run(command: str, folder: Path, limit: float) -> tuple[int, float, str]:
    """A command's status, seconds and output; what it exports stays for those after it."""
    state, told = folder.parent / "exported", folder.parent / "told"
    script = f". {state}\n{command}\nstatus=$?\nexport -p > {state}\nexit $status\n"
    started = time.monotonic()
    with open(told, "w+b") as output:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = 124
        if command.endswith("&"):
            LEFT_RUNNING.append(process.pid)
        else:
            end(process.pid)
        seconds = time.monotonic() - started
        output.seek(0)
        return status, seconds, output.read().decode("utf-8", "replace")


def end(group: int) -> None:
    """Ends what a command left running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)


def main() -> int:
    """Runs them, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data", help="real shapes")
    parser.add_argument("--only", default="", help="a pattern of pages or commands")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a command may take")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--keep", action="store_true", help="the folder, to look at")
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="documented_"))
    folder = top / "descnet3d"
    folder.mkdir()
    (top / "shared").mkdir()
    (top / "shared/data").symlink_to(given.data.resolve())
    copy_of_the_tree(folder)
    make_stand_ins(folder, given.data)
    hub = Hub()
    (top / "exported").write_text(
        f"export HF_ENDPOINT={hub.address} HF_HOME='{top}/hf' HF_HUB_DISABLE_XET=1 NO_PROXY='*'\n"
        f"export PATH='{sys.prefix}/bin':\"$PATH\" TF_CPP_MIN_LOG_LEVEL=3 "
        f"DESCNET3D_CACHE='{top}/cache' DESCNET3D_ZOO='{folder}/zoo' "
        "HOST=localhost OTHER=localhost INDEX=0\n"
    )
    seen: set[str] = set()
    rows, failed = [], 0
    for page in pages():
        name = str(page.relative_to(ROOT))
        for shown in commands_of(page.read_text(encoding="utf-8")):
            reason = next((why for what, why in LEFT_OUT.items() if re.search(what, shown)), "")
            command = changed(shown)
            if command in seen or not re.search(given.only, f"{name}: {command}"):
                continue
            seen.add(command)
            if reason:
                rows.append([name, f"`{shown}`", f"left out: {reason}", ""])
                continue
            status, seconds, told = run(command, folder, given.limit)
            note = "changed" if command != shown else ""
            rows.append([name, f"`{command}`", str(status), f"{seconds:.0f}", note])
            print(f"{name}: {command}: {status} after {seconds:.0f} s", flush=True)
            if status:
                failed += 1
                print("\n".join(told.splitlines()[-12:]), flush=True)
    for group in LEFT_RUNNING:
        end(group)
    hub.stop()
    headings = ["page", "command", "exit status", "seconds", ""]
    table = tabulate(rows, headings, "github", disable_numparse=True)
    table += f"\n\n{len(rows)} commands, {failed} failed.\n"
    if given.out:
        given.out.write_text(table, encoding="utf-8")
    print(table)
    if not given.keep:
        shutil.rmtree(top, ignore_errors=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
