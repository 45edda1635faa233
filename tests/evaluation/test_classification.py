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


def test_who_is_as_often_right_as_sure_is_calibrated_and_who_is_surer_is_not():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), size=20_000)
    labels = (generator.random(20_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    assert classification.calibration_error(probabilities, labels) < 0.01
    surer = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    gap = surer.max(axis=1).mean() - (surer.argmax(axis=1) == labels).mean()
    # Where each bin is too sure, the error is by how much in the mean.
    assert classification.calibration_error(surer, labels) == pytest.approx(gap, abs=0.01)


def test_bins_hold_what_a_loop_over_the_shapes_finds():
    probabilities = np.array([[0.95, 0.05], [1.0, 0.0], [0.08, 0.92], [0.6, 0.4]])
    found = classification.reliability(probabilities, np.array([0, 1, 1, 0]))
    assert [each.shapes for each in found] == [1, 3]
    assert found[0] == pytest.approx((0.6, 1.0, 1))
    assert found[1][:2] == pytest.approx(((0.95 + 1.0 + 0.92) / 3, 2 / 3))
    error = classification.calibration_error(probabilities, np.array([0, 1, 1, 0]))
    assert error == pytest.approx((0.4 + (0.95 + 1.0 + 0.92 - 2)) / 4)


def test_the_temperature_that_is_fitted_is_the_one_that_made_evidence_too_sure():
    generator = np.random.default_rng(1)
    logits = 2.0 * generator.normal(size=(20_000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (generator.random(20_000)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    assert classification.fitted_temperature(30.0 * logits, labels) == pytest.approx(30, rel=0.05)
