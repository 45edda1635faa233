"""The model: energies, synthesis, and what training does to it."""

import json
import os
import subprocess
import sys

import every_model
import keras
import numpy as np
import pytest
import told_by_backend
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.settings import (
    ChainSettings,
    EquilibriumMatching,
    LangevinSettings,
    MaximumLikelihood,
)
from descnet3d.files import OutputError
from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.fitting import DivergenceError
from descnet3d.models.preset_config import PresetError
from descnet3d.zoo.presets import load

SIZE = 8


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    return networks.paper(SIZE, filters=(8, 6), kernels=(4, 3), strides=(2, 2))


def small_model(**arguments):
    return DescriptorNet(small_network(), **{"voxel_mean": 0.5, **arguments})


def boxes(count, seed=0):
    """Boxes standing on the floor of a grid."""
    generator = np.random.default_rng(seed)
    shapes = np.zeros((count, SIZE, SIZE, SIZE), np.float32)
    for shape, height in zip(shapes, generator.integers(2, 6, count), strict=True):
        shape[2:6, 2:6, :height] = 1
    return shapes


def test_the_energy_is_the_reference_minus_the_score():
    model = small_model(voxel_mean=0.3, reference_std=0.7)
    shapes = np.random.default_rng(0).random((5, SIZE, SIZE, SIZE)).astype("float32")
    positions = (shapes - 0.3)[..., None]
    score = ops.convert_to_numpy(model.network(positions))[:, 0]
    expected = (positions**2).sum((1, 2, 3, 4)) / (2 * 0.7**2) - score
    np.testing.assert_allclose(model.energy(shapes), expected, rtol=1e-5)
    np.testing.assert_allclose(model.energy(shapes, batch_size=2), expected, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(model(shapes)), expected, rtol=1e-5)


def test_a_network_of_ones_own_may_give_a_vector_of_scores():
    inputs = keras.Input((SIZE, SIZE, SIZE, 1))
    scores = keras.layers.Reshape(())(keras.layers.GlobalAveragePooling3D()(inputs))
    model = DescriptorNet(keras.Model(inputs, scores))
    shapes = boxes(3)
    expected = (shapes**2).sum((1, 2, 3)) / (2 * 0.25) - shapes.mean((1, 2, 3))
    np.testing.assert_allclose(model.energy(shapes), expected, rtol=1e-5)


def test_features_are_the_pooled_responses():
    model = small_model()
    shapes = boxes(3)
    features = model.features(shapes)
    responses = networks.intermediates(model.network)(model.to_model_space(shapes))
    first = ops.convert_to_numpy(responses["conv1"])
    np.testing.assert_allclose(features[:, :8], first.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(features[:, 8:16], first.max((1, 2, 3)), rtol=1e-4, atol=1e-6)
    assert features.shape == (3, 2 * 8 + 2 * 6)


def test_synthesis_with_no_score_samples_the_reference():
    inputs = keras.Input((SIZE, SIZE, SIZE, 1))
    nothing = keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(inputs))
    sampling = LangevinSettings(num_steps=200, step_size=0.05, initial_std=2.0)
    model = DescriptorNet(
        keras.Model(inputs, nothing), voxel_mean=0.5, reference_std=0.2, sampling=sampling
    )
    shapes = model.synthesize(64, seed=0)
    # With s = 0.2 clipping to [0, 1] touches only values beyond 2.5 s.
    assert shapes.std() == pytest.approx(0.2, rel=0.03)
    assert shapes.mean() == pytest.approx(0.5, abs=0.005)


def test_seeds_decide_the_shapes_and_batches_do_not_repeat():
    model = small_model()
    first = model.synthesize(6, seed=3, num_steps=12, batch_size=4)
    np.testing.assert_array_equal(first, model.synthesize(6, seed=3, num_steps=12, batch_size=4))
    assert len(np.unique(first.reshape(6, -1), axis=0)) == 6
    other = model.synthesize(6, seed=4, num_steps=12)
    assert np.abs(first - other).max() > 0.1
    unseeded = [model.synthesize(2, num_steps=2) for _ in range(2)]
    assert np.abs(unseeded[0] - unseeded[1]).max() > 0.1


