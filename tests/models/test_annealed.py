"""The annealed descriptor, beside closed forms and on shapes small enough to learn by heart."""

import json

import keras
import numpy as np
import pytest
from every_model import small_conditional
from scipy.stats import norm

import descnet3d
from descnet3d.energy.annealing import level_weights
from descnet3d.energy.backend import value_and_input_gradient
from descnet3d.energy.settings import AnnealingSettings, Denoising
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.conditional_network import conditional
from descnet3d.models.preset_config import PresetError

CLASSES = ("slab", "post")


def small_network(seed=0, voxels=0):
    keras.utils.set_random_seed(seed)
    return small_conditional(8, cells=8, voxels=voxels)


def small_model(**options):
    options = {"sampling": AnnealingSettings(num_steps=20), **options}
    return AnnealedDescriptor(small_network(), CLASSES, **options)


def shapes_of_both():
    shapes = np.zeros((2, 8, 8, 8), np.float32)
    shapes[0, 1:7, 1:7, 2:4] = 1
    shapes[1, 3:5, 3:5, 1:7] = 1
    return shapes


@pytest.fixture(scope="module")
def learned():
    """A model that has learned one shape of each category, by both objectives."""
    model = small_model()
    model.compile(keras.optimizers.Adam(5e-3, global_clipnorm=1.0), denoising=Denoising(warped=0.0))
    shapes, labels = np.repeat(shapes_of_both(), 16, axis=0), np.repeat([0, 1], 16)
    model.fit(shapes, labels, batch_size=16, epochs=150, verbose=0)
    return model


def noisy_inputs(model, level, seed=0):
    generator = np.random.default_rng(seed)
    signal = 1 / (1 + level)
    noise = 0.5 * generator.standard_normal((2, 8, 8, 8, 1))
    positions = signal * (shapes_of_both()[..., None] - 0.5) + (1 - signal) * noise
    condition = np.zeros((2, 8), np.float32)
    condition[[0, 1], [0, 1]] = 1
    inputs = positions.astype(np.float32), condition, np.full((2, 1), level, np.float32)
    return tuple(keras.ops.convert_to_tensor(values) for values in inputs)


@pytest.mark.parametrize("mirrored", [True, False])
def test_voxels_see_their_mirrored_places(mirrored):
    """Noise at one voxel tells of the four places that mirroring gives, where patches see none."""
    keras.utils.set_random_seed(3)
    network = small_conditional(16, cells=8, voxels=4, mirrored=mirrored)
    for variable in network.trainable_variables:  # what is zero at first, too
        variable.assign(variable + 0.05 * keras.random.normal(variable.shape, seed=2))
    blind = network.get_layer("patch_drive").kernel
    blind.assign(keras.ops.zeros_like(blind))
    odds = keras.Model(network.inputs, network.get_layer("log_odds").output)
    noise = np.random.default_rng(0).standard_normal((1, 16, 16, 16, 1)).astype(np.float32)
    changed = noise.copy()
    changed[0, 2, 3, 4] += 1
    told = np.ones((1, 8), np.float32), np.full((1, 1), 2.0, np.float32)
    before, after = (keras.ops.convert_to_numpy(odds([y, *told])) for y in (noise, changed))
    moved = (before != after)[0, ..., 0]
    assert moved[2, 3, 4]
    assert moved[13, 3, 4] == moved[2, 12, 4] == moved[13, 12, 4] == mirrored
    assert not moved[:, :, 12:].any()


