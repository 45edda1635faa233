"""Classification by unsupervised features, against scikit-learn and by its properties."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from descnet3d.energy.settings import AnnealingSettings
from descnet3d.evaluation import classification
from descnet3d.models import preset_config
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.conditional_network import conditional
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.zoo import presets

CLASSES = ("low", "high", "wide")
LABELS = np.arange(45) % 3


def shapes_of(labels, seed=0):
    """Boxes that are told apart by where they are, with some voxels of noise."""
    generator = np.random.default_rng(seed)
    shapes = generator.random((len(labels), 16, 16, 16)) < 0.05
    for shape, label in zip(shapes, labels, strict=True):
        shape[4:12, 4:12, {0: slice(0, 4), 1: slice(12, 16), 2: slice(6, 9)}[label]] = True
    return shapes.astype(np.float32)


@pytest.fixture(scope="module")
def descriptor():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 16, 1))
    hidden = layers.Conv3D(5, 4, 2, padding="same", activation="relu", name="first")(inputs)
    hidden = layers.Conv3D(3, 4, 2, padding="same", activation="relu", name="second")(hidden)
    return DescriptorNet(
        keras.Model(inputs, layers.Dense(1)(layers.Flatten()(hidden))), voxel_mean=0.5
    )


@pytest.fixture(scope="module")
def annealed():
    keras.utils.set_random_seed(0)
    sizes = {"width": 8, "context": 6, "hidden": 8, "channels": 2, "code": 8, "told": 8}
    network = conditional(16, conditions=8, blocks=2, voxels=0, **sizes)
    sampling = AnnealingSettings(feature_level=0.5)
    return AnnealedDescriptor(network, ["box", "ball"], sampling=sampling)


@pytest.fixture(scope="module")
def fitted(descriptor):
    return FeatureClassifier(descriptor).fit(shapes_of(LABELS), LABELS, CLASSES)


def test_features_are_pooled_in_regions_of_contracted_shapes(descriptor):
    shapes = shapes_of(LABELS[:2])
    found = descriptor.features(shapes, layers=["second"], regions=2, contractions=(0.5, 1.0))
    assert found.shape == (2, 2 * 2 * 8 * 3)
    layer = keras.Model(descriptor.network.inputs, descriptor.network.get_layer("second").output)
    responses = keras.ops.convert_to_numpy(layer(0.5 * (shapes[..., None] - 0.5)))
    means = [
        responses[:, x : x + 2, y : y + 2, z : z + 2].mean((1, 2, 3))
        for x in (0, 2)
        for y in (0, 2)
        for z in (0, 2)
    ]
    np.testing.assert_allclose(found[:, :24], np.concatenate(means, axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        found[:, 48:], descriptor.features(shapes, layers=["second"], regions=2), rtol=1e-5
    )


def test_the_widest_layer_in_space_is_the_default(descriptor):
    assert FeatureClassifier(descriptor).pooling.layers == ("first",)


def test_it_is_a_logistic_regression_on_standardised_components(descriptor, fitted):
    train, test = shapes_of(LABELS), shapes_of(LABELS, seed=5)
    scaler = StandardScaler().fit(fitted.features(train))
    # Deviations are kept from 0 by a thousandth, so that constant features stay harmless.
    scaler.scale_ = fitted.features(train).std(axis=0) + 1e-3
    found = PCA(44, svd_solver="full").fit(scaler.transform(fitted.features(train)))
    rows = found.transform(scaler.transform(fitted.features(train)))
    scale = 10 / np.sqrt(np.square(rows).sum(axis=1).mean())
    regression = LogisticRegression(C=fitted.strength, max_iter=1000).fit(rows * scale, LABELS)
    expected = regression.predict_proba(
        scale * found.transform(scaler.transform(fitted.features(test)))
    )
    np.testing.assert_allclose(fitted.probabilities(test), expected, atol=2e-3)
    assert fitted.score(test, LABELS) == 1
    assert set(fitted.validation) >= {fitted.strength} and fitted.validation[fitted.strength] > 0.9


def test_what_is_saved_is_loaded_the_same(fitted, tmp_path):
    fitted.save_preset(
        tmp_path / "mine", weights_dtype="float32", task="features", category="boxes"
    )
    shapes = shapes_of(LABELS[:6], seed=3)
    for again in (
        FeatureClassifier.from_preset(tmp_path / "mine"),
        presets.load(tmp_path / "mine"),
    ):
        assert again.classes == CLASSES and again.pooling == fitted.pooling
        np.testing.assert_allclose(
            again.probabilities(shapes), fitted.probabilities(shapes), rtol=1e-4
        )
    with pytest.raises(preset_config.PresetError, match="a DescriptorNet, no FeatureClassifier"):
        fitted.descriptor.save_preset(tmp_path / "other")
        FeatureClassifier.from_preset(tmp_path / "other")


def test_an_annealed_descriptor_sees_shapes_without_noise_and_is_told_no_category(annealed):
    model, shapes = FeatureClassifier(annealed), shapes_of(LABELS[:2])
    assert model.pooling.layers == ("block1_context", "block2_context")
    layer = keras.Model(
        annealed.network.inputs, annealed.network.get_layer("block1_context").output
    )
    signal, level = 1 / 1.5, np.full((2, 1), 0.5)
    noiseless = signal * (shapes[..., None] - 0.5)
    responses = keras.ops.convert_to_numpy(layer([noiseless, np.zeros((2, 8)), level]))
    found = model.features(shapes)
    np.testing.assert_allclose(found[:, :384], responses.reshape(2, -1), rtol=1e-4, atol=1e-6)
    told = FeatureClassifier(annealed.bound_to("ball"))
    np.testing.assert_array_equal(told.features(shapes), found)


def test_a_classifier_by_an_annealed_descriptor_is_saved_and_loaded(annealed, tmp_path):
    model = FeatureClassifier(annealed).fit(shapes_of(LABELS), LABELS, CLASSES)
    folder = model.save_preset(tmp_path, weights_dtype="float32", task="features", category="box")
    again = presets.load(folder)
    assert (again.classes, again.descriptor.classes) == (CLASSES, ("box", "ball"))
    assert again.descriptor.sampling == annealed.sampling
    shapes = shapes_of(LABELS[:6], seed=3)
    np.testing.assert_allclose(again.probabilities(shapes), model.probabilities(shapes), rtol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["descriptor"]["class"] = "ShapeClassifier"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(preset_config.PresetError, match="a ShapeClassifier is no descriptor"):
        presets.load(folder)


def test_a_category_without_a_shape_is_never_found_and_two_are_enough(descriptor):
    few = LABELS[LABELS < 2]
    model = FeatureClassifier(descriptor).fit(shapes_of(few), few, CLASSES, strength=1.0)
    assert model.probabilities(shapes_of(LABELS))[:, 2].max() == 0
    assert model.score(shapes_of(few, seed=2), few) == 1 and model.validation == {}


def test_unlabelled_shapes_help_with_the_components_alone(descriptor):
    few = np.array([0, 1, 2])
    model = FeatureClassifier(descriptor).fit(
        shapes_of(few), few, CLASSES, unlabelled=shapes_of(LABELS, seed=7)
    )
    assert model.strength == 1.0  # one shape a category can't be left out
    assert model.score(shapes_of(LABELS, seed=8), LABELS) > 0.9


def test_an_untrained_classifier_is_the_same_but_for_its_weights():
    shipped = FeatureClassifier.from_preset(presets.find("features_modelnet10_32"))
    first, again, other = (classification.untrained_like(shipped, seed) for seed in (1, 1, 2))
    for one, two in ((first, again), (first, other), (first, shipped)):
        pairs = zip(
            one.descriptor.network.get_weights(),
            two.descriptor.network.get_weights(),
            strict=True,
        )
        same = all(np.array_equal(left, right) for left, right in pairs)
        assert same == (two is again)
    assert first.pooling == shipped.pooling and first.readout is None


def test_mistakes_are_named(descriptor):
    model = FeatureClassifier(descriptor)
    with pytest.raises(ValueError, match="call fit"):
        model.predict(shapes_of(LABELS[:2]))
    with pytest.raises(ValueError, match="call fit"):
        model.save_preset("nowhere")
    with pytest.raises(ValueError, match="two categories"):
        model.fit(shapes_of([0, 0]), [0, 0])
    with pytest.raises(ValueError, match="labels must be 2 whole numbers"):
        model.fit(shapes_of([0, 1]), [0, 1, 1])
    with pytest.raises(ValueError, match="among first, second, .* 'third'"):
        descriptor.features(shapes_of([0]), layers=["third"])
    with pytest.raises(ValueError, match="regions must divide"):
        descriptor.features(shapes_of([0]), regions=3)
    with pytest.raises(ValueError, match="regions must be a positive"):
        descriptor.features(shapes_of([0]), regions=0)
