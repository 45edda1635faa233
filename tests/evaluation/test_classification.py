"""Scores of classification against closed forms and another implementation."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from descnet3d.evaluation import classification


@pytest.mark.parametrize(("hits", "count"), [(0, 9), (9, 9), (839, 908), (1, 2)])
def test_the_confidence_interval_solves_wilsons_equation(hits, count):
    probabilities = np.repeat([[0.9, 0.1], [0.1, 0.9]], [hits, count - hits], axis=0)
    scores = classification.score_probabilities(probabilities, np.zeros(count, int))
    for end in (scores.accuracy_low, scores.accuracy_high):
        distance = abs(hits / count - end)
        assert distance == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / count), abs=1e-6)


def test_scores_of_probabilities_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=50)
    labels = generator.integers(4, size=50)
    scores = classification.score_probabilities(probabilities, labels)
    assert scores.accuracy == accuracy_score(labels, probabilities.argmax(axis=1))
    assert scores.cross_entropy == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    assert scores.accuracy_low < scores.accuracy < scores.accuracy_high
