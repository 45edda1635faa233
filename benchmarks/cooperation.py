"""What the descriptor's teaching is worth: the same generator, taught by the shapes alone.

    python benchmarks/cooperation.py --data=modelnet10_32.npz --presets cooperative_toilet_32

For each cooperative preset two more generators of its size are trained on the same shapes, each for
the processor time that the preset's generator took (autoencoder and cooperation together): as the
decoder of a variational autoencoder, and by plain regression of the shapes on their whitened
principal components. Sixty-four shapes each, of the same latents, as they are and revised by the
preset's descriptor, against the training shapes of all categories.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
from sklearn.decomposition import PCA

from descnet3d import evaluation, generators, outputs, presets
from descnet3d.batches import VoxelBatches
from descnet3d.models.autoencoder import VariationalAutoencoder
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.voxels import read_archive


class UntilTime(keras.callbacks.Callback):
    """Lowers the learning rate by a cosine over the processor time, and ends the fit at its end."""

    def __init__(self, seconds, rate):
        super().__init__()
        self.seconds, self.rate = seconds, rate
        self.started = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        share = min(1.0, (time.process_time() - self.started) / self.seconds)
        decay = 0.02 + 0.98 * (1 + np.cos(np.pi * share)) / 2
        self.model.optimizer.learning_rate.assign(self.rate * decay)
        if share >= 1:
            self.model.stop_training = True


class Pairs(keras.utils.PyDataset):
    """Whitened principal components and their shapes, in model space."""

    def __init__(self, shapes, batch_size, length, mirror_axes, voxel_mean, seed):
        super().__init__()
        self.voxel_mean = voxel_mean
        self.batches = VoxelBatches(shapes, batch_size, seed=seed, mirror_axes=mirror_axes)
        mirrored = [np.flip(shapes, axis=axis + 1) for axis in mirror_axes]
        every = np.concatenate([shapes, *mirrored]).reshape(-1, shapes[0].size)
        self.components = PCA(length, whiten=True, random_state=seed).fit(every.astype(np.float32))

    def __len__(self):
        return len(self.batches)

    def on_epoch_end(self):
        self.batches.epoch += 1

    def __getitem__(self, index):
        batch = self.batches[index]
        latents = self.components.transform(batch.reshape(len(batch), -1))
        return latents.astype(np.float32), batch[..., None] - self.voxel_mean


def autoencoded(shapes, recipe, seconds, rate):
    """The decoder of a variational autoencoder, and what it took."""
    keras.utils.set_random_seed(recipe["seed"])
    length, side = recipe["generator_latents"], shapes.shape[1]
    generator = generators.generator(side, latents=length, voxel_mean=recipe["voxel_mean"])
    model = VariationalAutoencoder(
        generator,
        generators.encoder(side, latents=length),
        generator_std=recipe["generator_std"],
        voxel_mean=recipe["voxel_mean"],
    )
    batches = -(-len(shapes) // recipe["generator_batch_size"])
    warmup = round(recipe["generator_steps"] / batches / 3)  # as in the preset's own recipe
    optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.99)
    model.compile(optimizer, divergence_warmup=warmup)
    clock = UntilTime(seconds, rate)
    model.fit(
        shapes,
        batch_size=recipe["generator_batch_size"],
        mirror_axes=tuple(map(int, recipe["mirror_axes"])),
        epochs=10**6,
        callbacks=[clock],
        verbose=0,
    )
    return generator, (time.process_time() - clock.started) / 60


def regressed(shapes, recipe, seconds, rate):
    """A generator of principal components, and what it took."""
    keras.utils.set_random_seed(recipe["seed"])
    length, side = recipe["generator_latents"], shapes.shape[1]
    generator = generators.generator(side, latents=length, voxel_mean=recipe["voxel_mean"])
    # From an occupancy of one half this loss runs into empty shapes, where the sigmoid is flat.
    mean = shapes.mean()
    generator.get_layer("occupancy").bias.assign([np.log(mean / (1 - mean))])
    started = time.process_time()
    pairs = Pairs(
        shapes,
        recipe["generator_batch_size"],
        length,
        tuple(map(int, recipe["mirror_axes"])),
        recipe["voxel_mean"],
        recipe["seed"],
    )
    optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.99)
    scale = shapes[0].size / (2 * recipe["generator_std"] ** 2)

    def loss(truth, drawn):  # -log p(Y | Z), on the scale of the autoencoder's
        return scale * keras.losses.mean_squared_error(truth, drawn)

    generator.compile(optimizer, loss=loss, jit_compile=False)
    clock = UntilTime(seconds, rate)
    clock.started = started
    generator.fit(pairs, epochs=10**6, shuffle=False, callbacks=[clock], verbose=0)
    return generator, (time.process_time() - started) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--presets", required=True, nargs="+", help="their ids or folders")
    rivals = ("autoencoder", "regression")
    parser.add_argument("--rivals", nargs="+", choices=rivals, default=rivals, help="taught beside")
    parser.add_argument("--num", type=int, default=64, help="shapes of each generator")
    parser.add_argument("--seed", type=int, default=0, help="of their latents")
    options = parser.parse_args()
    outputs.keep_freed_memory()
    archive = read_archive(options.data)
    for name in options.presets:
        model = presets.load(presets.find(name, "cooperative"))
        if not isinstance(model, CooperativeNet):
            parser.error(f"{name} is no cooperative preset")
        training = model.preset["training"]
        category, recipe = model.preset["category"], training["recipe"]
        own = archive.labels == archive.classes.index(category)
        shapes = archive.occupancy[own & ~archive.is_test]
        seconds, rate = 60 * training["core_minutes"], recipe["generator_learning_rate"]
        rows = {"cooperative": (model.generator, training["core_minutes"])}
        if "autoencoder" in options.rivals:
            rows["variational autoencoder"] = autoencoded(shapes, recipe, seconds, rate)
        if "regression" in options.rivals:
            rows["regression on components"] = regressed(shapes, recipe, seconds, rate)
        reference = evaluation.Reference(archive, category)
        columns, energies, minutes = {}, {}, {}
        for label, (generator, took) in rows.items():
            other = CooperativeNet(
                model, generator, generator_std=model.generator_std, revision=model.revision
            )
            for kind, made in (
                ("", other.generate(options.num, seed=options.seed)),
                (", revised", other.synthesize(options.num, seed=options.seed)),
            ):
                columns[label + kind] = evaluation.score_shapes(made, reference)
                energies[label + kind] = float(model.energy(made).mean())
                minutes[label + kind] = took
        columns["real test shapes"] = evaluation.score_real_shapes(reference, options.num)
        energies["real test shapes"] = float(model.energy(reference.test).mean())
        print(f"\n{model.preset['id']}, {options.num} shapes, seed {options.seed}\n")
        print(
            "| | core minutes | energy | nearest share | nearest IoU | occupancy ratio | coverage "
            "| pairwise IoU |"
        )
        print("|---" * 8 + "|")
        for label, row in columns.items():
            took = f"{minutes[label]:.1f}" if label in minutes else ""
            print(
                f"| {label} | {took} | {energies[label]:.1f} | {row.nearest_share:.3f} | "
                f"{row.nearest_iou:.3f} | {row.occupancy_ratio:.3f} | {row.coverage:.3f} | "
                f"{row.pairwise_iou:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