def test_rounds_begin_from_the_contracted_end_of_the_last():
    """On the reference alone the whole way is in closed form: a factor a step, and one a round."""
    inputs = keras.Input((SIZE, SIZE, SIZE, 1))
    nothing = keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(inputs))
    lengths = []
    for settings in (
        LangevinSettings(7, 0.1, 0.0, 0.05),
        LangevinSettings(7, 0.1, 0.0, 0.05, rounds=3, contraction=0.5),
    ):
        model = DescriptorNet(keras.Model(inputs, nothing), voxel_mean=0.5, sampling=settings)
        lengths.append(model.synthesize(2, seed=0) - 0.5)
    assert LangevinSettings(7, rounds=3).steps_of_rounds() == [3, 2, 2]
    assert LangevinSettings(2, rounds=3).steps_of_rounds() == [1, 1]
    np.testing.assert_allclose(lengths[1], 0.25 * lengths[0], atol=1e-6)


def test_langevin_descends_the_energy_of_the_model():
    model = small_model()
    start = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, SIZE, 1)).astype("float32")
    settings = LangevinSettings(num_steps=25, step_size=0.1, temperature=0.0)
    end, diagnostics = model.sampler.run(start, settings)
    assert diagnostics.energy.shape == (25,)
    assert np.all(np.diff(diagnostics.energy) < 0)
    before = float(np.mean(ops.convert_to_numpy(model.energy_of(start))))
    after = float(np.mean(ops.convert_to_numpy(model.energy_of(end))))
    assert diagnostics.energy[0] == pytest.approx(before, rel=1e-5)
    assert after < diagnostics.energy[-1]


@pytest.mark.parametrize("start", ["persistent", "noise", "data"])
def test_maximum_likelihood_raises_the_data_above_the_chains(start):
    model = small_model()
    likelihood = MaximumLikelihood(
        langevin=LangevinSettings(num_steps=5, step_size=0.05, initial_std=0.5),
        chains=ChainSettings(start, per_step=8, count=16),
    )
    model.compile(keras.optimizers.Adam(1e-3), likelihood=likelihood)
    history = model.fit(boxes(16), batch_size=8, epochs=6, verbose=0).history
    gap = np.subtract(history["score_observed"], history["score_synthesized"])
    assert gap[-1] > gap[0] and gap[-1] > 0
    assert set(history) == {
        "value", "score_observed", "score_synthesized", "gradient_norm",
        "reconstruction_error", "chain_range",
    }  # fmt: skip


def test_one_update_is_equation_four():
    """With plain gradient descent the weights move by the difference of the mean gradients."""
    model = small_model()
    before = [ops.convert_to_numpy(v.value).copy() for v in model.trainable_variables]
    likelihood = MaximumLikelihood(
        langevin=LangevinSettings(num_steps=1, step_size=1e-6, temperature=0.0),
        chains=ChainSettings("persistent", per_step=4, count=4),
    )
    model.compile(keras.optimizers.SGD(0.1), likelihood=likelihood)
    chains = ops.convert_to_numpy(model.chains.positions.value)
    observed = boxes(6)

    def mean_score_gap():
        gap = ops.mean(model.score_of((observed - 0.5)[..., None])) - ops.mean(
            model.score_of(chains)
        )
        return gap, None

    _, gradients = backend.gradients(mean_score_gap, model.trainable_variables)
    expected = [w + 0.1 * ops.convert_to_numpy(g) for w, g in zip(before, gradients, strict=True)]
    model.fit(observed, batch_size=6, epochs=1, verbose=0)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable.value), value, atol=2e-6)


def test_value_is_the_energy_gap_of_equation_five():
    model = small_model()
    likelihood = MaximumLikelihood(
        langevin=LangevinSettings(num_steps=3, step_size=0.05, temperature=0.0),
        chains=ChainSettings("persistent", per_step=4, count=4),
    )
    model.compile(keras.optimizers.SGD(0.0), likelihood=likelihood)
    observed = boxes(4)
    history = model.fit(observed, batch_size=4, epochs=1, verbose=0).history
    chains = model.chains.positions.value
    gap = np.mean(ops.convert_to_numpy(model.energy_of(chains))) - model.energy(observed).mean()
    assert history["value"][0] == pytest.approx(gap, rel=1e-4)


