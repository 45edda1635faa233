"""What fine-tuning is worth on a folder of meshes: a third of the iterations against all of them.

    python benchmarks/finetuning.py --out=runs [--steps=300] [--scratch_steps=900] [--starts auto]
    KERAS_BACKEND=torch python benchmarks/finetuning.py --out=runs --native=bfloat16

Makes a folder of benches (meshes of boxes, with and without backs and arms, of many proportions;
none of the presets has seen one), trains a preset from scratch and one from a preset that there is,
by the commands that a user would give, and prints the figures of both beside those of the real test
shapes. Both are annealed descriptors, whose energy is fitted in half as many iterations more. What
they have learned of benches that they never saw is told by the denoising loss of the test shapes
and by recovering these, 70 % hidden; the other columns are of shapes from fresh noise. A run that
was interrupted goes on, and one that was trained, on the other backend too, is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import trimesh

from descnet3d.datasets import sources
from descnet3d.energy.tasks import TUNABLE_ANNEALED
from descnet3d.evaluation import reconstruction
from descnet3d.evaluation.paper import HIDDEN
from descnet3d.evaluation.synthesis import Reference, evaluate_synthesis
from descnet3d.models.preset_config import read_config
from descnet3d.training import finetuning
from descnet3d.zoo import presets

LEARNED = ("training loss", "held-out loss", "recovery error")
COLUMNS = (
    "nearest_iou",
    "occupancy_ratio",
    "one_piece",
    "coverage",
    "matching_distance",
    "pairwise_iou",
)
RECOVERED = 40


def bench(rng: np.random.Generator) -> trimesh.Trimesh:
    """A seat on four legs or two planks, perhaps with a back and arms, in metres, z up."""
    length, depth, height = rng.uniform(0.9, 2.2), rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.55)
    thick, leg = rng.uniform(0.05, 0.09), rng.uniform(0.06, 0.1)
    inset = rng.uniform(0, 0.25 * length)
    parts = [((length, depth, thick), (0, 0, height))]
    if rng.random() < 0.5:
        for side in (-1, 1):
            for front in (-1, 1):
                place = (
                    side * (length / 2 - inset - leg / 2),
                    front * (depth - leg) / 2,
                    height / 2,
                )
                parts.append(((leg, leg, height), place))
    else:
        for side in (-1, 1):
            place = (side * (length / 2 - inset - leg / 2), 0, height / 2)
            parts.append(((leg, depth, height), place))
    back = rng.uniform(0.3, 0.55)
    if rng.random() < 0.6:
        parts.append(((length, thick, back), (0, (depth - thick) / 2, height + back / 2)))
    if rng.random() < 0.4:
        arm = rng.uniform(0.15, 0.25)
        for side in (-1, 1):
            place = (side * (length - thick) / 2, 0, height + arm / 2)
            parts.append(((thick, depth, arm), place))
    return trimesh.util.concatenate(
        [
            trimesh.creation.box(size, trimesh.transformations.translation_matrix(place))
            for size, place in parts
        ]
    )


def make_meshes(folder: Path) -> None:
    """Eighty benches for training, and two hundred for testing, as .off files."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 200)):
        (folder / "bench" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            bench(rng).export(folder / "bench" / split / f"bench_{number:03d}.off")


def run(*words: object) -> None:
    """A command, as a user gives it; what it prints goes on."""
    print("$ descnet3d", *words, flush=True)
    subprocess.run([sys.executable, "-m", "descnet3d.commands.cli", *map(str, words)], check=True)


def main() -> None:
    """Trains both, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scratch_steps", type=int, nargs="+", default=[900])
    parser.add_argument("--starts", nargs="+", default=["auto"])
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument("--native", default="no", help="as --denoising_native of train")
    given = parser.parse_args()
    meshes = given.out / "meshes"
    if not meshes.exists():
        make_meshes(meshes)
    same = [f"--data={meshes}", "--category=bench", "--mirror_axes=0", "--sheet_every=0"]
    same += [f"--denoising_native={given.native}"]
    tuned = {start: given.out / f"from_{start}_{given.steps}" for start in given.starts}
    scratch = {steps: given.out / f"scratch_{steps}" for steps in given.scratch_steps}
    for start, folder in tuned.items():
        if not (folder / "card.md").exists():
            run("finetune", f"--from={start}", *same, f"--steps={given.steps}", f"--out={folder}")
    for steps, folder in scratch.items():
        if not (folder / "card.md").exists():
            phases = [f"--denoising_steps={steps}", f"--gradient_steps={steps // 2}"]
            average = f"--average={TUNABLE_ANNEALED['average']}"
            run("train", "--recipe=annealed", average, *phases, *same, f"--out={folder}")

    archive = sources.read_shapes(meshes, keep_in=given.out)
    reference = Reference(archive, "bench")
    test, trained = reference.test, reference.training(80)
    problem = HIDDEN.pose(test[:RECOVERED])
    print(f"| | iterations | core minutes | {' | '.join(LEARNED + COLUMNS)} |")
    print("|---" * (len(LEARNED + COLUMNS) + 3) + "|")
    for folder in (*tuned.values(), *scratch.values()):
        training = read_config(folder)["training"]
        recipe, model = training["recipe"], presets.load(folder)
        recovered = reconstruction.score(reconstruction.solve(model, HIDDEN, problem), problem)
        scores, real = evaluate_synthesis(model, reference, num=given.num, seed=0)
        name = f"fine-tuned from `{recipe['start']}`" if recipe["start"] else "from scratch"
        cells = [
            f"{recipe['denoising_steps']}",
            f"{training['core_minutes']:.1f}",
            *(f"{finetuning.denoising_loss(model, shapes):.4f}" for shapes in (trained, test)),
            f"{recovered.absolute_error:.4f}",
            *(f"{getattr(scores, column):.3f}" for column in COLUMNS),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cells = [""] * (2 + len(LEARNED)) + [f"{getattr(real, column):.3f}" for column in COLUMNS]
    print(f"| real shapes | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
