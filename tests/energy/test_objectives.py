"""Simulation-free pretraining, on energies whose best match is known."""

import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.energy.objectives import gradient_size, matching_loss
from descnet3d.energy.settings import EquilibriumMatching


def test_the_loss_of_the_reference_alone_is_in_closed_form():
    """E = ‖Y‖²/2s² has s·∂E/∂Y = Y/s: the loss follows from the moments of γ, ε and the shape."""
    std, value = 0.5, 0.5
    observed = np.full((4000, 2, 2, 2, 1), value, "float32")
    matching = EquilibriumMatching(scale=4.0, fade_from=0.8)

    def reference(positions):
        return ops.sum(ops.square(positions), axis=(1, 2, 3, 4)) / (2 * std**2)

    loss = float(
        ops.convert_to_numpy(
            matching_loss(matching, reference, observed, std, keras.random.SeedGenerator(0))
        )
    )
    gamma = (np.arange(100000) + 0.5) / 100000
    size = 4.0 * np.minimum(1, (1 - gamma) / 0.2)
    # γY + (1-γ)ε - c(ε - Y), over s, has the mean (γ + c)Y/s and the variance (1 - γ - c)².
    expected = np.mean(((gamma + size) * value / std) ** 2 + (1 - gamma - size) ** 2)
    assert loss == pytest.approx(expected, rel=0.05)


def test_the_gradient_fades_out_where_the_data_are():
    matching = EquilibriumMatching(scale=3.0, fade_from=0.6)
    sizes = ops.convert_to_numpy(
        gradient_size(matching, np.array([0.0, 0.6, 0.8, 1.0], dtype="float32"))
    )
    np.testing.assert_allclose(sizes, [3.0, 3.0, 1.5, 0.0], atol=1e-6)


def test_a_perfect_energy_has_a_loss_of_nearly_nothing():
    """For a single shape the target at a given point is known: 1/(1-γ) of the way to the shape.

    With fade_from = 0, c(γ) = λ(1 - γ), and the target is λ(Y_γ - Y)/s whatever γ is: a quadratic
    bowl around the shape matches it exactly.
    """
    std, scale = 0.5, 2.0
    shape = (np.random.default_rng(0).random((1, 3, 3, 3, 1)) - 0.5).astype("float32")

    def bowl(positions):
        away = positions - ops.convert_to_tensor(shape)
        return scale * ops.sum(ops.square(away), axis=(1, 2, 3, 4)) / (2 * std**2)

    observed = np.repeat(shape, 50, axis=0)
    matching = EquilibriumMatching(scale=scale, fade_from=0.0)
    loss = matching_loss(matching, bowl, observed, std, keras.random.SeedGenerator(0))
    assert float(ops.convert_to_numpy(loss)) < 1e-9


@pytest.mark.parametrize(
    ("settings", "message"), [({"scale": 0.0}, "scale"), ({"fade_from": 1.0}, "fade_from")]
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EquilibriumMatching(**settings)
