"""Compositions, beside closed forms of voxels that are independent."""

import keras
import numpy as np
import pytest
from told_odds import CLASSES, REFERENCE, SHAPE, SIDE, told_odds_model

import descnet3d
from descnet3d.energy.annealing import signal_of
from descnet3d.energy.composition import rows_of, with_told

LEVEL = 2.0
# The exact reverse diffusion of these levels, with no voxel drawn at random.
EXACT = {"num_steps": 40, "first_level": 100.0, "last_level": 0.1, "settle_level": 0.0}
EXACT |= {"fresh_noise": float(np.sqrt(1 - (0.1 / 100.0) ** (2 / 39)))}
EXACT |= {"random_above": float("inf"), "guidance": 0.0}
HALVES = {"slab": 0.5, "post": 0.5}
AWAY = {"slab": 1.5, "post": -0.8}


def composed_odds(odds, weights):
    return odds[None] + sum(w * (odds[name] - odds[None]) for name, w in weights.items())


def inputs_of(model, weights, told=None, count=3):
    generator = np.random.default_rng(1)
    positions = (0.4 * generator.standard_normal((count, *SHAPE))).astype(np.float32)
    condition = model._composed(weights, count)
    if told is not None:
        condition = with_told(condition, told)
    told = rows_of(condition, slice(None)), np.full((count, 1), LEVEL, np.float32)
    return positions, told[0], keras.ops.convert_to_tensor(told[1])


def drawn(draw, positions, *told):
    return keras.ops.convert_to_numpy(draw(keras.ops.convert_to_tensor(positions), *told))