def test_where_the_odds_see_no_noisy_shape_the_energy_is_that_of_a_mixture_of_two_gaussians():
    model = small_model()
    drawn = model.network.get_layer("drawn")
    drawn.kernel.assign(np.zeros(drawn.kernel.shape))
    odds = np.random.default_rng(1).normal(size=drawn.bias.shape)
    drawn.bias.assign(odds)
    for level in (0.5, 3.0):
        positions, condition, levels = noisy_inputs(model, level)
        grid = model.conditional.log_odds([positions, condition, levels])
        noisy = keras.ops.convert_to_numpy(positions).astype(float)
        probability = 1 / (1 + np.exp(-keras.ops.convert_to_numpy(grid).astype(float)))
        signal, std = 1 / (1 + level), 0.5 * level / (1 + level)
        evidence = probability * norm.pdf(noisy, 0.5 * signal, std)
        evidence += (1 - probability) * norm.pdf(noisy, -0.5 * signal, std)
        # Up to what depends on the level alone.
        constant = 512 * (np.log(norm.pdf(0, 0, std)) - (0.5 * signal) ** 2 / (2 * std**2))
        expected = constant - np.log(evidence).sum(axis=(1, 2, 3, 4))
        found = keras.ops.convert_to_numpy(
            model.conditional.energy_of(positions, condition, levels)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        by_energy = keras.ops.convert_to_numpy(
            model.conditional.drawn_by_energy(positions, condition, levels)
        )
        by_odds = keras.ops.convert_to_numpy(
            model.conditional.drawn_by_odds(positions, condition, levels)
        )
        np.testing.assert_allclose(by_energy, by_odds, atol=1e-4)


def test_the_gradient_is_that_of_finite_differences(learned):
    positions, condition, levels = noisy_inputs(learned, 2.0)

    def energies(moved):
        return learned.conditional.energy_of(moved, condition, levels)

    _, gradient = value_and_input_gradient(energies, positions)
    direction = np.random.default_rng(2).standard_normal((2, 8, 8, 8, 1)).astype(np.float32)
    slope = (keras.ops.convert_to_numpy(gradient) * direction).sum(axis=(1, 2, 3, 4))
    step = 1e-2
    ahead = keras.ops.convert_to_numpy(energies(positions + step * direction))
    behind = keras.ops.convert_to_numpy(energies(positions - step * direction))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=2e-2, atol=0.5)


@pytest.mark.parametrize("draw", ["odds", "energy"])
def test_it_makes_what_it_has_learned_of_each_category(learned, draw):
    learned.sampling = AnnealingSettings(num_steps=20, fresh_noise=0.5, draw=draw)
    for row, category in enumerate(CLASSES):
        made = learned.synthesize(4, category=category, seed=0) > 0.5
        truth = shapes_of_both()[row] > 0.5
        overlap = (made & truth).sum((1, 2, 3)) / (made | truth).sum((1, 2, 3))
        assert overlap.mean() > 0.9, (category, overlap)
    turns = learned.synthesize(2, seed=0)
    assert turns[0].sum() > 2 * turns[1].sum()  # all categories in turn: a slab, a post


def test_guidance_takes_the_odds_beyond_what_the_category_changes(learned):
    positions, condition, level = noisy_inputs(learned, 8.0)
    guided, plain, untold = (
        np.arctanh(2 * np.clip(keras.ops.convert_to_numpy(drawn), -0.499, 0.499))
        for drawn in (
            learned.conditional.drawn_by_odds(positions, condition, level, 0.5),
            learned.conditional.drawn_by_odds(positions, condition, level),
            learned.conditional.drawn_by_odds(positions, 0 * condition, level),
        )
    )
    inside = np.max(np.abs([guided, plain, untold]), axis=0) < 3
    assert inside.sum() >= 5
    np.testing.assert_allclose(guided[inside], (1.5 * plain - 0.5 * untold)[inside], atol=2e-2)
    settings = AnnealingSettings(num_steps=8, guidance=0.7, draw="energy")
    learned.sampling = settings
    assert np.isfinite(learned.synthesize(2, category="post", seed=0)).all()
    assert [settings.guidance_at(level) for level in (5.0, 1.0)] == [0.7, 0.0]


def test_energies_tell_the_categories_apart(learned):
    shapes = shapes_of_both()
    model = learned.bound_to(None)
    model.sampling = AnnealingSettings(last_level=4.0)  # at lower ones the voxels say it all
    of_slabs, of_posts = (model.energy(shapes, category=name) for name in CLASSES)
    assert of_slabs[0] < of_posts[0] and of_posts[1] < of_slabs[1]


def test_likelihoods_tell_the_categories_apart_and_what_is_neither_is_less_likely(learned):
    shapes = shapes_of_both()
    chances = learned.class_probabilities(shapes)
    assert chances.shape == (2, 2) and np.diag(chances).min() > 0.9
    scattered = np.random.default_rng(0).permuted(shapes.reshape(2, -1), axis=1)
    for row, category in enumerate(CLASSES):
        known, other = learned.log_likelihood(shapes[[row, 1 - row]], category=category)
        [strange] = learned.log_likelihood(scattered[[row]].reshape(1, 8, 8, 8), category=category)
        assert known > -1 and max(other, strange) < known - 3  # one shape, known by heart


