"""How many labels features without labels are worth: accuracy by the share of the labels.

    python benchmarks/label_efficiency.py --data=modelnet10_32.npz

A descriptor is trained on all training shapes without labels (the preset `features_modelnet10_32`,
and the same network untrained, for comparison); a multinomial logistic regression on its features
sees the labels of a share of them, drawn category by category. Beside it a supervised 3D CNN of the
size of `classifier_modelnet10_32` learns the same labels, mirrored at random, in iterations that
grow with them. The accuracy on the official test split is a mean over the draws, with its smallest
and largest. Nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np

from descnet3d.commands import outputs
from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation import classification
from descnet3d.models import networks
from descnet3d.models.feature_classifier import FeatureClassifier, groups_of
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.zoo import presets

LEAST_STEPS, STEPS, BATCH = 400, 2500, 32


def drawn(labels, share, seed):
    """Rows of so large a share of each category, at least one."""
    generator = np.random.default_rng(seed)
    rows = []
    for label in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == label))
        rows.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(rows))


def supervised(shapes, labels, classes, share, seed):
    """A 3D CNN that has learnt these labels."""
    keras.utils.set_random_seed(seed)
    model = SupervisedClassifier(
        networks.classifier(shapes.shape[1], len(classes)), classes, voxel_mean=0.0, seed=seed
    )
    batches = -(-len(shapes) // BATCH)
    epochs = -(-round(max(LEAST_STEPS, share * STEPS)) // batches)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(epochs * batches - 50, 1), alpha=0.02, warmup_target=1e-3, warmup_steps=50
    )
    model.compile(keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.99, global_clipnorm=2.0))
    model.fit(shapes, labels, batch_size=BATCH, mirror_axes=(0,), epochs=epochs, verbose=0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--preset", default="features_modelnet10_32", help="its id or folder")
    parser.add_argument(
        "--shares", nargs="+", type=float, default=[0.01, 0.05, 0.1, 0.25, 0.5, 1.0]
    )
    parser.add_argument("--draws", type=int, default=2, help="of the labels")
    options = parser.parse_args()
    outputs.keep_freed_memory()
    archive = read_archive(options.data)
    trained = ~archive.is_test
    shapes, labels = archive.occupancy[trained], archive.labels[trained]
    test, truth = archive.occupancy[~trained], archive.labels[~trained]
    model = FeatureClassifier.from_preset(presets.find(options.preset, "features"))
    regressions = {
        "unsupervised features": model,
        "the same network, untrained": classification.untrained_like(model),
    }
    found = {
        name: (each.features(shapes), each.features(test)) for name, each in regressions.items()
    }
    groups = groups_of(shapes)
    names = [*regressions, "supervised 3D CNN"]
    print(f"| labels | {' | '.join(names)} | core minutes of the CNN |")
    print("|---" * (len(names) + 2) + "|")
    for share in options.shares:
        figures: dict[str, list[float]] = {name: [] for name in names}
        count, minutes = 0, 0.0
        for seed in range(options.draws if share < 1 else 1):
            rows = drawn(labels, share, seed)
            count = len(rows)
            rest = np.setdiff1d(np.arange(len(labels)), rows)
            for name, regression in regressions.items():
                known, asked = found[name]
                regression.fit_features(
                    known[rows],
                    labels[rows],
                    archive.classes,
                    groups[rows],
                    unlabelled=known[rest] if len(rest) else None,
                    seed=seed,
                )
                hits = regression.logits_of(asked).argmax(axis=1) == truth
                figures[name].append(float(hits.mean()))
            started = time.process_time()
            network = supervised(shapes[rows], labels[rows], archive.classes, share, seed)
            minutes += (time.process_time() - started) / 60
            figures["supervised 3D CNN"].append(network.accuracy(test, truth))
        cells = [
            f"{np.mean(each):.3f}"
            + (f" [{min(each):.3f}, {max(each):.3f}]" if len(each) > 1 else "")
            for each in figures.values()
        ]
        label = f"{count} ({share:.0%})"
        print(f"| {label} | {' | '.join(cells)} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
