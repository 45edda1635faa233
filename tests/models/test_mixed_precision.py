"""Mixed precision: half the bits where it is safe, and the same training."""

import every_model
import keras
import numpy as np
import pytest
from every_model import EVERY, boxes, likelihood
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.conditional_energy import ConditionalEnergy
from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet

POLICIES = ("mixed_float16", "mixed_bfloat16")


@pytest.fixture
def policy():
    """Sets a policy for as long as the test takes."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def numbers(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def distance(found, expected):
    """Relative to what is expected."""
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def moved(example_of, optimizer):
    """What one step of gradient descent changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(every_model, "optimizer", lambda rate=None: optimizer())
        model, *data = example_of()
    for layer in [layer for part in model.parts.values() for layer in part.layers]:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # what is dropped is drawn in the bits of the policy
    variables = [moved for _, group in model.optimized.values() for moved in group]
    before = [numbers(variable) for variable in variables]
    data = [each for each in data if each is not None]
    model.fit(*data, batch_size=len(data[0]), epochs=1, verbose=0)
    change = [numbers(v) - start for v, start in zip(variables, before, strict=True)]
    return model, np.concatenate([each.ravel() for each in change])


@pytest.fixture(scope="module", params=EVERY)
def moved_in_float32(request):
    """An example, and what a step changes in float32."""
    return request.param, moved(request.param, lambda: keras.optimizers.SGD(1e-3))[1]


@pytest.mark.parametrize("half", POLICIES)
def test_a_step_of_training_is_that_of_float32(moved_in_float32, half, policy):
    example_of, expected = moved_in_float32

    def scaled():
        descent = keras.optimizers.SGD(1e-3)
        scales = half == "mixed_float16"
        return keras.optimizers.LossScaleOptimizer(descent, 64.0) if scales else descent

    policy(half)
    model, found = moved(example_of, scaled)
    assert any(
        layer.compute_dtype == half[6:] for part in model.parts.values() for layer in part.layers
    )
    assert distance(found, expected) < 0.15


def test_the_loss_is_scaled_wherever_a_network_computes_in_float16(policy, tmp_path):
    policy("mixed_float16")
    model = every_model.cooperative().model
    policy("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, again):
        for optimizer in (each.optimizer, each.generator_optimizer):
            assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    model = DescriptorNet(likelihood().model.network)
    model.compile("sgd")
    assert isinstance(model.optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize("half", POLICIES)
def test_chains_gradients_and_shapes_stay_float32(half, policy):
    policy(half)
    model = likelihood().model
    model.fit(boxes(), batch_size=12, epochs=1, verbose=0)
    assert model.chains.positions.dtype == "float32"
    _, gradient = backend.value_and_input_gradient(
        model.energy_of, ops.convert_to_tensor(boxes()[..., None])
    )
    assert keras.backend.standardize_dtype(gradient.dtype) == "float32"
    for made in (model.energy(boxes()), model.features(boxes()), model.synthesize(2, num_steps=2)):
        assert made.dtype == np.float32 and np.isfinite(made).all()


def descriptor():
    """The energy of a network that sums over all voxels."""
    return DescriptorNet(networks.base(32), voxel_mean=0.5).energy_of


def annealed():
    network = every_model.small_conditional(32, conditions=7, cells=8, voxels=8)
    energy = ConditionalEnergy(network, None, 0.5).energy_of
    return lambda positions: energy(positions, ops.zeros((2, 7)), ops.full((2, 1), 1.5))


@pytest.mark.parametrize("half", POLICIES)
@pytest.mark.parametrize("energy_of", [descriptor, annealed])
def test_energies_of_whole_grids_do_not_drown_in_half(energy_of, half, policy):
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 32, 32, 32, 1)).astype("float32")
    positions = ops.convert_to_tensor(noise)
    found = {}
    for each in ("float32", half):
        policy(each)
        keras.utils.set_random_seed(0)
        energies, gradient = backend.value_and_input_gradient(energy_of(), positions)
        found[each] = numbers(energies), numbers(gradient)
    (exact, slope), (energies, gradient) = found["float32"], found[half]
    np.testing.assert_allclose(energies, exact, rtol=0.02)
    assert distance(gradient, slope) < 0.02
