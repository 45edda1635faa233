"""Cooperative training, line by line, and what a generator is asked."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.energy.langevin import langevin_dynamics
from descnet3d.energy.settings import (
    ChainSettings,
    EquilibriumMatching,
    LangevinSettings,
    MaximumLikelihood,
)
from descnet3d.models import generators, networks
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.cooperative import CooperativeNet, Teaching
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.training.checkpoints import Progress, restore, save
from descnet3d.zoo import presets

SIZE, LATENTS = 16, 3


def cooperative(seed=0, network=None, **options):
    keras.utils.set_random_seed(seed)
    network = network or networks.paper(SIZE, filters=(4, 3), kernels=(4, 3), strides=(3, 2))
    generator = generators.generator(
        SIZE, latents=LATENTS, hidden=8, seed_channels=2, width=4, voxel_mean=0.5
    )
    descriptor = DescriptorNet(network, voxel_mean=0.5)
    revision = LangevinSettings(4, 0.1, 0.0, 0.0, 1, 0.5)
    return CooperativeNet(descriptor, generator, revision=revision, **options)


def encoder_of_shapes():
    dense = keras.layers.Dense(LATENTS)
    return keras.Sequential([keras.Input((SIZE, SIZE, SIZE, 1)), keras.layers.Flatten(), dense])


def without_score():
    """The model with f(Y) = 0, whose dynamics draw every shape to grey."""
    voxels = keras.Input((SIZE, SIZE, SIZE, 1))
    score = keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(voxels))
    return cooperative(network=keras.Model(voxels, score))


def likelihood(**langevin):
    settings = LangevinSettings(**{"num_steps": 3, "temperature": 0.0, **langevin})
    return MaximumLikelihood(langevin=settings, chains=ChainSettings("generator", per_step=4))


def boxes(count=8):
    generator = np.random.default_rng(0)
    shapes = np.zeros((count, SIZE, SIZE, SIZE), "float32")
    for shape, height in zip(shapes, generator.integers(4, 12, count), strict=True):
        shape[4:12, 6:10, :height] = 1
    return shapes


def values(variables):
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def test_one_iteration_is_the_algorithm_line_by_line():
    model, other = cooperative(), cooperative()
    rate = 0.1
    for each in (model, other):
        each.compile(
            keras.optimizers.SGD(rate),
            generator_optimizer=keras.optimizers.SGD(rate),
            likelihood=likelihood(contraction=0.5),
        )
    observed = boxes(4)
    before = values(other.generator.trainable_variables)
    network_before = values(other.network.trainable_variables)
    measured = model.train_step(observed)

    # The same, from its parts: the same latents, as both models have the same seed.
    latents = keras.random.normal((4, LATENTS), seed=other.training_noise)
    generated = ops.convert_to_numpy(other.generator(latents))
    revised, _ = langevin_dynamics(
        other.energy_of, 0.5 * generated, num_steps=3, step_size=0.1, temperature=0
    )
    revised = ops.convert_to_numpy(revised)

    def mean_score(positions):
        return float(ops.mean(other.score_of(positions)))

    positions = ops.convert_to_numpy(other.to_model_space(observed))

    def ascent():
        return mean_score(positions) - mean_score(revised)

    def regression():
        difference = revised - ops.convert_to_numpy(other.generator(latents))
        return np.square(difference).sum() / (4 * 2 * other.generator_std**2)

    # One voxel of one kernel each, by central differences.
    for variables, start, objective, sign, moved in (
        (other.network.trainable_variables, network_before, ascent, 1, model.network),
        (other.generator.trainable_variables, before, regression, -1, model.generator),
    ):
        after = values(moved.trainable_variables)
        for index in (0, len(start) - 2):
            spot = np.unravel_index(
                np.abs(after[index] - start[index]).argmax(), start[index].shape
            )
            ends = []
            for step in (1e-2, -1e-2):
                changed = start[index].copy()
                changed[spot] += step
                variables[index].assign(changed)
                ends.append(objective())
            variables[index].assign(start[index])
            slope = (ends[0] - ends[1]) / 2e-2
            change = after[index][spot] - start[index][spot]
            assert change == pytest.approx(sign * rate * slope, rel=0.03)
    assert float(measured["revision"]) == pytest.approx(
        np.sqrt(np.square(revised - generated).mean()), rel=1e-4
    )
    assert float(measured["energy_revised"]) == pytest.approx(
        np.mean(ops.convert_to_numpy(other.energy_of(revised))), rel=1e-4
    )


def test_a_generator_takes_in_what_langevin_dynamics_does():
    """With no score the dynamics draw every shape to grey, and the generator follows."""
    model = without_score()
    model.compile(
        keras.optimizers.SGD(0.0),
        generator_optimizer=keras.optimizers.Adam(1e-2),
        likelihood=likelihood(contraction=0.3),
    )
    history = model.fit(boxes(), batch_size=8, epochs=40, verbose=0).history
    grey = np.abs(model.generate(8, seed=0) - 0.5)
    assert grey.mean() < 0.02
    assert history["revision"][-1] < 0.3 * max(history["revision"])


def test_an_anchor_holds_the_generator_to_the_data():
    ends = {}
    for anchored in (False, True):
        model = without_score()
        keras.utils.set_random_seed(1)
        encoder = generators.principal_encoder(boxes(), latents=LATENTS)
        anchor = Autoencoder(model.generator, encoder, generator_std=0.5)
        model.compile(
            keras.optimizers.SGD(0.0),
            generator_optimizer=keras.optimizers.Adam(1e-2),
            likelihood=likelihood(contraction=0.3),
            teaching=Teaching(anchor=anchor if anchored else None),
        )
        # Long after, the prior's shapes turn grey with it too.
        model.fit(boxes(), batch_size=8, epochs=30, verbose=0)
        ends[anchored] = np.abs(model.generate(8, seed=0) - boxes().mean(axis=0)).mean()
    assert ends[True] < 0.85 * ends[False], ends


def test_inferred_latents_explain_the_revised_shapes_better():
    model = cooperative(generator_std=0.2)
    start = ops.convert_to_tensor(model.draw_latents(4, seed=0))
    revised = ops.convert_to_tensor(ops.convert_to_numpy(model.generator(model.draw_latents(4, 1))))

    def error(latents):
        return float(ops.mean(ops.square(revised - model.generator(latents))))

    teaching = Teaching(LangevinSettings(30, 0.05, 0.0))
    found = teaching.latents_of(model.space, start, revised, model.training_noise)
    assert error(found) < 0.9 * error(start)


def test_a_resumed_run_goes_on_as_the_unbroken_one(tmp_path):
    def compiled():
        model = cooperative()
        keras.utils.set_random_seed(1)
        encoder = encoder_of_shapes()
        anchor = Autoencoder(model.generator, encoder)
        settings = {"use_ema": True, "ema_momentum": 0.5}
        model.compile(
            keras.optimizers.Adam(1e-3, **settings),
            generator_optimizer=keras.optimizers.Adam(1e-3, **settings),
            likelihood=likelihood(),
            teaching=Teaching(LangevinSettings(2, 0.01), anchor),
        )
        return model

    whole = compiled()
    whole.fit(boxes(), batch_size=4, epochs=4, verbose=0)
    # Killed between two epochs, before Keras puts the averaged weights in their place.
    broken = compiled()
    keeper = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: save(
            broken, tmp_path / "state.npz", Progress(epoch + 1, 0)
        )
    )
    broken.fit(boxes(), batch_size=4, epochs=2, verbose=0, callbacks=[keeper])
    resumed = compiled()
    progress = restore(resumed, tmp_path / "state.npz")
    resumed.fit(boxes(), batch_size=4, initial_epoch=int(progress.epochs), epochs=4, verbose=0)
    for first, second in zip(whole.parts.values(), resumed.parts.values(), strict=True):
        for one, other in zip(values(first.variables), values(second.variables), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_collapsed_generator_is_told_by_its_diversity():
    model = cooperative()
    kernel = model.generator.get_layer("dense_1").kernel
    kernel.assign(np.zeros(kernel.shape))
    model.compile(likelihood=likelihood())
    history = model.fit(boxes(), batch_size=8, epochs=1, verbose=0).history
    assert history["diversity"][0] < 1e-6
    other = cooperative()
    other.compile(likelihood=likelihood())
    assert other.fit(boxes(), batch_size=8, epochs=1, verbose=0).history["diversity"][0] > 1e-2


def test_a_generator_joins_a_preset_and_its_teacher_keeps_its_own_sampling(tmp_path):
    descriptor = DescriptorNet(
        cooperative().network, voxel_mean=0.5, sampling=LangevinSettings(6, 0.1, 0.0, 0.5)
    )
    recipe = {"matching_steps": 5}
    metadata = {"id": "a", "task": "synthesis", "category": "box", "recipe": recipe}
    descriptor.save_preset(tmp_path / "a", weights_dtype="float32", **metadata, scores={"iou": 1})
    teacher = presets.load(tmp_path / "a")
    model = CooperativeNet(teacher, cooperative().generator)
    # What the teacher was, but for its id and its figures.
    assert model.preset == {"task": "cooperative", "category": "box", "recipe": recipe}
    model.compile()
    assert model.matching is not None and model.likelihood.weight == 0.01
    assert model.likelihood.langevin.contraction == model.revision.contraction
    model.save_preset(tmp_path / "b", weights_dtype="float32")
    again = presets.load(tmp_path / "b")
    np.testing.assert_allclose(again.synthesize(2, seed=0), model.synthesize(2, seed=0), atol=1e-6)
    alone = DescriptorNet.from_preset(tmp_path / "b")
    np.testing.assert_allclose(
        alone.synthesize(2, seed=0), teacher.synthesize(2, seed=0), atol=1e-6
    )
    visible = np.zeros((2, SIZE, SIZE, SIZE), bool)
    visible[:, :4] = True
    np.testing.assert_allclose(
        again.recover(boxes(2), visible), teacher.recover(boxes(2), visible), atol=1e-6
    )
    with pytest.raises(ValueError, match="a DescriptorNet, no CooperativeNet"):
        CooperativeNet.from_preset(tmp_path / "a")


def test_a_matching_loss_is_kept_where_it_is_given():
    model = cooperative()
    matching = EquilibriumMatching()
    model.compile(matching=matching)
    assert model.matching is matching and model.likelihood.weight == 0.01
    model.compile()
    assert model.matching is None and model.likelihood.weight == 1.0


def test_synthesis_is_generation_and_revision():
    model = cooperative()
    generated = model.generate(5, seed=3)
    np.testing.assert_allclose(
        generated, model.generate(latents=model.draw_latents(5, seed=3)), atol=1e-6
    )
    revised = model.synthesize(5, seed=3)
    np.testing.assert_allclose(revised, model.revise(generated, seed=3), atol=1e-6)
    np.testing.assert_allclose(revised, model.generate(5, seed=3, revised=True), atol=1e-6)
    assert model.energy(revised).mean() < model.energy(generated).mean()
    # Batches of any size give the same shapes.
    np.testing.assert_allclose(model.generate(70, seed=3)[:5], generated, atol=1e-6)


def test_revision_starts_from_the_contracted_shapes():
    model = cooperative()
    shapes = boxes(2)
    model.revision = replace(model.revision, num_steps=1, contraction=0.25, step_size=1e-4)
    np.testing.assert_allclose(model.revise(shapes), 0.5 + 0.25 * (shapes - 0.5), atol=1e-4)


def test_interpolation_and_arithmetic_are_those_of_the_latents():
    model = cooperative()
    a, b, c = model.draw_latents(3, seed=0)
    path = model.interpolate(a, b, steps=4, path="linear")
    expected = model.generate(latents=np.linspace(a, b, 4))
    np.testing.assert_allclose(path, expected, atol=1e-5)
    np.testing.assert_allclose(
        model.arithmetic(a, b, c), model.generate(latents=(a - b + c)[None])[0], atol=1e-5
    )
    np.testing.assert_allclose(
        model.arithmetic(a, b, b), model.generate(latents=a[None])[0], atol=1e-4
    )


def test_encoding_finds_the_shapes_of_the_generator_again():
    model = cooperative(generator_std=0.02)
    shapes = model.generate(3, seed=0)
    again = model.generate(latents=model.encode(shapes))
    assert np.abs(again - shapes).mean() < 0.1 * np.abs(shapes - shapes.mean(axis=0)).mean()
    # A shape stands for its latents.
    path = model.interpolate(shapes[0], shapes[1], steps=3)
    np.testing.assert_allclose(path[[0, -1]], again[:2], atol=2e-2)


def test_a_preset_comes_back_as_it_was(tmp_path):
    model = cooperative(generator_std=0.3)
    folder = model.save_preset(tmp_path / "preset", weights_dtype="float32", task="cooperative")
    again = presets.load(folder)
    assert isinstance(again, CooperativeNet) and again.generator_std == 0.3
    np.testing.assert_allclose(again.synthesize(2, seed=0), model.synthesize(2, seed=0), atol=1e-6)
    descriptor = DescriptorNet.from_preset(folder)  # the teacher alone
    np.testing.assert_allclose(descriptor.energy(boxes(2)), model.energy(boxes(2)), rtol=1e-5)


def test_keras_own_saving_brings_both_networks_back(tmp_path):
    model = cooperative()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.synthesize(2, seed=0), model.synthesize(2, seed=0), atol=1e-6)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.generate(), "give one of num"),
        (lambda model: model.generate(2, latents=np.zeros((2, LATENTS))), "give one of num"),
        (lambda model: model.generate(0), "num must be a positive integer, but it is 0"),
        (lambda model: model.generate(latents=np.zeros(LATENTS)), r"shape \[n, 3\], but .* \[3\]"),
        (lambda model: model.generate(latents=np.full((1, LATENTS), np.nan)), "must be finite"),
        (lambda model: model.generate(2, seed=-1), "seed must be an integer from 0"),
        (lambda model: model.generate(latents=[["a", "b", "c"]]), "latents must be real numbers"),
        (lambda model: model.interpolate(np.full(3, np.inf), np.zeros(3)), "a must be finite"),
        (lambda model: model.interpolate(np.ones(3), np.zeros(3), 9.0), "steps must be an integer"),
        (lambda model: model.interpolate(np.zeros(2), np.zeros(3)), "a must be latents of shape"),
        (lambda model: model.arithmetic(*np.zeros((2, 3)), np.zeros((2, 2))), "c must be latents"),
        (lambda model: model.encode(np.zeros((1, 8, 8, 8))), "shapes must"),
        (lambda model: model.compile(task="recovery"), "task must be None in cooperative"),
        (
            lambda model: model.compile(likelihood=MaximumLikelihood()),
            "must start at one of generator",
        ),
    ],
)
def test_mistakes_are_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(cooperative())


def test_networks_that_do_not_fit_are_refused():
    model = cooperative()
    descriptor = DescriptorNet(model.network, voxel_mean=0.5)
    with pytest.raises(ValueError, match="must make the descriptor's grids"):
        CooperativeNet(descriptor, generators.generator(32, latents=2))
    with pytest.raises(ValueError, match="must take latents"):
        CooperativeNet(descriptor, model.network)
    other = cooperative(seed=1)
    encoder = encoder_of_shapes()
    anchor = Autoencoder(other.generator, encoder)
    with pytest.raises(ValueError, match="own generator"):
        model.compile(likelihood=likelihood(), teaching=Teaching(anchor=anchor))


def test_only_a_cooperative_model_starts_chains_at_a_generator():
    model = DescriptorNet(cooperative().network, voxel_mean=0.5)
    with pytest.raises(ValueError, match="CooperativeNet"):
        model.compile(likelihood=likelihood())
