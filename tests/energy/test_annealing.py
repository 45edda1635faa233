"""Annealed Langevin dynamics, beside closed forms."""

import keras
import numpy as np
import pytest

from descnet3d.energy.annealing import AnnealedSampler, draw_levels, signal_of
from descnet3d.energy.composition import Composition
from descnet3d.energy.constraints import BlockMeans, VisibleVoxels, block_means
from descnet3d.energy.settings import AnnealingSettings, Denoising
from descnet3d.shapes.pieces import in_one_piece, label_pieces

GRID = (4, 4, 4)
# The schedules of closed forms: one η all the way, and no voxel drawn at random.
PLAIN = {"settle_level": 0.0, "random_above": float("inf")}
MEAN, STD, REFERENCE = 0.1, 0.1, 0.5


def drawn_from_a_gaussian(positions, condition, level, guidance=None):
    """The posterior mean of shapes whose voxels are N(MEAN, STD²), given noisy ones."""
    signal = keras.ops.reshape(signal_of(level), (-1, 1, 1, 1, 1))
    noise = keras.ops.square((1 - signal) * REFERENCE)
    evidence = signal * STD**2 / (signal**2 * STD**2 + noise)
    return MEAN + evidence * (positions - signal * MEAN)


@pytest.fixture
def sampler():
    noise = keras.random.SeedGenerator(0)
    return AnnealedSampler({"odds": drawn_from_a_gaussian}, GRID, REFERENCE, noise)


def shapes_of(sampler, settings, num=64, seed=0, constraint=None):
    return sampler.sample(
        num, settings, seed, constraint=constraint, condition=np.zeros((num, 1), np.float32)
    )


@pytest.mark.parametrize("path", ["one path from the first noise", "the reverse diffusion"])
def test_on_a_gaussian_it_reaches_mean_and_variance(sampler, path):
    settings = AnnealingSettings(200, 100.0, 0.02, fresh_noise=0.0, **PLAIN)
    if path == "the reverse diffusion":
        ratio = settings.levels()[1] / settings.levels()[0]
        fresh = float(np.sqrt(1 - ratio**2))
        settings = AnnealingSettings(200, 100.0, 0.02, fresh_noise=fresh, **PLAIN)
    shapes = shapes_of(sampler, settings)
    assert shapes.mean() == pytest.approx(MEAN, abs=4 * STD / np.sqrt(shapes.size))
    assert shapes.std() == pytest.approx(STD, rel=0.05)


def test_chains_begin_about_the_mean_of_the_shapes(sampler):
    settings = AnnealingSettings(200, 2.0, 0.02, fresh_noise=0.0, **PLAIN)
    shapes = shapes_of(sampler, settings, 256)
    # Begun about zero, the mean of occupied and empty, they would end a tenth lower.
    assert shapes.mean() == pytest.approx(MEAN, abs=0.03 * MEAN)


def test_few_long_steps_keep_the_spread(sampler):
    few = AnnealingSettings(12, 40.0, 0.05, fresh_noise=0.0, **PLAIN)
    # In steps of first order a sixth of it would be lost.
    assert shapes_of(sampler, few, 256).std() == pytest.approx(STD, rel=0.1)


def test_all_noise_fresh_is_sharper_than_the_data(sampler):
    few = AnnealingSettings(20, 100.0, 0.02, fresh_noise=1.0, **PLAIN)
    assert shapes_of(sampler, few).std() < 0.8 * STD


@pytest.mark.parametrize("level", [2.0, 1.1])  # in float32, 1.1 is more than 1.1
def test_from_the_settling_level_down_all_noise_is_fresh(sampler, level):
    settings = AnnealingSettings(6, 9.0, 0.25, fresh_noise=0.3, settle_level=level, settle_steps=3)
    assert [settings.fresh_noise_at(each) for each in (5.0, level, 0.5)] == [0.3, 1.0, 1.0]
    fresh = [settings.fresh_noise_at(each) for each in settings.levels()]
    assert fresh == sorted(fresh) and fresh.count(1.0) >= 4
    assert np.isfinite(shapes_of(sampler, settings, 2)).all()


def test_above_a_level_voxels_are_drawn_at_random_with_their_own_probability(sampler):
    one_step = AnnealingSettings(1, 3.0, 3.0, settle_level=0.0, random_above=1.0)
    shapes = shapes_of(sampler, one_step, num=256)
    assert set(np.unique(shapes)) == {-REFERENCE, REFERENCE}
    share = (shapes > 0).mean()  # the posterior means have the mean of the data
    expected = (MEAN / REFERENCE + 1) / 2
    assert share == pytest.approx(expected, abs=5 * np.sqrt(0.25 / shapes.size))


