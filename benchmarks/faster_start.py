"""At equal processor time: the paper's recipe, pretraining, and the two in turn.

    python benchmarks/faster_start.py --data=../shared/data/modelnet10_32.npz --minutes=10

All three train the `base` network on the same shapes, one after another, each for the same
processor time (of all threads together, so that other work on the machine does not count). The
paper's recipe is maximum likelihood alone, with persistent chains from noise, at the learning rate
and the settings at which it is stable on a small network. The table shows what 64 shapes from fresh
noise are worth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import keras

from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation.synthesis import Reference, score_real_shapes, score_shapes
from descnet3d.shapes import sheets
from descnet3d.training.recipes import RECIPES
from descnet3d.training.run import train

PAPER = RECIPES["paper"].changed(
    network="base",
    voxel_mean=0.5,
    batch_size=25,
    step_per_pass=False,
    likelihood_learning_rate=1e-4,
    clip_norm=10.0,
    chains_count=100,
    langevin_step_size=0.0866,
    langevin_initial_std=0.5,
    sampling_steps=400,
    sampling_step_size=0.0866,
    sampling_initial_std=0.5,
    sampling_rounds=1,
)


class StopAfter(keras.callbacks.Callback):
    """Ends a phase when its processor time is spent."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.batches = seconds, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.batches == 1:  # the first batch compiles
            self.started = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches > 1 and time.process_time() - self.started > self.seconds:
            self.model.stop_training = True


def seconds_per_step(shapes, recipe, **steps):
    """The processor time of one iteration."""
    timer = StopAfter(8.0)
    with tempfile.TemporaryDirectory() as folder:
        train(shapes, recipe.changed(**steps), folder, callbacks=lambda *phase: [timer])
    return (time.process_time() - timer.started) / timer.batches


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--category", default="toilet")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--finish", type=float, default=0.2, help="share of maximum likelihood")
    parser.add_argument("--sheets", help="a folder for a sheet of each")
    options = parser.parse_args()
    archive = read_archive(options.data)
    chosen = archive.labels == archive.classes.index(options.category)
    shapes = archive.occupancy[chosen & ~archive.is_test]
    base, budget = RECIPES["base"], 60 * options.minutes
    matching = seconds_per_step(shapes, base, matching_steps=10**6, likelihood_steps=0)
    finish = seconds_per_step(shapes, base, matching_steps=0, likelihood_steps=10**6)
    print(f"one iteration: pretraining {matching:.3f} s, likelihood {finish:.3f} s", flush=True)
    alone = round(budget / matching)
    turns = {
        "paper's recipe": PAPER,
        "pretraining": base.changed(matching_steps=alone, likelihood_steps=0),
        "in turn": base.changed(
            matching_steps=round((1 - options.finish) * alone),
            likelihood_steps=max(1, round(options.finish * budget / finish)),
        ),
    }
    reference = Reference(archive, options.category)
    rows = {"real test shapes": (score_real_shapes(reference, 64), 0.0)}
    for name, recipe in turns.items():
        limit = budget if recipe is PAPER else float("inf")
        with tempfile.TemporaryDirectory() as folder:
            run = train(shapes, recipe, folder, callbacks=lambda *phase, n=limit: [StopAfter(n)])
        made = run.model.synthesize(64, seed=0)
        rows[name] = (score_shapes(made, reference), run.core_minutes)
        if options.sheets:
            folder = Path(options.sheets)
            folder.mkdir(parents=True, exist_ok=True)
            sheets.save_sheet(
                made[:8], folder / f"{name.replace(' ', '_')}.png", columns=8, tile=160
            )
    print("| | core minutes | nearest share | nearest IoU | occupancy ratio | empty | alike |")
    print("|---|---|---|---|---|---|---|")
    for name, (scores, minutes) in rows.items():
        print(
            f"| {name} | {minutes:.1f} | {scores.nearest_share:.3f} | {scores.nearest_iou:.3f} "
            f"| {scores.occupancy_ratio:.3f} | {scores.empty} | {scores.alike} |"
        )


if __name__ == "__main__":
    main()