def test_one_step_a_pass_equals_one_step_on_the_whole():
    """Accumulated over the batches of a pass, the update is that of one large batch."""
    weights = []
    for batch_size, accumulated in ((4, 3), (12, 1)):
        model = small_model()
        likelihood = MaximumLikelihood(
            langevin=LangevinSettings(num_steps=2, step_size=0.05, temperature=0.0),
            chains=ChainSettings("data"),
        )
        steps = accumulated if accumulated > 1 else None
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(optimizer, likelihood=likelihood)
        model.fit(boxes(12), batch_size=batch_size, epochs=1, verbose=0)
        weights.append([ops.convert_to_numpy(v.value) for v in model.trainable_variables])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_noise_is_switched_off_after_its_epoch():
    """Once the noise is off, frozen weights make the dynamics repeat themselves exactly."""
    model = small_model()
    likelihood = MaximumLikelihood(
        langevin=LangevinSettings(num_steps=2, step_size=0.1),
        chains=ChainSettings("data"),
        noise_until_epoch=2,
    )
    model.compile(keras.optimizers.SGD(0.0), likelihood=likelihood)
    history = model.fit(boxes(8), batch_size=8, epochs=5, verbose=0).history
    values = np.array(history["value"])
    # The order of the batch alone still changes, by rounding.
    assert abs(values[2] - values[3]) < 1e-3 * abs(values[0] - values[2])
    assert abs(values[3] - values[4]) < 1e-3 * abs(values[0] - values[2])
    assert abs(values[0] - values[1]) > 10 * abs(values[3] - values[4])


@pytest.mark.parametrize("example_of", [every_model.likelihood, every_model.annealed])
def test_one_model_super_resolves_any_ratio_and_recovers_between(example_of):
    model, shapes, _ = example_of()
    side = model.grid[0]
    for ratio, count in ((2, 3), (4, 3), (8, 1), (4, 5), (2, 2)):
        blocks = shapes[:count].reshape(count, *(side // ratio, ratio) * 3)
        coarse = blocks.mean(axis=(2, 4, 6))
        fine = model.super_resolve(coarse, num_steps=2, seed=0)
        means = fine.reshape(blocks.shape).mean(axis=(2, 4, 6))
        np.testing.assert_allclose(means, coarse, atol=1e-5)
        visible = np.arange(side) < 4
        whole = model.recover(shapes[:count], visible & (shapes[:count] >= 0), num_steps=2, seed=0)
        np.testing.assert_array_equal(whole[..., :4], shapes[:count, ..., :4])


def test_divergence_stops_training_and_says_what_to_change():
    model = small_model()
    likelihood = MaximumLikelihood(
        langevin=LangevinSettings(num_steps=20, step_size=0.3),
        chains=ChainSettings(per_step=4, count=4),
    )
    model.compile(keras.optimizers.Adam(1.0), likelihood=likelihood)
    with pytest.raises(DivergenceError, match="smaller learning rate"):
        model.fit(boxes(8), batch_size=8, epochs=50, verbose=0)


def test_a_matching_loss_that_collapses_stops_training():
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3), matching=EquilibriumMatching())
    faster = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1e-3 if epoch < 3 else 30.0)
    with pytest.raises(DivergenceError, match="matching loss rose from"):
        model.fit(boxes(16), epochs=60, callbacks=faster, verbose=0)


def test_held_out_energy_is_the_mean_over_all_held_out_shapes():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.0), matching=EquilibriumMatching())
    held_out = boxes(11, seed=1)
    held_out[-1] = 1.0  # alone in its batch
    history = model.fit(
        boxes(8), batch_size=5, epochs=1, validation_data=held_out, verbose=0
    ).history
    assert history["val_energy"][0] == pytest.approx(model.energy(held_out).mean(), rel=1e-4)
    with pytest.raises(ValueError, match="validation_data"):
        model.fit(boxes(8), epochs=1, validation_data=2 * held_out, verbose=0)


