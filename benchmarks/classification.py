"""The energies of the categories as a classifier, how sure it is, and what is new to them.

    python benchmarks/classification.py --data=modelnet10_32.npz

log P(X | c) of test shapes under each category of a preset (`log_likelihood`), by Bayes' rule and
with a temperature that is fitted on training shapes; beside them the shipped classifiers, on the
same shapes. Then novelty: test shapes of a category c against those of the others and against
shapes that are broken (`broken`), by scores that know of c alone, and the area under the curve,
the chance that a new shape has a higher score than one of c. Nothing is chosen by test shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from descnet3d.datasets.archives import VoxelArchive, read_archive
from descnet3d.evaluation import classification
from descnet3d.evaluation.shape_distances import nearest_shapes
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.tables import Figure, table
from descnet3d.zoo import presets

# A bar within a cell of a Markdown table is escaped.
LIKELIHOOD, GAIN = r"-log P(X \| c)", r"log P(X) - log P(X \| c)"
ENERGY, NEAREST = r"E(Y \| c)", "1 - IoU to the nearest training shape of c"


def drawn(archive: VoxelArchive, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many of these rows of each category, category by category; all of them for 0."""
    generator = np.random.default_rng(seed)
    found = []
    for label in range(len(archive.classes)):
        own = generator.permutation(rows[archive.labels[rows] == label])
        found.append(np.sort(own[: count or len(own)]))
    return np.concatenate(found)