def test_dynamics_that_are_watched_end_where_others_do():
    model = small_model()
    watched = list(model.watch(category="post", seed=3))
    assert len(watched) == len(model.sampling.levels())
    [shape] = model.synthesize(1, category="post", seed=3)
    np.testing.assert_array_equal(watched[-1], shape)
    # Noise has a half of its voxels on either side of grey, whatever it becomes.
    assert (watched[0] > 0.5).mean() == pytest.approx(0.5, abs=0.1)


def test_the_energy_learns_to_descend_to_what_its_field_draws():
    model = small_model()
    for name in ("drawn", "patch_drive", "block1_context"):
        kernel = model.network.get_layer(name).kernel
        kernel.assign(3.0 * keras.random.normal(kernel.shape, seed=1) / kernel.shape[-2] ** 0.5)
    model.compile(keras.optimizers.Adam(3e-3), denoising=Denoising("energy", warped=0.0))
    frozen = [np.array(weights) for weights in model.field.get_weights()]
    shapes, labels = np.repeat(shapes_of_both(), 8, axis=0), np.repeat([0, 1], 8)
    history = model.fit(shapes, labels, batch_size=16, epochs=60, verbose=0).history
    errors = history["gradient_error"]
    assert np.mean(errors[-10:]) < 0.5 * np.mean(errors[:5])
    for before, after in zip(frozen, model.field.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_odds_begin_as_the_patches_tell_them_and_then_heed_single_voxels():
    network = small_network(voxels=4)
    odds = keras.Model(
        network.inputs, [network.get_layer(name).output for name in ("patch_odds", "log_odds")]
    )
    inputs = noisy_inputs(small_model(), 1.0)
    told, whole = (keras.ops.convert_to_numpy(each) for each in odds(list(inputs)))
    np.testing.assert_array_equal(told, whole)
    drawn = network.get_layer("voxel_odds")
    drawn.kernel.assign(np.ones(drawn.kernel.shape))
    told, whole = (keras.ops.convert_to_numpy(each) for each in odds(list(inputs)))
    assert np.abs(whole - told).min() > 0 and np.ptp(whole - told) > 0.01


def test_what_draws_goes_on_learning_where_the_energy_has_a_smaller_network():
    field = small_network(seed=1, voxels=4)
    model = AnnealedDescriptor(small_network(), CLASSES, field=field)
    shapes, labels = np.repeat(shapes_of_both(), 8, axis=0), np.repeat([0, 1], 8)
    drawn = model.synthesize(2, category="slab", seed=0)
    before = [np.array(weights) for weights in field.get_weights()]
    model.compile(keras.optimizers.Adam(5e-3), denoising=Denoising(warped=0.0))
    history = model.fit(shapes, labels, batch_size=16, epochs=40, verbose=0).history
    assert model.network is field and model.field is None
    assert history["cross_entropy"][-1] < 0.7 * history["cross_entropy"][0]
    assert all(
        (then != now).any()
        for then, now in zip(before, field.get_weights(), strict=True)
        if then.size > 64
    )
    assert (model.synthesize(2, category="slab", seed=0) != drawn).any()


def test_fine_levels_weigh_more():
    levels = np.array([[0.05], [1.0], [4.0], [16.0], [200.0]], np.float32)
    weights = keras.ops.convert_to_numpy(level_weights(Denoising(fine_weight=0.5), levels))
    np.testing.assert_allclose(weights[:, 0], [8.0, 2.0, 1.0, 0.5, 0.3], rtol=1e-6)
    assert (
        keras.ops.convert_to_numpy(level_weights(Denoising(fine_weight=0.0), levels)) == 1
    ).all()


def test_a_bound_model_is_the_same_model_of_one_category(learned):
    bound = learned.bound_to("post")
    shapes = shapes_of_both()
    np.testing.assert_array_equal(bound.energy(shapes), learned.energy(shapes, category="post"))
    np.testing.assert_allclose(
        bound.synthesize(2, seed=5), learned.synthesize(2, category="post", seed=5), atol=1e-5
    )


def test_visible_voxels_and_block_averages_are_kept(learned):
    shapes = shapes_of_both()
    visible = np.random.default_rng(0).random(shapes.shape) < 0.5
    whole = learned.recover(shapes, visible, category="slab", seed=0)
    np.testing.assert_array_equal(whole[visible], shapes[visible])
    assert np.abs(whole[0] - shapes[0]).mean() < 0.05
    coarse = shapes.reshape(2, 4, 2, 4, 2, 4, 2).mean((2, 4, 6))
    fine = learned.super_resolve(coarse, seed=0)
    np.testing.assert_allclose(fine.reshape(2, 4, 2, 4, 2, 4, 2).mean((2, 4, 6)), coarse, atol=1e-5)
    revised = learned.revise(shapes[1:], category="post", seed=0)
    assert np.abs(revised - shapes[1:]).mean() < 0.05


def test_a_preset_comes_back_and_another_one_binds_it_to_a_category(learned, tmp_path):
    learned.compile(denoising=Denoising("energy"))  # from here on it has a field
    about = {"task": "synthesis", "size": [8, 8, 8], "parameters": 1, "scores": {}}
    learned.save_preset(tmp_path / "all", id="all", category="both", weights_dtype="float32")
    model = descnet3d.load(tmp_path / "all")
    shapes = shapes_of_both()
    np.testing.assert_allclose(model.energy(shapes), learned.energy(shapes), rtol=1e-6)
    same = learned.synthesize(2, seed=1)
    np.testing.assert_allclose(model.synthesize(2, seed=1), same, atol=1e-5)
    (tmp_path / "posts").mkdir()
    of_posts = {"class": "BoundToCategory", "shares": "all", "category": "post"}
    config = {"format": 1, "id": "posts", "category": "post", "model": of_posts, **about}
    (tmp_path / "posts" / "config.json").write_text(json.dumps(config))
    posts = descnet3d.load(tmp_path / "posts")
    assert (posts.category, posts.preset["id"]) == ("post", "posts")
    np.testing.assert_allclose(
        posts.synthesize(2, seed=1), learned.synthesize(2, category="post", seed=1), atol=1e-5
    )
    of_posts["category"] = "lamp"
    (tmp_path / "posts" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="category must be one of slab, post"):
        descnet3d.load(tmp_path / "posts")
    del of_posts["shares"]
    (tmp_path / "posts" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match="it lacks shares"):
        descnet3d.load(tmp_path / "posts")


def test_what_it_cannot_do_is_said_by_name(learned):
    with pytest.raises(ValueError, match="category must be one of slab, post, but it is 'lamp'"):
        learned.synthesize(1, category="lamp")
    with pytest.raises(ValueError, match="y missing"):
        small_model().fit(shapes_of_both())
    with pytest.raises(ValueError, match="a multiple of 4"):
        conditional(10)


def test_a_shape_that_is_encoded_is_generated_again(learned):
    shapes = shapes_of_both()
    for shape, category in zip(shapes, CLASSES, strict=True):
        latents = learned.encode(shape[None], category=category)
        assert latents.shape == (1, learned.num_latents)
        # As long as the prior's are.
        assert np.linalg.norm(latents) == pytest.approx(np.sqrt(learned.num_latents), rel=0.15)
        again = learned.generate(latents=latents, category=category)
        np.testing.assert_array_equal(again > 0.5, shape[None] > 0.5)


def test_the_same_latents_give_the_same_shapes_and_a_path_ends_where_it_should(learned):
    latents = learned.draw_latents(2, seed=3)
    ends = learned.generate(latents=latents, category="slab")
    np.testing.assert_allclose(ends, learned.generate(2, seed=3, category="slab"), atol=1e-5)
    path = learned.interpolate(*latents, 3, category="slab")
    np.testing.assert_allclose(path[[0, -1]], ends, atol=1e-3)
    # a - b + b is a, up to its length.
    kept = learned.arithmetic(latents[0], latents[1], latents[1], category="slab")
    assert np.mean((kept > 0.5) == (ends[0] > 0.5)) > 0.95


def test_latents_of_another_length_are_refused(learned):
    with pytest.raises(ValueError, match=r"latents must have the shape \[n, 512\]"):
        learned.generate(latents=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="one of slab, post"):
        learned.encode(shapes_of_both(), category="lamp")