def test_a_tensor_goes_through_the_same_door_as_an_array():
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    model = small_model()
    model.compile(keras.optimizers.SGD(0.0), matching=EquilibriumMatching())
    model.fit(ops.convert_to_tensor(boxes(12)), batch_size=3, epochs=1, callbacks=count, verbose=0)
    assert len(seen) == 4
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.fit(ops.convert_to_tensor(255 * boxes(12)), epochs=1, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="PyTorch's tensors have shapes")
@pytest.mark.parametrize("shape", [(None,) * 4, (None, SIZE, None, SIZE), (None,) * 5, None])
def test_a_generator_that_does_not_tell_its_shape_trains(shape):
    import tensorflow as tf

    def fit(shapes):
        signature = tf.TensorSpec(shape, tf.float32)
        shapes = shapes[..., None] if shape and len(shape) == 5 else shapes
        data = tf.data.Dataset.from_generator(
            lambda: [shapes[:4], shapes[4:]], output_signature=signature
        )
        model = small_model()
        model.compile(keras.optimizers.SGD(1e-3), matching=EquilibriumMatching())
        return model.fit(data, epochs=1, verbose=0).history["matching_loss"]

    assert np.isfinite(fit(boxes(6))).all()
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="8"):
        fit(np.zeros((6, 4, 16, 8), np.float32))


def test_keras_own_saving_brings_the_model_back(tmp_path):
    model = small_model(voxel_mean=0.25, sampling=LangevinSettings(7, 0.05, 0.0, 0.4))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (again.voxel_mean, again.sampling) == (model.voxel_mean, model.sampling)
    np.testing.assert_array_equal(again.energy(boxes(3)), model.energy(boxes(3)))


def test_a_network_with_a_network_inside_makes_a_preset(tmp_path):
    inputs = keras.Input((SIZE, SIZE, SIZE, 1))
    inner = keras.Sequential([keras.layers.Conv3D(3, 3, activation="silu"), keras.layers.Flatten()])
    model = DescriptorNet(keras.Model(inputs, keras.layers.Dense(1)(inner(inputs))))
    model.save_preset(tmp_path, weights_dtype="float32", scores={"iou": np.float32(0.5)})
    again = DescriptorNet.from_preset(tmp_path)
    np.testing.assert_array_equal(again.energy(boxes(3)), model.energy(boxes(3)))


def test_a_preset_says_what_float16_took_from_its_weights(tmp_path):
    model = small_model()
    told = {}
    for dtype in ("float16", "float32"):
        model.save_preset(tmp_path / dtype, weights_dtype=dtype)
        told[dtype] = json.loads((tmp_path / dtype / "config.json").read_text())["weights"]
    exact, rounded = (
        np.concatenate([each.ravel() for each in m.network.get_weights()])
        for m in (DescriptorNet.from_preset(tmp_path / dtype) for dtype in ("float32", "float16"))
    )
    np.testing.assert_array_equal(
        exact, np.concatenate([each.ravel() for each in model.network.get_weights()])
    )
    change = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert told["float16"]["rounding"] == pytest.approx(change, rel=0.05) and change > 1e-5
    assert told["float32"]["rounding"] == 0.0


def test_a_subclass_is_saved_as_the_descriptor_that_it_is(tmp_path):
    class Own(DescriptorNet):
        pass

    model = Own(small_network(), voxel_mean=0.5)
    folder = model.save_preset(tmp_path / "own", weights_dtype="float32")
    shapes = np.random.default_rng(0).random((2, *model.grid)).astype("float32")
    np.testing.assert_allclose(load(folder).energy(shapes), model.energy(shapes), rtol=1e-5)


def test_a_preset_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    model = small_model()
    model.save_preset(tmp_path)
    energy = DescriptorNet.from_preset(tmp_path).energy(boxes(2))
    model.network.variables[0].assign(model.network.variables[0] + 1.0)
    with pytest.raises((AttributeError, TypeError)):
        model.save_preset(tmp_path, scores={"iou": object()})
    np.testing.assert_array_equal(DescriptorNet.from_preset(tmp_path).energy(boxes(2)), energy)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        model.save_preset(tmp_path / "file")


def test_a_fine_tuned_preset_does_not_keep_the_figures_of_the_one_before(tmp_path):
    scores = {"nearest_iou": 0.9}
    small_model().save_preset(tmp_path, id="a", task="synthesis", category="box", scores=scores)
    model = DescriptorNet.from_preset(tmp_path)
    assert model.preset["scores"] == scores
    before = ops.convert_to_numpy(model.network.variables[0].value).copy()
    model.fit(boxes(8), epochs=1, verbose=0)
    model.save_preset(tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert "scores" not in config and "id" not in config
    assert config["category"] == "box"
    assert 0 < np.abs(ops.convert_to_numpy(model.network.variables[0].value) - before).max() < 0.01


def test_dynamics_that_run_off_are_reported():
    model = small_model(sampling=LangevinSettings(200, 40.0, 0.0))
    with pytest.raises(DivergenceError, match="step_size smaller"):
        model.synthesize(1, seed=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config["weights"].pop("file"),
        lambda config: config.update(weights="x"),
        lambda config: config["model"].pop("voxel_mean"),
        lambda config: config["model"]["sampling"].update(colour="red"),
        lambda config: config["model"].update(network={"class_name": "Nothing"}),
    ],
)
def test_a_damaged_config_is_named(damage, tmp_path):
    small_model().save_preset(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match="config.json"):
        DescriptorNet.from_preset(tmp_path)