def own_odds(positions):
    """What noisy values say of their own voxels, at the level."""
    signal = signal_of(LEVEL)
    return 2 * signal / (1 - signal) ** 2 * positions / REFERENCE


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("weights", [HALVES, AWAY, {"slab": 0.6}])
def test_odds_are_the_weighted_sum_of_what_each_category_changes(weights):
    model, odds = told_odds_model()
    told = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)
    positions, condition, level = inputs_of(model, weights, told)
    for guidance in (None, 0.7):
        times = 1.0 + (guidance or 0.0)
        found = drawn(model.conditional.drawn_by_odds, positions, condition, level, guidance)
        beyond = odds[None] + times * (composed_odds(odds, weights) - odds[None])
        expected = REFERENCE * np.tanh((beyond + told + own_odds(positions)) / 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("weights", [HALVES, AWAY])
def test_energies_are_summed_and_their_descent_is_the_sum_of_descents(weights):
    model, odds = told_odds_model()
    shapes = np.random.default_rng(3).random((3, *SHAPE[:3])).astype(np.float32)
    of_none = np.mean([model.energy(shapes, category={name: 0.0}) for name in CLASSES], axis=0)
    expected = of_none + sum(
        weight * (model.energy(shapes, category=name) - of_none) for name, weight in weights.items()
    )
    np.testing.assert_allclose(model.energy(shapes, category=weights), expected, rtol=1e-5)

    positions, condition, level = inputs_of(model, weights)
    found = drawn(model.conditional.drawn_by_energy, positions, condition, level)
    each = {name: REFERENCE * np.tanh((odds[name] + own_odds(positions)) / 2) for name in odds}
    expected = composed_odds(each, weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_told_of_voxels_changes_their_odds_by_energy_too():
    model, odds = told_odds_model()
    told = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)
    positions, condition, level = inputs_of(model, "slab", told)
    found = drawn(model.conditional.drawn_by_energy, positions, condition, level)
    expected = REFERENCE * np.tanh((odds["slab"] + told + own_odds(positions)) / 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("weights", [HALVES, AWAY])
def test_voxels_are_occupied_as_often_as_the_composed_odds_say(weights):
    model, odds = told_odds_model(**EXACT)
    where = np.random.default_rng(4).integers(-1, 2, SHAPE[:3])
    made = model.synthesize(
        512, category=weights, where=where, strength=1.5, seed=0, batch_size=512
    )
    expected = sigmoid(composed_odds(odds, weights)[..., 0] + 1.5 * where)
    # Five standard errors of a share of 512 shapes, and what 40 steps leave.
    np.testing.assert_allclose(made.mean(0), expected, atol=5 * 0.5 / np.sqrt(512) + 0.02)
    assert np.abs(made.mean(0) - expected).mean() < 0.03


@pytest.mark.parametrize("draw", ["odds", "energy"])
def test_what_must_be_is_so_in_every_voxel(draw):
    model, _ = told_odds_model(num_steps=6, draw=draw)
    where = np.random.default_rng(5).integers(-1, 2, (3, *SHAPE[:3]))
    made = model.synthesize(3, category=HALVES, where=where, seed=0, batch_size=2)
    assert set(made[where == 1]) == {1.0} and set(made[where == -1]) == {0.0}
    assert 0.1 < made[where == 0].mean() < 0.9
    # One grid is that of all shapes, of all categories in turn too.
    made = model.synthesize(3, where=where[0], seed=0)
    assert (made[:, where[0] == 1] == 1).all() and (made[:, where[0] == -1] == 0).all()


def test_what_is_not_composed_is_drawn_to_the_bit_as_it_was():
    model, _ = told_odds_model(num_steps=6, guidance=0.7, guidance_above=0.0)
    plain = model.synthesize(3, category="post", seed=0)
    for asked in (
        {"category": {"post": 1.0}},
        {"category": {"post": 1, "slab": 0}},
        {"category": "post", "guidance": 0.7},
        {"category": "post", "where": np.zeros(SHAPE[:3], int)},
    ):
        np.testing.assert_array_equal(model.synthesize(3, **{**asked, "seed": 0}), plain)
    assert (model.synthesize(3, category="post", guidance=0.0, seed=0) != plain).any()
    assert model.sampling.guidance == 0.7
    positions, condition, level = inputs_of(model, "post")
    noisy = keras.ops.convert_to_tensor(positions)
    told = model.conditional.log_odds([noisy, condition, level])
    untold = model.conditional.log_odds([noisy, 0 * condition, level])
    expected = model.conditional._posterior(told + 0.7 * (told - untold), noisy, level)
    expected = keras.ops.convert_to_numpy(REFERENCE * keras.ops.tanh(0.5 * expected))
    found = drawn(model.conditional.drawn_by_odds, positions, condition, level, 0.7)
    np.testing.assert_array_equal(found, expected)


def test_compositions_are_understood_wherever_a_category_is():
    model, _ = told_odds_model(num_steps=4)
    shapes = model.synthesize(2, category=HALVES, seed=1)
    np.testing.assert_array_equal([*model.watch(category=HALVES, seed=1)][-1].shape, SHAPE[:3])
    visible = np.zeros(shapes.shape, bool)
    visible[:, :2] = True
    whole = model.recover(shapes, visible, category=HALVES, seed=0)
    np.testing.assert_array_equal(whole[visible], shapes[visible])
    latents = model.encode(shapes, category=HALVES)
    assert model.generate(latents=latents, category=HALVES).shape == shapes.shape


def test_a_preset_that_was_saved_composes_as_it_did_and_so_does_a_bound_one(tmp_path):
    model, _ = told_odds_model(num_steps=4)
    asked = {"category": AWAY, "where": np.eye(SIDE, dtype=int)[..., None] * [1, 1, 0, 0]}
    made = model.synthesize(2, **asked, seed=0)
    model.save_preset(tmp_path / "both", id="both", task="synthesis", weights_dtype="float32")
    for again in (descnet3d.load(tmp_path / "both"), model.bound_to("slab")):
        np.testing.assert_allclose(again.synthesize(2, **asked, seed=0), made, atol=1e-5)


FREE = np.zeros(SHAPE[:3], int)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"category": {"slab": 0.5, "lamp": 0.5}}, "one of slab, post, but it is 'lamp'"),
        ({"category": {"slab": float("nan")}}, "finite weight, but that of 'slab' is nan"),
        ({"category": {"slab": "much"}}, "finite weight, but that of 'slab' is 'much'"),
        ({"category": {}}, "category must name one category or more"),
        ({"guidance": -1}, "guidance must be 0 or more and finite, but it is -1"),
        ({"guidance": float("inf")}, "guidance must be 0 or more and finite"),
        ({"where": np.zeros((3, 3, 3))}, r"one grid \[4, 4, 4\].*its shape is \[3, 3, 3\]"),
        ({"where": np.zeros((3, 4, 4, 4))}, r"each of the 2 shapes, but its shape is \[3, 4"),
        ({"where": FREE + 2}, "-1 .empty., 0 .free. or 1 .occupied.*other values"),
        ({"where": FREE > 0}, "but it is bool; of what must be occupied alone, pass"),
        ({"where": FREE, "strength": -1}, "strength must be more than 0, or infinite"),
        ({"where": FREE, "strength": float("nan")}, "strength must be more than 0"),
        ({"strength": 2.0}, "strength=2.0 needs where"),
    ],
)
def test_a_composition_that_cannot_be_is_refused_by_name(asked, message):
    model, _ = told_odds_model(num_steps=1)
    with pytest.raises(ValueError, match=message):
        model.synthesize(2, **{"category": "slab", **asked})


