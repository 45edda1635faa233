"""Likelihoods by denoising, beside distributions whose likelihoods are known."""

import keras
import numpy as np
import pytest

from descnet3d.energy.likelihood import level_measure, log_likelihoods

LEVELS = np.geomspace(0.05, 60.0, 60)


def error_of(drawn_of):
    """The squared error of what is drawn, by a function of noisy shapes y = x + level·ε."""

    def squared_error(noisy, clean, level):
        noisy, clean, level = map(keras.ops.convert_to_numpy, (noisy, clean, level))
        level = level.reshape(-1, 1, 1, 1, 1)
        drawn = drawn_of((1 + level) * noisy, level)
        return keras.ops.convert_to_tensor(np.square(clean - drawn).sum((1, 2, 3, 4)))

    return squared_error


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.02])
def test_independent_voxels_have_the_likelihood_of_bernoulli(probability):
    odds = np.log(probability / (1 - probability))
    shapes = np.full((2, 8, 8, 8, 1), -1.0)
    shapes[1] = 1.0
    error = error_of(lambda y, level: np.tanh(0.5 * odds + y / level**2))
    found = log_likelihoods(error, shapes, 1.0, LEVELS, draws=40)
    expected = 512 * np.log([1 - probability, probability])
    # The standard error of so many draws is a fifth of that, at most.
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=2.0)


def test_two_shapes_as_likely_as_each_other_have_half_of_all_probability_each():
    shapes = np.random.default_rng(1).choice([-1.0, 1.0], (2, 4, 4, 4, 1))

    def drawn(y, level):
        logits = np.tensordot(y / level**2, shapes, ((1, 2, 3, 4), (1, 2, 3, 4)))
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return np.tensordot(weights, shapes, 1)

    repeated = np.repeat(shapes, 50, axis=0)
    found = log_likelihoods(error_of(drawn), repeated, 1.0, np.geomspace(0.5, 200, 60))
    # What one draw of the noise gives is spread about log ½.
    assert found.mean() == pytest.approx(np.log(0.5), abs=4 * found.std() / 10 + 0.01)
    assert found.std() > 0.1


def test_noise_depends_on_the_seed_and_the_row_alone():
    shapes = np.ones((5, 4, 4, 4, 1))
    error = error_of(lambda y, level: np.tanh(y / level**2))

    def found(**how):
        return log_likelihoods(error, shapes, 1.0, (1.0, 3.0), **how)

    np.testing.assert_allclose(found(batch_size=2), found(batch_size=5), rtol=1e-6)
    assert (found(seed=1) != found(seed=0)).all() and len(set(found(seed=0))) == 5


def test_the_measure_integrates_what_the_trapezoidal_rule_does():
    levels = np.array([0.5, 1.0, 3.0])
    errors = levels**2 * (2.0 + np.log(levels))  # linear in log level after the division
    linear = [2.0 * np.log(x) + 0.5 * np.log(x) ** 2 for x in (0.5, 3.0)]
    above = 0.5 * errors[-1] / 9.0
    assert level_measure(levels) @ errors == pytest.approx(linear[1] - linear[0] + above)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"levels": (1.0,)}, "levels must be two or more different positive numbers"),
        ({"levels": (1.0, 1.0)}, "levels must be two or more different positive numbers"),
        ({"levels": (0.0, 1.0)}, "levels must be two or more different positive numbers"),
        ({"levels": (1.0, float("inf"))}, "levels must be two or more different positive"),
        ({"draws": 0}, "draws must be a positive integer, but it is 0"),
        ({"batch_size": 1.5}, "batch_size must be a positive integer, but it is 1.5"),
        ({"seed": -1}, "seed must be an integer from 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(asked, message):
    with pytest.raises(ValueError, match=message):
        log_likelihoods(
            lambda *_: 0.0, np.ones((1, 2, 2, 2, 1)), 1.0, **{"levels": (1, 2), **asked}
        )
