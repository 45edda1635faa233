"""Telling categories apart: how well, and how sure of it a test of that size can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from descnet3d.datasets.archives import VoxelArchive
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.models.supervised_classifier import SupervisedClassifier

Classifier = SupervisedClassifier | FeatureClassifier


class ReliabilityBin(NamedTuple):
    """Shapes that a classifier is about as sure of.

    Attributes:
        confidence: the mean probability of what it takes them for.
        accuracy: the share that it is right about.
        shapes: how many there are.
    """

    confidence: float
    accuracy: float
    shapes: int


@dataclass(frozen=True)
class ClassificationScores:
    """How well the categories of held-out shapes are found.

    Attributes:
        shapes: how many there are.
        accuracy: the share whose likeliest category is their own.
        accuracy_low: where the 95 % confidence interval of that share begins (Wilson's).
        accuracy_high: where it ends.
        class_probability: the mean probability of the right category.
        cross_entropy: its mean negative logarithm, in nats.
    """

    shapes: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    class_probability: float
    cross_entropy: float


def untrained_like(model: FeatureClassifier, seed: int = 0) -> FeatureClassifier:
    """A classifier of the same kind whose network has drawn its weights anew, and is not fitted.

    What its features are worth is what the learning has to surpass.

    Args:
        model: whose network can be built of its config.
        seed: of the weights.
    """
    keras.utils.set_random_seed(seed)
    learnt = model.descriptor
    fresh = learnt.of_parts({"network": keras.models.clone_model(learnt.network)}, learnt.settings)
    return FeatureClassifier(fresh, pooling=model.pooling)


def score_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> ClassificationScores:
    """The scores of probabilities `[n, k]` of shapes with these labels `[n]`."""
    hits = int((probabilities.argmax(axis=1) == labels).sum())
    interval = binomtest(hits, len(labels)).proportion_ci(0.95, method="wilson")
    own = probabilities[np.arange(len(labels)), labels]
    return ClassificationScores(
        shapes=len(labels),
        accuracy=hits / len(labels),
        accuracy_low=float(interval.low),
        accuracy_high=float(interval.high),
        class_probability=float(own.mean()),
        cross_entropy=float(-np.log(np.maximum(own, 1e-12)).mean()),
    )


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> list[ReliabilityBin]:
    """Whether a classifier is as often right as it is sure, in bins of equal width.

    Args:
        probabilities: of each category, `[n, k]`.
        labels: the right ones, `[n]`.
        bins: into how many [0, 1] is cut.

    Returns:
        The bins that hold shapes, from the least sure to the surest.
    """
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(float(sure[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in (numbers == number for number in range(bins))
        if own.any()
    ]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error: how far accuracy is from confidence, the mean over shapes.

    As in Guo et al., "On calibration of modern neural networks", 2017; it takes what `reliability`
    takes.
    """
    found = reliability(probabilities, labels, bins)
    return sum(each.shapes * abs(each.accuracy - each.confidence) for each in found) / len(labels)


def fitted_temperature(evidence: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(evidence / T) is likeliest to give the labels.

    Args:
        evidence: log P(X | c) or logits, `[n, k]`, of shapes that are not tested on.
        labels: theirs, `[n]`.

    Returns:
        T, between e⁻⁴ and e⁸.
    """

    def loss(logarithm: float) -> float:
        found = log_softmax(evidence / np.exp(logarithm), axis=1)
        return -float(found[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 8.0), method="bounded").x))


def evaluate_classifier(model: Classifier, archive: VoxelArchive) -> ClassificationScores:
    """The scores of a classifier on an archive's test shapes.

    Raises:
        ValueError: when the archive has none, other categories, or other grids.
    """
    if archive.classes != model.classes:
        raise ValueError(
            f"the archive has the categories {', '.join(archive.classes)}, and the classifier "
            f"knows {', '.join(model.classes)}; give one with the same, in the same order."
        )
    if not archive.is_test.any():
        raise ValueError("the archive has no test shapes; give one with the official split.")
    probabilities = model.probabilities(archive.occupancy[archive.is_test])
    return score_probabilities(probabilities, archive.labels[archive.is_test])
