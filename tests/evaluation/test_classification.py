"""Scores of classification against closed forms and another implementation."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss

from descnet3d.evaluation import classification


@pytest.mark.parametrize(("hits", "count"), [(0, 9), (9, 9), (839, 908), (1, 2)])
def test_the_confidence_interval_is_wilsons(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    found = classification.wilson_interval(hits, count)
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=1e-7)


def test_scores_of_probabilities_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=50)
    labels = generator.integers(4, size=50)
    scores = classification.score_probabilities(probabilities, labels)
    assert scores.accuracy == accuracy_score(labels, probabilities.argmax(axis=1))
    assert scores.cross_entropy == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    assert scores.accuracy_low < scores.accuracy < scores.accuracy_high
