"""Scores of sets against closed forms, scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.spatial.distance import cdist
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from descnet3d.evaluation import set_scores


def test_coverage_and_matching_distance_of_three_points_on_a_line():
    distances = np.abs(np.array([0.0, 1.0, 1.2])[:, None] - np.array([0.0, 1.0, 2.0, 9.0]))
    assert set_scores.coverage(distances) == 2 / 4
    assert set_scores.minimum_matching_distance(distances) == pytest.approx((0 + 0 + 0.8 + 7.8) / 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 99))
def test_nearest_neighbour_accuracy_is_that_of_scikit_learn(n, m, seed):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(n, 3)), generator.normal(0.5, size=(m, 3))
    found = set_scores.nearest_neighbour_accuracy(
        cdist(first, first), cdist(first, second), cdist(second, second)
    )
    points, sets = np.concatenate([first, second]), np.repeat([0, 1], [n, m])
    expected = cross_val_score(KNeighborsClassifier(1), points, sets, cv=LeaveOneOut())
    assert found == pytest.approx(expected.mean())


def test_a_set_and_a_copy_of_it_are_worse_than_chance_and_far_sets_are_told_apart():
    points = np.random.default_rng(0).normal(size=(20, 2))
    own = cdist(points, points)
    assert set_scores.nearest_neighbour_accuracy(own, own, own) == 0
    assert set_scores.nearest_neighbour_accuracy(own, own + 100, own) == 1


def test_the_inception_score_is_the_number_of_categories_at_best_and_one_at_worst():
    sure = np.tile(np.eye(4), (25, 1))
    assert set_scores.inception_score(sure, splits=5) == pytest.approx((4, 0))
    alike = np.tile([[0.7, 0.2, 0.1]], (30, 1))
    assert set_scores.inception_score(alike) == pytest.approx((1, 0))
    # Two kinds of shapes, each sure with probability 0.9: exp(log 2 - H(0.9)).
    two = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1))
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert set_scores.inception_score(two)[0] == pytest.approx(2 * np.exp(-entropy))
    with pytest.raises(ValueError, match="at least 10"):
        set_scores.inception_score(two[:9])


def test_the_frechet_distance_of_gaussians_with_aligned_axes_is_that_of_their_deviations():
    # Points whose moments are exact: ± each axis.
    axes = np.concatenate([np.eye(3), -np.eye(3)]) * np.sqrt(5 / 2)
    first, second = axes * [1, 2, 3], axes * [2, 2, 1] + [0, 0, 5]
    expected = 25 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert set_scores.frechet_distance(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [4, 60])
def test_the_frechet_distance_agrees_with_the_matrix_square_root(rows):
    generator = np.random.default_rng(rows)
    first = generator.normal(size=(rows, 6)) @ generator.normal(size=(6, 6))
    second = generator.normal(size=(rows + 9, 6)) + 1
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    gap = first.mean(axis=0) - second.mean(axis=0)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert set_scores.frechet_distance(first, second) == pytest.approx(expected, rel=1e-3)
    assert set_scores.frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
