"""Top-down networks, and the autoencoder that is their first teacher."""

import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.energy import backend
from descnet3d.models import generators
from descnet3d.models.autoencoder import Autoencoder


def small(latents=3, size=16):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, size, 1))
    flat = keras.layers.Flatten()(inputs)
    return (
        generators.generator(size, seed_channels=2, latents=latents, hidden=8, width=4),
        keras.Model(inputs, keras.layers.Dense(latents)(flat)),
    )


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_generator_makes_occupancy_on_its_grid(size):
    generator, _ = small(size=size)
    drawn = 5 * np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    shapes = ops.convert_to_numpy(generator(drawn)) + 0.5
    assert shapes.shape == (2, size, size, size, 1)
    assert shapes.min() >= 0 and shapes.max() <= 1


def test_latents_are_heard_in_the_shapes_of_a_new_generator():
    keras.utils.set_random_seed(0)
    drawn = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
    shapes = ops.convert_to_numpy(generators.generator()(drawn))
    assert shapes.std(axis=0).mean() > 0.1


@pytest.mark.parametrize("size", [8, 24, 30])
def test_grids_that_cannot_be_grown_are_refused(size):
    with pytest.raises(
        ValueError, match=f"must be 16, 32, 64, … for a generator, but it is {size}"
    ):
        generators.generator(size)


def test_a_generator_begins_at_the_occupancy_that_it_is_told():
    generator = generators.generator(16, latents=3, occupancy=0.1)
    drawn = ops.convert_to_numpy(generator(np.zeros((1, 3), "float32"))) + 0.5
    assert 0.08 < drawn.mean() < 0.125
    with pytest.raises(ValueError, match="between 0 and 1"):
        generators.generator(16, occupancy=0.0)


def test_principal_components_are_whitened_and_agree_with_a_singular_value_decomposition():
    shapes = (np.random.default_rng(0).random((40, 16, 16, 16)) < 0.3).astype("float32")
    shapes[:20, 3:9] = 1  # one direction that stands out
    encoder = generators.principal_encoder(shapes, latents=3, voxel_mean=0.2, mirror_axes=(0,))
    every = np.concatenate([shapes, shapes[:, ::-1]])
    found = ops.convert_to_numpy(encoder(every[..., None] - 0.2))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(found, rowvar=False), np.eye(3), atol=1e-2)
    rows = every.reshape(80, -1) - every.reshape(80, -1).mean(axis=0)
    left = np.linalg.svd(rows, full_matrices=False)[0][:, 0] * np.sqrt(79)
    assert abs(np.corrcoef(found[:, 0], left)[0, 1]) > 0.999
    assert encoder.trainable_variables == []
    with pytest.raises(ValueError, match="fewer than the shapes, of which there are 40"):
        generators.principal_encoder(shapes, latents=40)


def test_an_autoencoder_learns_shapes_apart():
    generator, _ = small(latents=1)
    shapes = np.zeros((2, 16, 16, 16), "float32")
    shapes[0, :8], shapes[1, 8:] = 1, 1
    encoder = generators.principal_encoder(shapes, latents=1)
    model = Autoencoder(generator, encoder, generator_std=0.3)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(np.repeat(shapes, 4, axis=0), batch_size=8, epochs=120, verbose=0).history
    assert history["squared_error"][-1] < 0.2 * history["squared_error"][0]
    latents = ops.convert_to_numpy(encoder(shapes[..., None] - 0.5))
    drawn = ops.convert_to_numpy(generator(latents))[..., 0] + 0.5
    assert (shapes[0] > 0.5)[drawn[0] > 0.5].mean() > 0.95
    assert (shapes[1] > 0.5)[drawn[1] > 0.5].mean() > 0.95


def test_an_autoencoder_is_saved_and_loaded_as_any_model_of_shapes(tmp_path):
    model = Autoencoder(*small(), generator_std=0.3, voxel_mean=0.2)
    again = Autoencoder.from_preset(model.save_preset(tmp_path, weights_dtype="float32"))
    assert (again.generator_std, again.voxel_mean) == (0.3, 0.2)
    shapes = np.random.default_rng(0).random((2, 16, 16, 16, 1), dtype="float32")
    for name, part in model.parts.items():
        given = shapes if name == "encoder" else shapes[:, :3, 0, 0, 0]
        found = ops.convert_to_numpy(again.parts[name](given))
        np.testing.assert_array_equal(found, ops.convert_to_numpy(part(given)))


def test_patches_drawn_by_a_product_are_those_of_the_convolution():
    network = generators.generator(16, latents=3, hidden=8, seed_channels=2, width=4)
    generate = generators.patchwise(network)
    latents = np.random.default_rng(0).standard_normal((40, 3)).astype("float32")
    whole = ops.convert_to_numpy(network(latents))
    for count in (1, 5, 40):
        found = ops.convert_to_numpy(generate(latents[:count]))
        np.testing.assert_allclose(found, whole[:count], atol=1e-5)
    # It has the network's own weights, whatever becomes of them.
    kernel = network.get_layer("occupancy").kernel
    kernel.assign(-kernel)
    changed = ops.convert_to_numpy(network(latents))
    assert abs(changed - whole).max() > 0.01
    np.testing.assert_allclose(ops.convert_to_numpy(generate(latents)), changed, atol=1e-5)


def test_the_weights_learn_alike_through_the_product():
    network = generators.generator(16, latents=3, hidden=8, seed_channels=2, width=4)
    latents = np.random.default_rng(0).standard_normal((6, 3)).astype("float32")
    gradients = [
        backend.gradients(
            lambda function=function: (ops.sum(ops.square(function(latents, training=True))), {}),
            network.trainable_variables,
        )[1]
        for function in (network, generators.patchwise(network))
    ]
    for one, other in zip(*gradients, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * abs(one).max())
