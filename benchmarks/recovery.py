"""Recovery and super-resolution presets beside what else could do their task.

    python benchmarks/recovery.py --data=modelnet10_32.npz --presets recovery_toilet_32

For each preset, on the test shapes of its category (hidden voxels by a fixed seed, or block
averages): the preset; the descriptor of the same category that was trained to synthesise, where
there is one; the mean training shape; the nearest training shape by what is known; and a plain
regression network (corrupted in, whole out, squared error): the drawing part U of the same network,
trained on the same shapes for `--steps` iterations of the preset's batch size. The paper's recovery
errors stand beside them where it has one.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
from keras import layers

from descnet3d.datasets.archives import read_archive
from descnet3d.energy.tasks import Recovery, condition_of
from descnet3d.evaluation import reconstruction
from descnet3d.models import networks
from descnet3d.models.batches import VoxelBatches
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.zoo import presets

# Mean absolute error of occluded voxels, 70 % of them, as DESIGN has it of the conference paper.
PAPER = {
    "bathtub": 0.0152,
    "bed": 0.0068,
    "chair": 0.0118,
    "desk": 0.0122,
    "dresser": 0.0038,
    "monitor": 0.0103,
    "night_stand": 0.0080,
    "sofa": 0.0068,
    "table": 0.0051,
    "toilet": 0.0119,
}


class Pairs(keras.utils.PyDataset):
    """What is known of shapes, and the shapes, both in model space."""

    def __init__(self, shapes, task, batch_size, mirror_axes, seed):
        super().__init__()
        corruption = task.corruption if isinstance(task, Recovery) else None
        self.task = task
        self.batches = VoxelBatches(
            shapes, batch_size, seed=seed, mirror_axes=mirror_axes, corruption=corruption
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
        problem = self.task.pose(batch)
        return problem.known[..., None] - 0.5, batch[..., None] - 0.5


def regression(size: int, reference_std: float) -> keras.Model:
    """The drawing part of the base network, from patches back to a grid."""
    base = networks.build("base", size, reference_std)
    patches = base.get_layer("redrawn").output
    patch = round(patches.shape[-1] ** (1 / 3))
    side = size // patch
    drawn = layers.Reshape((side, side, side, patch, patch, patch))(patches)
    drawn = layers.Reshape((size,) * 3 + (1,))(layers.Permute((1, 4, 2, 5, 3, 6))(drawn))
    return keras.Model(base.inputs, layers.Rescaling(reference_std)(drawn))


def train_regression(shapes, task, recipe, steps, seed) -> tuple[keras.Model, float]:
    """The trained network, and the processor minutes that it took."""
    keras.utils.set_random_seed(seed)
    network = regression(shapes.shape[1], recipe["reference_std"])
    mirror_axes = tuple(int(axis) for axis in recipe["mirror_axes"] or "")
    pairs = Pairs(shapes, task, recipe["batch_size"], mirror_axes, seed)
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
    return network, (time.process_time() - started) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--presets", required=True, nargs="+", help="their ids or folders")
    parser.add_argument("--steps", type=int, default=4000, help="of the regression; 0: without it")
    parser.add_argument("--seed", type=int, default=0, help="of hidden voxels and regression")
    options = parser.parse_args()
    archive = read_archive(options.data)
    for name in options.presets:
        folder = presets.find(name)
        model = DescriptorNet.from_preset(folder)
        category, recipe = model.preset["category"], model.preset["recipe"]
        task = condition_of(recipe)
        if task is None:
            parser.error(f"{name} is a preset of synthesis")
        scores = reconstruction.evaluate_reconstruction(
            model, task, archive, category, seed=options.seed
        )
        own = archive.labels == archive.classes.index(category)
        problem = task.pose(archive.occupancy[own & archive.is_test], options.seed)
        try:
            other = presets.load(category)
        except ValueError:
            other = None
        if other is not None and other.grid == model.grid:
            found = reconstruction.solve(other, task, problem, seed=options.seed)
            scores["descriptor trained to synthesise"] = reconstruction.score(found, problem)
        if options.steps:
            network, minutes = train_regression(
                archive.occupancy[own & ~archive.is_test], task, recipe, options.steps, options.seed
            )
            known = (
                problem.known - 0.5
                if problem.coarse is not None
                else np.where(problem.hidden, 0.0, problem.truth - 0.5)
            )
            drawn = network.predict(known[..., None], batch_size=8, verbose=0)[..., 0] + 0.5
            found = np.where(problem.hidden, np.clip(drawn, 0, 1), problem.truth)
            scores["regression network"] = reconstruction.score(found, problem)
        print(f"\n{model.preset.get('id', name)}, seed {options.seed}\n")
        print(reconstruction.scores_by_name(scores))
        if isinstance(task, Recovery) and category in PAPER:
            print(f"\npaper's absolute error: {PAPER[category]:.4f}")
        if options.steps:
            weights = network.count_params()
            print(f"regression: {weights:,} weights, {minutes:.1f} core minutes of training")


if __name__ == "__main__":
    main()
