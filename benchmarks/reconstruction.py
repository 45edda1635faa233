"""Recovery and super-resolution of test shapes beside what else could do it.

    python benchmarks/reconstruction.py --data=modelnet10_32.npz --json=reconstruction.json

For each task (hidden voxels by a fixed seed, or averages of blocks) and category: the descriptor;
its first drawing alone, without any descent; with `--num_samples`, several wholes of each shape:
one in the mean, the best, and their average; the baselines of `descnet3d evaluate`; and a
regression network of the category, corrupted or coarse in, whole out, by the squared error: the
drawing part U of the network `base`, trained on the same shapes for `--steps` iterations. What
descriptor and network give is measured as it is, and rounded to 0 or 1. The paper's recovery errors
stand beside them where it has one. What a JSON file has already is not measured again, so that a
run which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

import descnet3d
from descnet3d.datasets.archives import VoxelArchive, read_archive
from descnet3d.energy.tasks import Condition, Problem, Recovery, SuperResolution, task_of
from descnet3d.evaluation import paper, reconstruction
from descnet3d.files import replacing
from descnet3d.models import networks
from descnet3d.models.batches import VoxelBatches
from descnet3d.shapes import blocks
from descnet3d.tables import table
from descnet3d.training.recipes import RECIPES

REFERENCE_STD = 0.5
TASKS = ("voxels:0.7", "half", "block", "scan", "8", "16")


def condition_named(name: str) -> Condition:
    """Of a corruption, or of the side of a coarse grid."""
    return SuperResolution(32 // int(name)) if name.isdigit() else Recovery(name)


class Pairs(keras.utils.PyDataset):
    """What is known of shapes, and the shapes, both in model space."""

    def __init__(self, shapes, condition, mirror_axes, seed):
        super().__init__()
        corruption = condition.corruption if isinstance(condition, Recovery) else None
        self.condition = condition
        self.batches = VoxelBatches(
            shapes, 8, seed=seed, mirror_axes=mirror_axes, corruption=corruption
        )

    def __len__(self):
        return len(self.batches)

    def on_epoch_end(self):
        self.batches.epoch += 1

    def __getitem__(self, index):
        batch = self.batches[index]
        if isinstance(batch, dict):
            truth = batch["occupancy"] - 0.5
            return np.where(batch["visible"], truth, 0.0)[..., None], truth[..., None]
        return self.condition.pose(batch).known[..., None] - 0.5, batch[..., None] - 0.5


def regression(size: int) -> keras.Model:
    """The drawing part of the base network, from patches back to a grid."""
    base = networks.build("base", size, REFERENCE_STD)
    patches = base.get_layer("redrawn").output
    patch = round(patches.shape[-1] ** (1 / 3))
    side = size // patch
    drawn = layers.Reshape((side, side, side, patch, patch, patch))(patches)
    drawn = layers.Reshape((size,) * 3 + (1,))(layers.Permute((1, 4, 2, 5, 3, 6))(drawn))
    return keras.Model(base.inputs, layers.Rescaling(REFERENCE_STD)(drawn))


def regressed(shapes, condition, problem: Problem, axes, steps: int, seed: int):
    """What a trained regression network makes of the problem, and its processor minutes."""
    keras.utils.set_random_seed(seed)
    network = regression(shapes.shape[1])
    pairs = Pairs(shapes, condition, axes, seed)
    epochs = max(1, round(steps / len(pairs)))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * len(pairs), alpha=0.02, warmup_target=1e-3, warmup_steps=50
    )
    network.compile(
        keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.998, global_clipnorm=1.0),
        loss="mse",
        jit_compile=False,
    )
    started = time.process_time()
    network.fit(pairs, epochs=epochs, shuffle=False, verbose=0)
    minutes = (time.process_time() - started) / 60
    known = problem.known - 0.5
    if problem.coarse is None:
        known = np.where(problem.hidden, 0.0, problem.truth - 0.5)
    drawn = network.predict(known[..., None], batch_size=8, verbose=0)[..., 0] + 0.5
    return np.where(problem.hidden, np.clip(drawn, 0, 1), problem.truth), minutes


def first_drawing(model, condition, problem: Problem, seed: int) -> np.ndarray:
    """What the odds say of pure noise and what is known, rounded: a regression network's answer."""
    schedule = model.sampling
    first = schedule.first_level
    model.sampling = replace(schedule, last_level=first, reconstruction_steps=1)
    try:
        found = reconstruction.solve(model, condition, problem, seed=seed)
    finally:
        model.sampling = schedule
    return found if problem.coarse is not None else (found > 0.5).astype(np.float32)


