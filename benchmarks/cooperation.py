"""What the descriptor's teaching is worth: the same generator, taught by the shapes alone.

    python benchmarks/cooperation.py --data=modelnet10_32.npz --presets cooperative_toilet_32

For each cooperative preset two more generators of its size are trained on the same shapes, each for
the processor time that the preset's generator took (regression and cooperation together): as the
decoder of a variational autoencoder, and by regression of the shapes on their whitened principal
components to the end. Sixty-four shapes each, of the same latents, as they are and revised by the
preset's descriptor, against the real shapes of all categories and by the reference classifier.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
from variational_autoencoder import VariationalAutoencoder, encoder

from descnet3d.commands import outputs
from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation.synthesis import Reference, score_real_shapes, score_shapes
from descnet3d.models import generators
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.zoo import presets

FIGURES = (
    "nearest_share",
    "nearest_iou",
    "occupancy_ratio",
    "coverage",
    "matching_distance",
    "pairwise_iou",
    "class_probability",
    "frechet_distance",
)


class UntilTime(keras.callbacks.Callback):
    """Lowers the learning rate by a cosine over the processor time, and ends the fit at its end."""

    def __init__(self, started, seconds, rate):
        super().__init__()
        self.started, self.seconds, self.rate = started, seconds, rate

    def on_train_batch_end(self, batch, logs=None):
        share = min(1.0, (time.process_time() - self.started) / self.seconds)
        decay = 0.02 + 0.98 * (1 + np.cos(np.pi * share)) / 2
        self.model.optimizer.learning_rate.assign(self.rate * decay)
        if share >= 1:
            self.model.stop_training = True


def taught(shapes, recipe, seconds, encoder, learner, **compiled):
    """A generator taught by the shapes alone, begun at their occupancy; and what it took."""
    keras.utils.set_random_seed(recipe["seed"])
    started = time.process_time()
    length, rate = recipe["generator_latents"], recipe["generator_learning_rate"]
    generator = generators.generator(
        shapes.shape[1],
        latents=length,
        voxel_mean=recipe["voxel_mean"],
        occupancy=float(shapes.mean()),
    )
    model = learner(
        generator,
        encoder(length),
        generator_std=recipe["generator_std"],
        voxel_mean=recipe["voxel_mean"],
    )
    optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.99)
    model.compile(optimizer, **compiled)
    model.fit(
        shapes,
        batch_size=recipe["generator_batch_size"],
        mirror_axes=tuple(map(int, recipe["mirror_axes"] or "")),
        epochs=10**6,
        callbacks=[UntilTime(started, seconds, rate)],
        verbose=0,
    )
    return generator, (time.process_time() - started) / 60


def autoencoded(shapes, recipe, seconds):
    """The decoder of a variational autoencoder, and what it took."""
    batches = -(-len(shapes) // recipe["generator_batch_size"])
    return taught(
        shapes,
        recipe,
        seconds,
        lambda length: encoder(shapes.shape[1], latents=length),
        VariationalAutoencoder,
        divergence_warmup=round(recipe["generator_steps"] / batches / 3),
    )


def regressed(shapes, recipe, seconds):
    """A generator of principal components, and what it took."""
    return taught(
        shapes,
        recipe,
        seconds,
        lambda length: generators.principal_encoder(
            shapes,
            latents=length,
            voxel_mean=recipe["voxel_mean"],
            mirror_axes=tuple(map(int, recipe["mirror_axes"] or "")),
            seed=recipe["seed"],
        ),
        Autoencoder,
    )


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
        seconds = 60 * training["core_minutes"]
        rows = {"cooperative": (model.generator, training["core_minutes"])}
        if "autoencoder" in options.rivals:
            rows["variational autoencoder"] = autoencoded(shapes, recipe, seconds)
        if "regression" in options.rivals:
            rows["regression on components"] = regressed(shapes, recipe, seconds)
        classifier = presets.reference_classifier(archive.classes, model.grid)
        reference = Reference(archive, category, classifier)
        columns, energies, minutes = {}, {}, {}
        for label, (generator, took) in rows.items():
            other = CooperativeNet(
                model, generator, generator_std=model.generator_std, revision=model.revision
            )
            for kind, made in (
                ("", other.generate(options.num, seed=options.seed)),
                (", revised", other.synthesize(options.num, seed=options.seed)),
            ):
                columns[label + kind] = score_shapes(made, reference)
                energies[label + kind] = float(model.energy(made).mean())
                minutes[label + kind] = took
        columns["real test shapes"] = score_real_shapes(reference, options.num)
        energies["real test shapes"] = float(model.energy(reference.test).mean())
        print(f"\n{model.preset['id']}, {options.num} shapes, seed {options.seed}\n")
        print(f"| | core minutes | energy | {' | '.join(FIGURES)} |")
        print("|---" * (len(FIGURES) + 3) + "|")
        for label, row in columns.items():
            took = f"{minutes[label]:.1f}" if label in minutes else ""
            scores = row.as_dict()
            cells = " | ".join(f"{scores[name]:.3f}" for name in FIGURES)
            print(f"| {label} | {took} | {energies[label]:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