def test_the_same_seed_gives_the_same_shapes(sampler):
    found = [shapes_of(sampler, AnnealingSettings(5), 2, seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_what_is_visible_comes_back_and_shapes_its_surroundings(sampler):
    values = np.full((2, *GRID, 1), 0.3, np.float32)
    visible = np.zeros((2, *GRID, 1), bool)
    visible[:, :2] = True
    settings = AnnealingSettings(10, **PLAIN)
    found = shapes_of(sampler, settings, 2, constraint=VisibleVoxels(values, visible))
    np.testing.assert_array_equal(found[visible], values[visible])
    assert np.abs(found[~visible] - 0.3).mean() > 0.05


def test_block_averages_are_held(sampler):
    means = np.linspace(-0.2, 0.2, 8, dtype=np.float32).reshape(1, 2, 2, 2, 1)
    found = shapes_of(sampler, AnnealingSettings(10, **PLAIN), 1, constraint=BlockMeans(means))
    found = keras.ops.convert_to_numpy(block_means(found, (2, 2, 2)))
    np.testing.assert_allclose(found, means, atol=1e-6)


def plates(positions, condition, level, guidance=None):
    """Two plates with nothing between them but a column that is likelier than the others."""
    odds = np.full((1, *GRID, 1), -4.0, np.float32)
    odds[:, [0, 3]], odds[:, 1:3, 2, 2] = 4.0, -1.0
    odds = keras.ops.convert_to_tensor(odds)
    if isinstance(condition, Composition):
        odds = odds + condition.told
    means = REFERENCE * keras.ops.tanh(0.5 * odds)
    return keras.ops.broadcast_to(means, keras.ops.shape(positions))


@pytest.mark.parametrize("below", [0.0, 2.0])
def test_from_a_level_down_shapes_are_held_in_one_piece(below):
    sampler = AnnealedSampler({"odds": plates}, GRID, REFERENCE, keras.random.SeedGenerator(0))
    settings = AnnealingSettings(6, **{**PLAIN, "whole_below": below})
    shapes = shapes_of(sampler, settings, 2)[..., 0] > 0
    column = np.zeros(GRID, bool)
    column[1:3, 2, 2] = True
    assert shapes[:, [0, 3]].all()
    expected = column if below else np.zeros_like(column)
    np.testing.assert_array_equal(shapes[:, 1:3], np.stack([expected[1:3]] * 2))
    # Of what is observed nothing is known to be in one piece.
    visible = VisibleVoxels(np.zeros((2, *GRID, 1), np.float32), np.zeros((2, *GRID, 1), bool))
    observed = shapes_of(sampler, settings, 2, constraint=visible)[..., 0] > 0
    assert not observed[:, 1:3].any()


def test_what_must_stay_empty_is_not_filled_to_join_pieces():
    sampler = AnnealedSampler({"odds": plates}, GRID, REFERENCE, keras.random.SeedGenerator(0))
    told = np.zeros((1, *GRID, 1), np.float32)
    told[:, 1:3, 2, 2] = -np.inf
    condition = Composition(np.zeros((1, 1, 1)), np.ones((1, 1)), told)
    settings = AnnealingSettings(6, **PLAIN, whole_below=2.0)
    shape = sampler.sample(1, settings, 0, condition=condition)[0, ..., 0] > 0
    assert not shape[1:3, 2, 2].any() and label_pieces(shape)[1] == 1


def test_chains_go_on_from_what_was_joined_as_if_it_had_been_drawn():
    odds = np.full(GRID, -4.0, np.float32)
    odds[[0, 3]], odds[1:3, 2, 2] = 4.0, -1.0
    settings = AnnealingSettings(6, settle_steps=2, whole_below=float("inf"))
    initial, found = np.zeros((1, *GRID, 1), np.float32), []
    for drawn in (odds, in_one_piece(odds, 3.0)):
        means = REFERENCE * np.tanh(0.5 * drawn)[None, ..., None]

        def draw(positions, condition, level, guidance=None, means=means):
            # At the last level it gives where the chain is.
            signal = keras.ops.reshape(signal_of(level), (-1, 1, 1, 1, 1))
            return keras.ops.where(level[0, 0] > 0.3, means, positions / signal)

        sampler = AnnealedSampler({"odds": draw}, GRID, REFERENCE, keras.random.SeedGenerator(0))
        condition = np.zeros((1, 1), np.float32)
        found.append(sampler.sample(1, settings, 3, initial=initial, condition=condition))
    assert label_pieces(odds > 0)[1] == 2
    np.testing.assert_allclose(*found, atol=1e-4)


def test_levels_are_a_geometric_progression():
    settings = AnnealingSettings(num_steps=4, first_level=8.0, last_level=1.0, settle_steps=0)
    levels = settings.levels()
    np.testing.assert_allclose(levels, [8, 4, 2, 1], rtol=1e-6)
    assert AnnealingSettings(num_steps=1).levels().tolist() == [0.25]


def test_chains_stay_for_some_steps_at_the_level_where_shapes_settle():
    settings = AnnealingSettings(5, 16.0, 0.25, settle_level=1.0, settle_steps=3)
    np.testing.assert_allclose(settings.levels(), [16, 5.65685, 2, 1, 1, 1, 0.707107, 0.25], 1e-5)
    assert [settings.fresh_noise_at(level) for level in settings.levels()][:4] == [0.2, 0.2, 0.2, 1]
    assert len(settings.with_steps(10).levels()) == 16
    # Shapes that are noised to less than that have settled before.
    assert len(AnnealingSettings(5, 0.5, 0.25, settle_steps=3).levels()) == 5


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_steps", 0),
        ("num_steps", 2.5),
        ("first_level", float("inf")),
        ("last_level", -1.0),
        ("last_level", 50.0),
        ("fresh_noise", 1.5),
        ("draw", "guess"),
        ("settle_level", -1.0),
        ("whole_below", -1.0),
        ("guidance", -0.5),
        ("random_above", float("nan")),
    ],
)
def test_a_schedule_that_cannot_run_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        AnnealingSettings(**{setting: value})


def test_training_levels_have_the_median_and_the_spread_that_are_asked_for():
    matching = Denoising(level_median=3.0, level_spread=0.5)
    levels = draw_levels(matching, 20000, keras.random.SeedGenerator(1))
    logarithms = np.log(keras.ops.convert_to_numpy(levels))
    assert np.median(logarithms) == pytest.approx(np.log(3), abs=0.02)
    assert logarithms.std() == pytest.approx(0.5, rel=0.03)
