"""`model.save` and `keras.saving.load_model`: a fitted model comes back as what it was."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from every_model import EVERY, boxes, cooperative, likelihood
from keras import ops

from descnet3d.energy.settings import ChainSettings, MaximumLikelihood
from descnet3d.models.descriptor import DescriptorNet


def state(model):
    return {
        name: np.array(ops.convert_to_numpy(v.value)) for name, v in model.training_state.items()
    }


def assert_same_state(one, other):
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("example_of", EVERY)
def test_a_fitted_model_goes_on_as_if_it_had_never_been_saved(example_of, tmp_path):
    model, *data = example_of()
    data = [each for each in data if each is not None]
    model.fit(*data, batch_size=4, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name in set(model.objectives) - {"teaching", "generator_optimizer"}:
        assert again.objectives[name] == model.objectives[name]
    assert_same_state(model, again)
    again.summary(print_fn=lambda line: None)
    for each in (model, again):
        each.fit(*data, batch_size=4, initial_epoch=2, epochs=4, verbose=0)
    assert_same_state(model, again)


def test_the_optimizers_and_the_anchor_of_cooperative_training_come_back(tmp_path):
    model = cooperative().model
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name in ("optimizer", "generator_optimizer"):
        assert getattr(again, name).get_config() == getattr(model, name).get_config()
    assert again.teaching.inference == model.teaching.inference
    assert again.teaching.anchor.generator is again.generator
    assert again.teaching.anchor.generator_std == model.teaching.anchor.generator_std


def test_what_a_preset_was_trained_for_is_kept_without_compiling(tmp_path):
    model = DescriptorNet(likelihood().model.network)
    model.preset = {"task": "recovery", "recipe": {"task": "recovery", "corruption": "voxels:0.5"}}
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.compiled
    again.summary(print_fn=lambda line: None)
    again.compile()
    assert again.task.corruption == "voxels:0.5" and again.matching is not None


def test_weights_alone_go_into_a_model_that_was_compiled_otherwise(tmp_path):
    model = likelihood().model
    model.fit(boxes(), batch_size=4, epochs=1, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = DescriptorNet(likelihood().model.network, voxel_mean=0.3, reference_std=0.6)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.energy(boxes()), model.energy(boxes()))
    fewer = MaximumLikelihood(chains=ChainSettings(per_step=3, count=3))
    other.compile(keras.optimizers.SGD(), likelihood=fewer)
    with pytest.warns(UserWarning, match="optimizer"):
        other.load_weights(tmp_path / "model.weights.h5")
    assert other.chains.positions.shape[0] == 3


def test_a_process_of_its_own_loads_it_with_the_class_imported(tmp_path):
    model = likelihood().model
    model.save(tmp_path / "model.keras")
    script = (
        "import keras\nfrom descnet3d import DescriptorNet\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "print(model.likelihood.chains.count)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.split()[-1] == "8", found.stderr