def broken(shapes: np.ndarray, others: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Shapes of which a model has seen nothing, made of shapes and of some of other categories."""
    generator = np.random.default_rng(seed)
    count, side = len(shapes), shapes.shape[1]
    cells = shapes.reshape(count, 4, side // 4, 4, side // 4, 4, side // 4)
    cells = cells.transpose(0, 1, 3, 5, 2, 4, 6).reshape(count, 64, *[side // 4] * 3)
    mixed = np.stack([cell[generator.permutation(64)] for cell in cells])
    mixed = mixed.reshape(count, 4, 4, 4, *[side // 4] * 3).transpose(0, 1, 4, 2, 5, 3, 6)
    halves = shapes.copy()
    halves[:, side // 2 :] = others[:, side // 2 :]
    return {
        "blocks shuffled": mixed.reshape(shapes.shape),
        "upside down": shapes[..., ::-1].copy(),
        "half of another category": halves,
    }


def evidence_of(model: AnnealedDescriptor, shapes: np.ndarray, draws: int) -> np.ndarray:
    """The log likelihood of shapes under each category, `[n, k]`."""
    each = [model.log_likelihood(shapes, category=name, draws=draws) for name in model.classes]
    return np.stack(each, axis=1)


def accuracy_row(probabilities: np.ndarray, labels: np.ndarray) -> list[Figure]:
    """The figures of a classifier."""
    scores = classification.score_probabilities(probabilities, labels)
    error = classification.calibration_error(probabilities, labels)
    interval = f"{scores.accuracy_low:.3f} to {scores.accuracy_high:.3f}"
    return [scores.accuracy, interval, scores.class_probability, scores.cross_entropy, error]


def print_classifiers(
    found: Mapping[str, np.ndarray], labels: np.ndarray, sure: tuple[str, ...]
) -> None:
    """The accuracy of each, and whether some are as often right as they are sure."""
    headings = ["accuracy", "95 % interval", "class probability", "cross-entropy", "ECE"]
    rows = {name: accuracy_row(each, labels) for name, each in found.items()}
    print(table(rows, headings, f"{len(labels)} test shapes"), flush=True)
    for name in sure:
        bins = classification.reliability(found[name], labels)
        rows = {f"{each.confidence:.3f}": [each.accuracy, each.shapes] for each in bins}
        print(f"\n{table(rows, ['accuracy', 'shapes'], f'{name}: sure')}", flush=True)


def novelty_scores(
    model: AnnealedDescriptor,
    archive: VoxelArchive,
    category: str,
    shapes: np.ndarray,
    evidence: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    """How new shapes are to a category, `[n]` by each score: the higher, the newer.

    Args:
        model: what knows the category.
        archive: its training shapes are what a sceptic would compare with.
        category: c.
        shapes: occupancy.
        evidence: log P(X | c) and log P(X) of each.
    """
    trained = ~archive.is_test & (archive.labels == archive.classes.index(category))
    own, untold = evidence
    return {
        LIKELIHOOD: -own,
        GAIN: untold - own,
        ENERGY: model.energy(shapes, category=category),
        NEAREST: 1.0 - nearest_shapes(shapes, archive.occupancy[trained]).iou,
    }


def areas(
    model: AnnealedDescriptor,
    archive: VoxelArchive,
    rows: np.ndarray,
    evidence: np.ndarray,
    draws: int,
) -> dict[str, dict[str, list[float]]]:
    """The area under the curve of each score, by what is new and by category.

    Args:
        model: of all categories.
        archive: of the shapes.
        rows: the test shapes that are asked about.
        evidence: log P(X | c) of each category of theirs, `[n, k]`.
        draws: of the noise.
    """
    shapes, labels = archive.occupancy[rows].astype(np.float32), archive.labels[rows]
    untold = model.log_likelihood(shapes, draws=draws)
    found: dict[str, dict[str, list[float]]] = {}
    for label, category in enumerate(archive.classes):
        own = labels == label
        mates = np.random.default_rng(label).choice(np.flatnonzero(~own), own.sum())
        known = evidence[:, label], untold
        scores = novelty_scores(model, archive, category, shapes, known)
        strange = {"other categories": {name: each[~own] for name, each in scores.items()}}
        for kind, made in broken(shapes[own], shapes[mates], label).items():
            known = (
                model.log_likelihood(made, category=category, draws=draws),
                model.log_likelihood(made, draws=draws),
            )
            strange[kind] = novelty_scores(model, archive, category, made, known)
        for kind, new in strange.items():
            for name, each in new.items():
                both = np.concatenate([scores[name][own], each])
                area = roc_auc_score(np.repeat([0, 1], [own.sum(), len(each)]), both)
                found.setdefault(name, {}).setdefault(kind, []).append(float(area))
    return found


def print_areas(
    found: Mapping[str, Mapping[str, list[float]]], classes: tuple[str, ...], count: int
) -> None:
    """The means over the categories, and what two of the scores reach for each."""
    kinds = list(found[GAIN])
    means = {name: [float(np.mean(each[kind])) for kind in kinds] for name, each in found.items()}
    print(f"\n{table(means, kinds, f'area under the curve, {count} test shapes')}")
    shown = [(GAIN, kinds[0]), (LIKELIHOOD, kinds[1])]
    of_each = {
        category: [found[name][kind][label] for name, kind in shown]
        for label, category in enumerate(classes)
    }
    print(f"\n{table(of_each, [f'{name}: {kind}' for name, kind in shown], 'c')}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--preset", default="synthesis_modelnet10_32")
    parser.add_argument("--test", type=int, default=0, help="test shapes of a category; 0: all")
    parser.add_argument("--fit", type=int, default=20, help="training shapes of one, for T")
    parser.add_argument("--draws", type=int, default=1, help="of the noise at each level")
    parser.add_argument("--seed", type=int, default=0, help="of which shapes are taken")
    options = parser.parse_args()
    archive = read_archive(options.data)
    trained, tested = np.flatnonzero(~archive.is_test), np.flatnonzero(archive.is_test)
    model = presets.load_descriptor(options.preset)
    fitted = drawn(archive, trained, options.fit, options.seed)
    rows = drawn(archive, tested, options.test, options.seed)
    shapes, labels = archive.occupancy[rows].astype(np.float32), archive.labels[rows]

    known = evidence_of(model, archive.occupancy[fitted].astype(np.float32), options.draws)
    temperature = classification.fitted_temperature(known, archive.labels[fitted])
    evidence = evidence_of(model, shapes, options.draws)
    bayes, tempered = "energies, Bayes' rule", f"energies, temperature {temperature:.1f}"
    found = {bayes: softmax(evidence, 1), tempered: softmax(evidence / temperature, 1)}
    for task in ("classification", "features"):
        shipped = presets.load("modelnet10", task=task)
        found[f"`{shipped.preset['id']}`"] = shipped.probabilities(shapes)
    print_classifiers(found, labels, (bayes, tempered))
    print_areas(areas(model, archive, rows, evidence, options.draws), archive.classes, len(rows))


if __name__ == "__main__":
    main()
