"""Langevin dynamics against closed forms."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from descnet3d.energy.langevin import langevin_dynamics, langevin_step
from descnet3d.energy.settings import LangevinSettings


def gaussian_energy(std):
    return lambda positions: ops.sum(ops.square(positions), axis=(1, 2)) / (2 * std**2)


@pytest.mark.parametrize("std", [0.5, 0.3])
def test_dynamics_on_a_gaussian_reach_its_variance(std):
    step_size = 0.1
    # Eq. 3 on a Gaussian is the autoregression Y' = aY + step_size·ε, with this variance at rest.
    rate = 1 - 0.5 * step_size**2 / std**2
    expected = step_size**2 / (1 - rate**2)
    chains = np.full((200, 20, 50), 3.0, "float32")
    positions, _ = langevin_dynamics(
        gaussian_energy(std),
        chains,
        num_steps=400,
        step_size=step_size,
        seed_generator=keras.random.SeedGenerator(0),
    )
    positions = ops.convert_to_numpy(positions)
    # 200,000 independent values: the variance's standard error is expected·sqrt(2/200000).
    assert abs(positions.var() / expected - 1) < 5 * np.sqrt(2 / positions.size)
    assert abs(positions.mean()) < 5 * np.sqrt(expected / positions.size)
    assert abs(np.sqrt(expected) / std - 1) < 0.02


def test_the_temperature_scales_the_variance():
    positions, _ = langevin_dynamics(
        gaussian_energy(0.5),
        np.zeros((100, 10, 100), "float32"),
        num_steps=300,
        step_size=0.1,
        temperature=0.25,
        seed_generator=keras.random.SeedGenerator(1),
    )
    rate = 1 - 0.5 * 0.1**2 / 0.5**2
    expected = 0.25 * 0.1**2 / (1 - rate**2)
    assert ops.convert_to_numpy(positions).var() == pytest.approx(expected, rel=0.03)


@given(std=st.floats(0.2, 2.0), step_size=st.floats(0.01, 0.2), num_steps=st.integers(1, 15))
@settings(max_examples=20, deadline=None)
def test_without_noise_a_gaussian_contracts_by_the_same_factor_each_step(std, step_size, num_steps):
    start = np.linspace(-1, 1, 24, dtype="float32").reshape(2, 3, 4)
    positions, diagnostics = langevin_dynamics(
        gaussian_energy(std), start, num_steps=num_steps, step_size=step_size, temperature=0
    )
    rate = 1 - 0.5 * step_size**2 / std**2
    np.testing.assert_allclose(positions, start * rate**num_steps, rtol=2e-4, atol=1e-6)
    powers = rate ** np.arange(num_steps)
    energies = (start**2).sum((1, 2)).mean() / (2 * std**2) * powers**2
    norms = np.sqrt((start**2).sum((1, 2))).mean() * np.abs(powers)
    np.testing.assert_allclose(diagnostics.energy, energies, rtol=1e-3)
    np.testing.assert_allclose(diagnostics.gradient_norm, norms / std**2, rtol=1e-3)
    np.testing.assert_allclose(
        diagnostics.step_change, norms * 0.5 * step_size**2 / std**2, rtol=5e-3, atol=1e-6
    )


def test_a_projection_holds_what_it_holds_through_every_step():
    held = np.zeros((2, 4, 5), "float32")
    held[:, :2] = 1
    start = np.full((2, 4, 5), 0.7, "float32")
    free = ops.convert_to_tensor(1 - held)
    fixed = ops.convert_to_tensor(held * start)
    positions, _ = langevin_dynamics(
        gaussian_energy(0.5),
        start,
        num_steps=30,
        step_size=0.1,
        seed_generator=keras.random.SeedGenerator(0),
        projection=lambda moved: fixed + free * moved,
    )
    positions = ops.convert_to_numpy(positions)
    np.testing.assert_array_equal(positions[:, :2], start[:, :2])
    assert not np.any(positions[:, 2:] == start[:, 2:])


def test_one_step_is_equation_three():
    positions, gradient, noise = (
        np.random.default_rng(i).normal(size=(3, 4)).astype("float32") for i in range(3)
    )
    moved = langevin_step(positions, gradient, 0.1, noise)
    np.testing.assert_allclose(moved, positions - 0.005 * gradient + 0.1 * noise, rtol=1e-6)


def test_noise_needs_somewhere_to_come_from():
    with pytest.raises(ValueError, match="seed_generator is needed"):
        langevin_dynamics(
            gaussian_energy(1.0), np.zeros((1, 2, 2), "float32"), num_steps=1, step_size=0.1
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("step_size", -0.1),
        ("temperature", -1.0),
        ("initial_std", float("nan")),
        ("rounds", 0),
        ("contraction", 0.0),
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        LangevinSettings(**{name: value})
