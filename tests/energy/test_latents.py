"""Latents: the prior, the paths between them, and their inference from shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.spatial import geometric_slerp

from descnet3d.energy import latents


def linear_generator(matrix, side=2):
    """g(Z) = Z·M on a grid of side³ voxels."""

    def generator(z):
        return ops.reshape(ops.matmul(z, matrix), (-1, side, side, side, 1))

    return generator


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 12), st.integers(2, 8))
def test_spherical_paths_are_scipys_on_the_unit_sphere(seed, steps, length):
    ends = np.random.default_rng(seed).normal(size=(2, length))
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    expected = geometric_slerp(*ends, np.linspace(0, 1, steps))
    np.testing.assert_allclose(latents.path(*ends, steps), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from(latents.PATHS))
def test_paths_begin_and_end_where_they_should(seed, kind):
    a, b = np.random.default_rng(seed).normal(size=(2, 16)).astype("float32")
    path = latents.path(a, b, 5, kind)
    np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-5)
    between = np.linalg.norm(path, axis=1)
    if kind == "spherical":  # latents stay as long as the prior's are
        assert between.min() > 0.999 * min(between[0], between[-1])


@pytest.mark.parametrize(("a", "b"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 0.0], [-2.0, 0.0])])
def test_paths_without_a_great_circle_are_straight(a, b):
    np.testing.assert_allclose(latents.path(np.array(a), np.array(b), 3)[1], np.add(a, b) / 2)


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"kind": "round"}])
def test_bad_paths_are_named(wrong):
    with pytest.raises(ValueError, match=r"steps must be|path must be one of spherical"):
        latents.path(np.zeros(3), np.ones(3), **{"steps": 4, **wrong})


def test_inference_of_a_linear_generator_is_its_ridge_regression():
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(3, 8)).astype("float32")
    targets = generator.normal(size=(5, 2, 2, 2, 1)).astype("float32")
    infer = latents.LatentInference(linear_generator(matrix), length=3, generator_std=0.5)
    found = infer(targets, num_steps=200)
    # The minimum of ‖Y - ZM‖²/2σ² + ‖Z‖²/2 in closed form.
    gram = matrix @ matrix.T + 0.25 * np.eye(3)
    expected = targets.reshape(5, 8) @ matrix.T @ np.linalg.inv(gram)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_latents_of_a_seed_are_the_same_everywhere():
    first = latents.draw(3, 4, seed=7)
    np.testing.assert_array_equal(first, latents.draw(3, 4, seed=7))
    many = latents.draw(4000, 2, seed=0)
    assert abs(many.mean()) < 0.05 and abs(many.std() - 1) < 0.03
