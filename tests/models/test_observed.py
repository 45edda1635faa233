"""A network that is told what is observed of a shape finds the rest of it."""

import keras
import numpy as np
import pytest
from every_model import small_conditional
from told_odds import SEEN, told_odds_model

from descnet3d.energy.composition import with_observation
from descnet3d.energy.settings import AnnealingSettings, Denoising
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.conditional_network import with_observations
from descnet3d.shapes import blocks

CLASSES = ("slab", "post")


def shapes_of_both():
    """Two slabs and two posts, which no category tells apart."""
    shapes = np.zeros((4, 8, 8, 8), np.float32)
    shapes[0, 1:7, 1:7, 1:3] = 1
    shapes[1, 1:7, 1:7, 5:7] = 1
    shapes[2, 1:3, 3:5, 1:7] = 1
    shapes[3, 5:7, 3:5, 1:7] = 1
    return shapes


LABELS = np.array([0, 0, 1, 1])


def model_of(network):
    sampling = AnnealingSettings(num_steps=12, reconstruction_steps=6)
    return AnnealedDescriptor(network, CLASSES, sampling=sampling)


@pytest.fixture(scope="module")
def learned():
    keras.utils.set_random_seed(0)
    model = model_of(small_conditional(8, cells=8, voxels=0, observed=True))
    denoising = Denoising(warped=0.0, observed=0.8, level_median=6.0)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 500)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), denoising=denoising)
    shapes, labels = np.repeat(shapes_of_both(), 8, axis=0), np.repeat(LABELS, 8)
    model.fit(shapes, labels, batch_size=16, epochs=250, verbose=0)
    return model


def seen_of(shapes, share=0.2):
    return np.random.default_rng(3).random(shapes.shape) < share


@pytest.mark.parametrize("category", [None, "known"])
def test_a_few_voxels_tell_which_shape_it_is(learned, category):
    shapes = shapes_of_both()
    visible = seen_of(shapes)
    for row, name in enumerate(("slab", "slab", "post", "post")):
        told = {"category": name if category else None}
        one = slice(row, row + 1)
        found = learned.recover(shapes[one], visible[one], seed=1, **told)
        assert ((found > 0.5) == (shapes[one] > 0.5)).mean() > 0.99


def test_averages_of_blocks_tell_which_shape_it_is(learned):
    shapes = shapes_of_both()
    coarse = blocks.average(shapes, 4)
    found = learned.super_resolve(coarse, seed=1)
    assert ((found > 0.5) == (shapes > 0.5)).mean() > 0.995
    again = learned.super_resolve(coarse, num_samples=2, seed=1)
    assert again.shape == (4, 2, 8, 8, 8)
    np.testing.assert_allclose(blocks.average(again[:, 1], 4), coarse, atol=1e-6)
    with pytest.raises(ValueError, match="num_samples must be"):
        learned.super_resolve(coarse, num_samples=0)


def test_samples_are_as_often_occupied_as_the_odds_say():
    """Of a network that says independent odds, in which what is observed counts by its mean."""
    model, odds = told_odds_model(observed=True, reconstruction_steps=30, settle_level=0.0)
    shape = (np.random.default_rng(0).random((1, *model.grid)) < 0.5).astype(np.float32)
    visible = np.random.default_rng(1).random(shape.shape) < 0.5
    told = model.recover(shape, visible, category="post", num_samples=400, seed=5)
    known = np.where(visible, shape - 0.5, 0.0)
    assert told.shape == (1, 400, *model.grid)
    expected = 1 / (1 + np.exp(-(odds["post"][..., 0] + SEEN * known.mean())))
    found = (told[0] > 0.5).mean(axis=0)
    hidden = ~visible[0]
    np.testing.assert_array_equal(found[~hidden], shape[0][~hidden])
    assert np.abs(found - expected)[hidden].max() < 0.1
    assert np.abs((found - expected)[hidden].mean()) < 0.02


def test_certain_voxels_teach_nothing(learned):
    shapes = keras.ops.convert_to_tensor(shapes_of_both()[..., None] - 0.5)
    visible = seen_of(shapes_of_both())[..., None]
    told = np.concatenate([np.where(visible, shapes, 0), visible], axis=-1).astype(np.float32)
    rows = keras.ops.convert_to_tensor(learned.condition_of(None, 4))
    condition = with_observation(rows, keras.ops.convert_to_tensor(told))
    levels = keras.ops.full((4, 1), 5.0)
    occupancy = shapes + 0.5

    def loss(truth):
        found = learned.conditional.cross_entropy(shapes, condition, levels, truth)
        return keras.ops.convert_to_numpy(found)

    wrong = keras.ops.where(visible, 1.0 - occupancy, occupancy)
    np.testing.assert_array_equal(loss(wrong), loss(occupancy))
    assert (loss(1.0 - occupancy) > loss(occupancy)).all()


@pytest.mark.parametrize("voxels", [0, 4])
def test_a_network_begins_as_it_was_before_it_was_told(voxels):
    keras.utils.set_random_seed(1)
    before = small_conditional(16, cells=8, voxels=voxels)
    for variable in before.trainable_variables:  # what is zero at first, too
        variable.assign(variable + 0.05 * keras.random.normal(variable.shape, seed=2))
    after = with_observations(before)
    generator = np.random.default_rng(0)
    inputs = [generator.normal(size=(2, 16, 16, 16, 1)), generator.random((2, 8)), [[2.0], [9.0]]]
    inputs = [keras.ops.convert_to_tensor(np.float32(values)) for values in inputs]
    told = keras.ops.convert_to_tensor(generator.random((2, 16, 16, 16, 2)).astype(np.float32))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(after([*inputs, told])),
        keras.ops.convert_to_numpy(before(inputs)),
        rtol=1e-5,
    )
    assert with_observations(after) is after
    drive = after.get_layer("observed_drive").kernel
    drive.assign(drive + 0.1)
    changed = keras.ops.convert_to_numpy(after([*inputs, told]) - before(inputs))
    assert (np.abs(changed) > 1e-3).all()


def test_what_no_network_can_be_told_is_said():
    keras.utils.set_random_seed(0)
    model = model_of(small_conditional(8))
    with pytest.raises(ValueError, match="observing=True"):
        model.compile(denoising=Denoising(observed=0.5))
    own = keras.Input((8, 8, 8, 1)), keras.Input((8,)), keras.Input((1,))
    odds = keras.layers.Conv3D(1, 3, padding="same", name="log_odds")(own[0])
    network = keras.Model(own, keras.layers.Dense(1)(keras.layers.Flatten()(odds)))
    with pytest.raises(ValueError, match="conditional built"):
        model_of(network).with_categories(CLASSES, observing=True)


def test_it_goes_on_from_a_model_that_was_told_nothing(tmp_path):
    keras.utils.set_random_seed(0)
    model = model_of(small_conditional(8, cells=8, voxels=0)).with_categories(
        CLASSES, observing=True
    )
    model.compile(denoising=Denoising(observed=0.8))
    model.fit(shapes_of_both(), LABELS, batch_size=4, epochs=2, verbose=0)
    model.save_preset(tmp_path / "preset", weights_dtype="float32")
    again = AnnealedDescriptor.from_preset(tmp_path / "preset")
    shapes = shapes_of_both()
    both = [each.recover(shapes, seen_of(shapes), seed=4) for each in (model, again)]
    np.testing.assert_allclose(*both, atol=1e-5)