def bernoulli(shapes, odds):
    """The log likelihood of voxels that are independent, `[n]`."""
    logits = np.where(shapes > 0.5, 1, -1) * odds[..., 0]
    return -np.logaddexp(0, -logits).sum((1, 2, 3))


def shapes_of(odds, count, seed=7):
    chances = np.random.default_rng(seed).random((count, *SHAPE[:3]))
    return (chances < sigmoid(odds[..., 0])).astype(np.float32)


FINE = {"levels": np.geomspace(0.1, 100.0, 50), "draws": 30}


def test_likelihoods_and_class_probabilities_are_those_of_independent_voxels():
    model, odds = told_odds_model()
    shapes = np.concatenate([shapes_of(odds[name], 3) for name in CLASSES])
    for category, told in (("slab", odds["slab"]), (None, odds[None]), (AWAY, None)):
        told = composed_odds(odds, AWAY) if told is None else told
        found = model.log_likelihood(shapes, category=category, **FINE)
        np.testing.assert_allclose(found, bernoulli(shapes, told), rtol=0.05)

    evidence = np.stack([bernoulli(shapes, odds[name]) for name in CLASSES], axis=1)
    for temperature in (1.0, 20.0):
        expected = np.exp((evidence - evidence.max(1, keepdims=True)) / temperature)
        expected /= expected.sum(1, keepdims=True)
        found = model.class_probabilities(shapes, temperature=temperature, **FINE)
        np.testing.assert_allclose(found, expected, atol=0.03)
    assert 0.05 < found.min() < found.max() < 0.95  # not only where all is sure


def test_probabilities_are_those_of_the_same_noise_whatever_else_is_asked_about():
    model, odds = told_odds_model()
    shapes = shapes_of(odds["post"], 5)
    together = model.class_probabilities(shapes, temperature=9.0, seed=3)
    np.testing.assert_allclose(together.sum(1), 1.0)
    parts = model.class_probabilities(shapes[:2], temperature=9.0, seed=3, batch_size=1)
    np.testing.assert_allclose(parts, together[:2], atol=1e-5)
    bound = model.bound_to("slab")
    np.testing.assert_allclose(
        bound.log_likelihood(shapes), model.log_likelihood(shapes, category="slab")
    )


def test_likelihoods_are_those_of_the_energys_network_whatever_draws():
    model, odds = told_odds_model()
    other = keras.models.clone_model(model.network)
    other.set_weights([0.5 * weights for weights in model.network.get_weights()])
    drawn_by_other = type(model)(model.network, CLASSES, field=other)
    shapes = shapes_of(odds["post"], 2)
    np.testing.assert_allclose(drawn_by_other.log_likelihood(shapes), model.log_likelihood(shapes))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), "warm"])
def test_a_temperature_that_cannot_be_is_refused_by_name(temperature):
    model, odds = told_odds_model()
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        model.class_probabilities(shapes_of(odds["slab"], 1), temperature=temperature)