def measured(archive: VoxelArchive, model, name: str, category: str, options, found: dict) -> dict:
    """The rows of a task and a category that are not found yet, by name."""
    condition, label = condition_named(name), archive.classes.index(category)
    own = archive.labels == label
    training = archive.occupancy[own & ~archive.is_test]
    shapes = archive.occupancy[own & archive.is_test][: options.shapes]
    problem = condition.pose(shapes, options.seed)
    rows: dict[str, dict] = {}

    def add(row: str, shapes: np.ndarray, **more: float) -> None:
        rows[row] = {**asdict(reconstruction.score(shapes, problem)), **more}

    if options.steps and "regression network" not in found:
        axes = RECIPES["annealed"].mirrored().get(category, ())
        drawn, minutes = regressed(training, condition, problem, axes, options.steps, options.seed)
        add("regression network", drawn, core_minutes=minutes)
        add("regression network, rounded", np.round(drawn), core_minutes=minutes)
        if problem.coarse is not None:
            held = blocks.with_means(drawn, problem.coarse)
            add("regression network, averages held", held, core_minutes=minutes)
    for baseline in task_of(condition).baselines:
        if baseline not in found:
            add(baseline, reconstruction.BASELINES[baseline](problem, training))
    if model is not None and "first drawing" not in found:
        drawn = first_drawing(model.bound_to(category), condition, problem, options.seed)
        add("first drawing", drawn)
    if model is not None and "descriptor" not in found:
        bound = model.bound_to(category)
        drawn = reconstruction.solve(bound, condition, problem, seed=options.seed)
        add("descriptor", drawn)
        add("descriptor, rounded", np.round(drawn))
    if model is not None and options.num_samples and "samples averaged" not in found:
        bound = model.bound_to(category)
        asked = {"num_samples": options.num_samples, "seed": options.seed, "batch_size": 32}
        samples = condition.solve(bound, problem, **asked)
        each = [
            asdict(reconstruction.score(samples[:, k], problem)) for k in range(samples.shape[1])
        ]
        rows["mean of samples"] = {key: float(np.mean([e[key] for e in each])) for key in each[0]}
        add("best of samples", reconstruction.best_of(samples, problem))
        average = samples.mean(axis=1)
        add("samples averaged", average)
        add("samples averaged, rounded", np.round(average))
    return rows


def summary(kept: dict, name: str, categories, of: str) -> str:
    """The absolute error and IoU of each way, by category; the paper's error where it has one."""
    found = {each: kept[f"{name} {each} {of}"] for each in categories}
    columns = list(dict.fromkeys(row for rows in found.values() for row in rows))
    columns.sort(key=lambda row: row != "descriptor")

    def cell(rows: dict, column: str) -> str | None:
        if column not in rows:
            return None
        figures = f"{rows[column]['absolute_error']:.4f}, {rows[column]['iou']:.3f}"
        return figures.replace("0.", ".")

    shown = {each: [cell(rows, column) for column in columns] for each, rows in found.items()}
    if name == "voxels:0.7":
        columns.append("paper")
        for each, error in zip(
            paper.CATEGORIES, paper.PAPER_RECOVERY["3D DescriptorNet"], strict=True
        ):
            if each in shown:
                shown[each].append(f"{error:.4f}".replace("0.", "."))
    return table(shown, columns, corner=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--json", required=True, help="where figures are kept")
    parser.add_argument("--model", default="recovery_modelnet10_32", help="none: rivals alone")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="corruptions, or coarse sides")
    parser.add_argument("--categories", nargs="+", help="of the archive; all if absent")
    parser.add_argument("--steps", type=int, default=2000, help="of the regression; 0: without it")
    parser.add_argument("--num_samples", type=int, default=0, help="wholes of each shape, as well")
    parser.add_argument("--shapes", type=int, help="test shapes of each category; all if absent")
    parser.add_argument("--seed", type=int, default=0, help="of hidden voxels, chains, regression")
    options = parser.parse_args()
    archive = read_archive(options.data)
    model = None if options.model == "none" else descnet3d.load(options.model)
    path = Path(options.json)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    of = f"{options.seed} {options.shapes} shapes" if options.shapes else str(options.seed)
    for name in options.tasks:
        for category in options.categories or archive.classes:
            rows = kept.setdefault(f"{name} {category} {of}", {})
            rows |= measured(archive, model, name, category, options, rows)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(f"\n{category}, {name}, seed {options.seed}\n")
            columns = ["absolute_error", "squared_error", "iou"]
            shown = {row: [figures[key] for key in columns] for row, figures in rows.items()}
            print(table(shown, columns), flush=True)
    for name in options.tasks:
        print(f"\n{summary(kept, name, options.categories or archive.classes, of)}")


if __name__ == "__main__":
    main()
