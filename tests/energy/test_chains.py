"""Chains: which are taken, which restart, what is kept."""

import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.energy.chains import PersistentChains
from descnet3d.energy.settings import ChainSettings

GRID = (4, 4, 4)


def test_chains_take_turns_and_come_back_to_where_they_were():
    chains = PersistentChains(ChainSettings(per_step=2, count=6), GRID, seed=0, initial_std=1.0)
    start = ops.convert_to_numpy(chains.positions.value).copy()
    seen = []
    for turn in range(3):
        indices, positions = chains.take(keras.random.SeedGenerator(0))
        seen += list(ops.convert_to_numpy(indices))
        np.testing.assert_array_equal(positions, start[ops.convert_to_numpy(indices)])
        chains.put(indices, positions + turn + 1)
    assert sorted(seen) == list(range(6))
    moved = ops.convert_to_numpy(chains.positions.value) - start
    np.testing.assert_allclose(moved.mean((1, 2, 3, 4)), [1, 1, 2, 2, 3, 3], atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_chains_restart_at_their_rate_from_fresh_noise(rate):
    settings = ChainSettings(per_step=400, count=400, restart_rate=rate)
    chains = PersistentChains(settings, GRID, seed=0, initial_std=0.5)
    chains.positions.assign(np.full((400, *GRID, 1), 7.0, "float32"))
    _, positions = chains.take(keras.random.SeedGenerator(3))
    restarted = ops.convert_to_numpy(positions)[:, 0, 0, 0, 0] != 7.0
    assert abs(restarted.mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / 400)
    if rate:
        fresh = ops.convert_to_numpy(positions)[restarted]
        assert fresh.std() == pytest.approx(0.5, rel=0.05)


def test_new_chains_have_the_standard_deviation_asked_for():
    chains = PersistentChains(ChainSettings(count=100), GRID, seed=5, initial_std=0.25)
    assert ops.convert_to_numpy(chains.positions.value).std() == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "nowhere"}, "start must be one of persistent, noise, data"),
        ({"per_step": 0}, "per_step must be a positive integer"),
        ({"per_step": 30, "count": 20}, "count must be at least per_step"),
        ({"restart_rate": 1.5}, "restart_rate must be in"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ChainSettings(**settings)