def test_a_backend_without_gradients_says_so(monkeypatch):
    model = small_model()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="training needs the TensorFlow or the PyTorch backend"):
        model.fit(boxes(4), epochs=1)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (np.zeros((SIZE, SIZE, SIZE)), "shapes"),
        (np.zeros((0, SIZE, SIZE, SIZE)), "empty|at least one"),
        (np.full((1, SIZE, SIZE, SIZE), 2.0), r"\[0, 1\]"),
        (np.full((1, SIZE, SIZE, SIZE), np.nan), "NaN|finite"),
        (np.zeros((1, 9, 9, 9)), "9"),
    ],
)
def test_bad_shapes_are_refused_at_the_door(shapes, message):
    with pytest.raises(ValueError, match=message):
        small_model().energy(shapes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": 0}, "num must be a positive integer"),
        ({"num": 2.5}, "num must be a positive integer"),
        ({"num": 1, "seed": -1}, "seed must be"),
        ({"num": 1, "num_steps": 0}, "num_steps must be"),
        ({"num": 1, "batch_size": 0}, "batch_size must be"),
    ],
)
def test_bad_arguments_of_synthesize_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model().synthesize(**arguments)


def test_a_preset_comes_back_as_it_was(tmp_path):
    sampling = LangevinSettings(7, 0.05, 0.0, 0.4)
    model = small_model(voxel_mean=0.25, reference_std=0.4, sampling=sampling)
    model.save_preset(tmp_path / "mine", weights_dtype="float32", task="synthesis")
    again = DescriptorNet.from_preset(tmp_path / "mine")
    assert (again.voxel_mean, again.reference_std, again.sampling) == (0.25, 0.4, sampling)
    assert again.preset["task"] == "synthesis"
    np.testing.assert_array_equal(again.energy(boxes(4)), model.energy(boxes(4)))
    np.testing.assert_array_equal(again.synthesize(2, seed=1), model.synthesize(2, seed=1))


def test_float16_weights_halve_the_file_and_hardly_move_the_energy(tmp_path):
    model = small_model()
    sizes = {}
    for dtype in ("float16", "float32"):
        folder = model.save_preset(tmp_path / dtype, weights_dtype=dtype)
        sizes[dtype] = (folder / "weights.npz").stat().st_size
    assert sizes["float16"] < 0.65 * sizes["float32"]
    again = DescriptorNet.from_preset(tmp_path / "float16")
    np.testing.assert_allclose(again.energy(boxes(4)), model.energy(boxes(4)), rtol=1e-3)


def test_damaged_weights_are_never_loaded(tmp_path):
    small_model().save_preset(tmp_path)
    data = bytearray((tmp_path / "weights.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "weights.npz").write_bytes(data)
    with pytest.raises(PresetError, match="damaged"):
        DescriptorNet.from_preset(tmp_path)


def test_a_preset_of_a_newer_format_asks_for_a_newer_version(tmp_path):
    small_model().save_preset(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(PresetError, match="newer"):
        DescriptorNet.from_preset(tmp_path)


@pytest.mark.slow
@pytest.mark.one_backend
def test_both_backends_give_the_same_energies_and_trajectories(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    folders = [
        DescriptorNet(network, voxel_mean=0.5).save_preset(tmp_path / name, weights_dtype="float32")
        for name, network in {
            "paper": small_network(),
            "base": networks.base(SIZE, width=8, code=16),
        }.items()
    ]
    subprocess.run(
        [sys.executable, told_by_backend.__file__, *folders],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=True,
    )
    for folder in folders:
        ours = told_by_backend.told_of(folder)
        with np.load(folder / "told.npz", allow_pickle=False) as theirs:
            assert np.abs(theirs["end"] - theirs["start"]).max() > 0.1
            for key in ("energy", "end", "features"):
                np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5)
