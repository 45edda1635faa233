"""f(Y; θ) and its gradient, against SciPy and finite differences."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.signal import correlate

from descnet3d.energy import backend
from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet


def same_padding(size, kernel, stride):
    """What 'same' adds before and after, so that ceil(size / stride) responses come out."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolution_by_scipy(volume, kernels, bias, stride):
    """Channels-last strided correlation with 'same' padding, in float64."""
    padding = [same_padding(volume.shape[i], kernels.shape[i], stride) for i in range(3)]
    padded = np.pad(volume, [*padding, (0, 0)])
    maps = [
        sum(
            correlate(padded[..., i], kernels[..., i, o], mode="valid", method="direct")
            for i in range(kernels.shape[3])
        )[::stride, ::stride, ::stride]
        for o in range(kernels.shape[4])
    ]
    return np.stack(maps, axis=-1) + bias


def paper_score_by_scipy(network, shape, strides):
    weights = [ops.convert_to_numpy(v.value).astype(np.float64) for v in network.variables]
    hidden = shape.astype(np.float64)
    for level, stride in enumerate(strides):
        hidden = convolution_by_scipy(hidden, *weights[2 * level : 2 * level + 2], stride)
        hidden = np.maximum(hidden, 0)
    return hidden.ravel() @ weights[-2][:, 0] + weights[-1][0]


def rescaled(network, seed=0):
    """The network with weights large enough that its score is not all rounding."""
    generator = np.random.default_rng(seed)
    for variable in network.variables:
        scale = 1 / np.sqrt(max(np.prod(variable.shape[:-1]), 1))
        variable.assign(generator.normal(0, scale, variable.shape).astype("float32"))
    return network


@pytest.mark.parametrize(
    ("size", "kernels", "strides"), [(12, (5, 3), (2, 2)), (11, (6, 4), (3, 2))]
)
def test_paper_agrees_with_scipy_on_small_grids(size, kernels, strides):
    network = rescaled(networks.paper(size, filters=(6, 5), kernels=kernels, strides=strides))
    shapes = np.random.default_rng(1).normal(size=(3, size, size, size, 1)).astype("float32")
    scores = ops.convert_to_numpy(network(shapes))[:, 0]
    expected = [paper_score_by_scipy(network, shape, strides) for shape in shapes]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_paper_agrees_with_scipy_at_its_own_size():
    network = rescaled(networks.paper())
    assert network.count_params() == 200 * 16**3 + 200 + 100 * 200 * 6**3 + 100 + 100 * 6**3 + 1
    shape = np.random.default_rng(1).normal(size=(32, 32, 32, 1)).astype("float32")
    weights = [ops.convert_to_numpy(v.value).astype(np.float64) for v in network.variables]
    low, high = same_padding(32, 16, 3)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(shape[..., 0].astype(np.float64), [(low, high)] * 3), (16, 16, 16)
    )[::3, ::3, ::3]
    hidden = np.maximum(np.tensordot(windows, weights[0][..., 0, :], 3) + weights[1], 0)
    low, high = same_padding(11, 6, 2)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(hidden, [(low, high)] * 3 + [(0, 0)]), (6, 6, 6), axis=(0, 1, 2)
    )[::2, ::2, ::2]
    hidden = np.einsum("xyzcijk,ijkco->xyzo", windows, weights[2], optimize=True) + weights[3]
    expected = np.maximum(hidden, 0).ravel() @ weights[4][:, 0] + weights[5][0]
    score = ops.convert_to_numpy(network(shape[None]))[0, 0]
    assert score == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["paper", "base"])
def test_the_input_gradient_agrees_with_finite_differences(name):
    keras.utils.set_random_seed(0)
    if name == "paper":
        network, step = networks.paper(12, filters=(6, 5), kernels=(5, 3), strides=(2, 2)), 1e-3
    else:
        # Its energy is so large that a smaller step drowns in the rounding of float32.
        network, step = networks.build("base", 32), 1e-2
    model = DescriptorNet(rescaled(network) if name == "paper" else network, voxel_mean=0.5)
    generator = np.random.default_rng(2)
    position = generator.normal(size=(1, *model.grid, 1)).astype("float32")
    _, gradient = backend.value_and_input_gradient(model.energy_of, position)
    gradient = ops.convert_to_numpy(gradient)
    for _ in range(4):
        direction = generator.normal(size=position.shape).astype("float32")
        ahead, behind = (
            float(ops.convert_to_numpy(model.energy_of(position + sign * step * direction))[0])
            for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(slope - (gradient * direction).sum()) < 2e-3 * scale


@pytest.mark.parametrize("std", [0.25, 1.0])
def test_far_from_every_shape_the_energy_of_base_grows(std):
    model = DescriptorNet(networks.build("base", 8, std), reference_std=std)
    far = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 1)).astype("float32")
    energies = [ops.convert_to_numpy(model.energy_of(scale * far)) for scale in (10, 100, 1000)]
    assert np.all(np.diff(energies, axis=0) > 0) and np.all(energies[0] > 0)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_intermediates_are_reachable_by_name(name):
    network = networks.build(name, 32)
    responses = networks.intermediates(network)(np.zeros((2, 32, 32, 32, 1), "float32"))
    assert len(responses) >= 2
    for layer_name, response in responses.items():
        assert response.shape[0] == 2
        assert network.get_layer(layer_name) is not None
    assert network.output_shape == (None, 1)


def test_an_unknown_network_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="paper.*'papre'"):
        networks.build("papre")


@pytest.mark.parametrize("outputs", [(3,), None])
def test_a_network_that_gives_no_scalar_is_refused(outputs):
    inputs = keras.Input((8, 8, 8, 1))
    hidden = keras.layers.Flatten()(inputs)
    out = keras.layers.Dense(3)(hidden) if outputs else inputs
    with pytest.raises(ValueError, match="network must give one score a shape"):
        DescriptorNet(keras.Model(inputs, out))


def test_a_network_without_a_fixed_grid_is_refused():
    inputs = keras.Input((None, None, None, 1))
    out = keras.layers.GlobalAveragePooling3D()(inputs)
    with pytest.raises(ValueError, match="fixed grid"):
        DescriptorNet(keras.Model(inputs, out))
