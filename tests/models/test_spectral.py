"""Convolutions by their spectra, beside those of the backend."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from descnet3d.energy import backend
from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.spectral import _Plan, _Spectral, spectral

ON_A_CPU = pytest.mark.skipif(not backend.on_cpu(), reason="convolutions are direct on a GPU")


def convolution(sides, filters, kernels, strides, padding, activation=None):
    """A convolution of a channel or more, with weights and biases at random."""
    layer = layers.Conv3D(
        filters, kernels, strides, padding=padding, activation=activation, bias_initializer="normal"
    )
    layer(keras.Input(sides))
    return layer


def by_spectrum(layer):
    """What computes a convolution so, whether it is faster or not."""
    return _Spectral(layer, _Plan.of(layer, layer.input.shape[1:4]))


def apart(found, expected):
    """The largest difference, beside the largest value."""
    found, expected = ops.convert_to_numpy(found), ops.convert_to_numpy(expected)
    return np.abs(found - expected).max() / np.abs(expected).max()


three = st.tuples(*[st.integers(1, 4)] * 3)


@settings(max_examples=40, deadline=None)
@given(
    three.map(lambda each: tuple(4 + 2 * side for side in each)),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from(["same", "valid"]),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_a_spectrum_gives_what_the_convolution_gives(
    sides, kernels, strides, padding, channels, seed
):
    keras.utils.set_random_seed(seed)
    layer = convolution((*sides, channels), 4, kernels, strides, padding)
    shapes = np.random.default_rng(seed).normal(size=(2, *sides, channels)).astype("float32")
    found = by_spectrum(layer)._by_spectrum(ops.convert_to_tensor(shapes))
    assert found.shape == layer(shapes).shape
    assert apart(found, layer(shapes)) < 1e-5


def test_its_gradients_are_those_of_the_convolution():
    keras.utils.set_random_seed(0)
    layer = convolution((12, 12, 12, 2), 3, 7, 2, "same", "tanh")
    shapes = np.random.default_rng(0).normal(size=(3, 12, 12, 12, 2)).astype("float32")
    shapes = ops.convert_to_tensor(shapes)

    def gradients(function):
        def values(positions):
            return ops.sum(ops.square(function(positions)), axis=(1, 2, 3, 4))

        _, of_shapes = backend.value_and_input_gradient(values, shapes)
        _, of_weights = backend.gradients(
            lambda: (ops.sum(values(shapes)), None), [layer.kernel, layer.bias]
        )
        return [of_shapes, *of_weights]

    for found, expected in zip(
        gradients(by_spectrum(layer)._by_spectrum), gradients(layer), strict=True
    ):
        assert apart(found, expected) < 1e-5


@ON_A_CPU
def test_the_papers_network_is_computed_by_spectra_and_small_kernels_are_not():
    paper = networks.build("paper", 32)
    assert spectral(paper) is not paper
    first, second = (
        _Plan.of(layer, layer.input.shape[1:4])
        for layer in (paper.get_layer("conv1"), paper.get_layer("conv2"))
    )
    assert [axis.blocks for axis in (*first.axes, *second.axes)] == [13] * 3 + [7] * 3
    assert first.gain > 15 and second.gain > 5
    for size in (16, 32):
        base = networks.build("base", size)
        assert spectral(base) is base


@ON_A_CPU
def test_a_descriptor_has_the_energies_of_its_network_whatever_its_weights_become():
    keras.utils.set_random_seed(1)
    network = networks.paper(16, filters=(20, 20), kernels=(10, 5), strides=(2, 1))
    assert spectral(network) is not network
    model = DescriptorNet(network)
    shapes = np.random.default_rng(1).random((6, 16, 16, 16)).astype("float32")
    for _ in range(2):
        score = ops.convert_to_numpy(network(shapes[..., None]))[:, 0]
        expected = (shapes**2).sum((1, 2, 3)) / (2 * model.reference_std**2) - score
        assert np.abs(score).max() > 0.01
        np.testing.assert_allclose(model.energy(shapes), expected, rtol=2e-6)
        for variable in network.trainable_variables:
            variable.assign(2.0 * variable)
    assert len(model.weights) == len({id(each) for each in model.weights})
    assert len(model.trainable_variables) == 6


def test_one_shape_is_left_to_the_convolution_where_the_kernels_spectrum_costs_more():
    keras.utils.set_random_seed(0)
    layer = convolution((11, 11, 11, 100), 100, 6, 2, "same")
    computed = by_spectrum(layer)
    assert computed.plan.least > 1
    one = np.random.default_rng(0).normal(size=(1, 11, 11, 11, 100)).astype("float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(computed(one)), ops.convert_to_numpy(layer(one))
    )


class Doubled(keras.Model):
    """A functional network whose call does more than its graph."""

    def call(self, inputs, training=False):
        return 2.0 * super().call(inputs, training=training)


def wide(sides=(16, 16, 16), **options):
    """A layer that is faster by its spectrum on a grid of 16³."""
    return layers.Conv3D(24, 10, strides=2, padding="same", **options)


def test_what_does_more_than_a_convolution_is_left_as_it_is():
    inputs = keras.Input((16, 16, 16, 1))
    alone = keras.Model(inputs, wide()(inputs))
    assert not backend.on_cpu() or spectral(alone) is not alone
    punished = keras.Model(inputs, wide(activity_regularizer="l2")(inputs))
    assert spectral(punished) is punished
    doubled = Doubled(inputs, wide()(inputs))
    assert spectral(doubled) is doubled
    half = keras.Model(inputs, wide(dtype="mixed_bfloat16")(inputs))
    assert spectral(half) is half


@ON_A_CPU
def test_a_layer_is_computed_on_each_grid_that_it_is_called_on():
    keras.utils.set_random_seed(0)
    layer = wide()
    layer(keras.Input((None, None, None, 1)))
    inputs = keras.Input((16, 16, 16, 1))
    coarse = layers.AveragePooling3D(2)(inputs)
    outputs = layers.Concatenate()([layers.Flatten()(layer(each)) for each in (inputs, coarse)])
    network = keras.Model(inputs, outputs)
    shapes = np.random.default_rng(0).random((2, 16, 16, 16, 1)).astype("float32")
    function = spectral(network)
    assert function is not network
    assert apart(function(ops.convert_to_tensor(shapes)), network(shapes)) < 1e-5
