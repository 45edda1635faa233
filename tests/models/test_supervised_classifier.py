"""The supervised classifier: what it learns, what it keeps, what it refuses."""

import keras
import numpy as np
import pytest
from keras import layers

from descnet3d.models import networks, preset_config
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.training.recipes import RECIPES, Recipe
from descnet3d.training.run import train
from descnet3d.zoo import presets

CLASSES = ("low", "high", "wide")


def shapes_of(labels, seed=0):
    """Boxes that are told apart by where they are, with some voxels of noise."""
    generator = np.random.default_rng(seed)
    shapes = generator.random((len(labels), 16, 16, 16)) < 0.02
    for shape, label in zip(shapes, labels, strict=True):
        shape[4:12, 4:12, {0: slice(0, 4), 1: slice(12, 16), 2: slice(6, 9)}[label]] = True
    return shapes.astype(np.float32)


def tiny(classes=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 16, 1))
    hidden = layers.Conv3D(4, 4, 4, activation="relu")(inputs)
    hidden = layers.Dense(8, activation="relu", name="embedding")(layers.Flatten()(hidden))
    return keras.Model(inputs, layers.Dense(classes)(hidden))


LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def trained():
    model = SupervisedClassifier(tiny(), CLASSES)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(shapes_of(LABELS), LABELS, batch_size=10, epochs=10, verbose=0)
    return model


def test_it_learns_what_tells_shapes_apart(trained):
    fresh = shapes_of(LABELS, seed=1)
    assert trained.accuracy(fresh, LABELS) == 1
    probabilities = trained.probabilities(fresh)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities[np.arange(60), LABELS].mean() > 0.9
    assert trained.embedding(fresh[:5]).shape == (5, 8)
    logits = keras.ops.convert_to_numpy(trained(fresh))
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1)[:, None], 1e-4)


def test_it_measures_held_out_shapes_in_training():
    model = SupervisedClassifier(tiny(), CLASSES)
    batches = [(shapes_of(LABELS[:6], seed), LABELS[:6]) for seed in (2, 3)]

    class Held(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    history = model.fit(
        shapes_of(LABELS), LABELS, epochs=2, verbose=0, validation_data=Held()
    ).history
    assert len(history["val_accuracy"]) == 2 and np.isfinite(history["val_loss"]).all()


def test_a_preset_of_it_is_read_back_the_same(trained, tmp_path):
    trained.save_preset(tmp_path / "mine", weights_dtype="float32", task="classification")
    again = presets.load(tmp_path / "mine")
    assert isinstance(again, SupervisedClassifier) and again.classes == CLASSES
    shapes = shapes_of(LABELS[:6], seed=4)
    np.testing.assert_allclose(again.probabilities(shapes), trained.probabilities(shapes), 1e-6)
    with pytest.raises(ValueError, match="a SupervisedClassifier, and a descriptor is needed"):
        presets.load_descriptor(tmp_path / "mine")


def test_a_config_without_its_classes_is_refused(trained, tmp_path):
    trained.save_preset(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    path.write_text(path.read_text().replace('"classes"', '"kinds"'))
    with pytest.raises(preset_config.PresetError, match="it lacks classes"):
        presets.load(tmp_path / "mine")


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    recipe = RECIPES["classifier"].changed(classifier_steps=9, batch_size=16, mirror_axes="01")
    labels = LABELS[:48]
    # Without AVX-512 TensorFlow is a hundred times slower on smaller grids or batches.
    shapes = np.kron(shapes_of(labels), np.ones((2, 2, 2), "float32"))

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def run(folder, *extra):
        return train(
            shapes,
            recipe,
            folder,
            labels=labels,
            classes=CLASSES,
            callbacks=lambda *phase: list(extra),
            checkpoint_every=0,
        ).model.network.get_weights()

    torch = keras.backend.backend() == "torch"
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Kill())
    for one, other in zip(whole, run(tmp_path / "cut"), strict=True):
        # PyTorch's threads add up in any order, and Adam enlarges that where gradients are small.
        np.testing.assert_allclose(one, other, atol=2e-4 if torch else 0, rtol=0)
    # Other labels are another run.
    with pytest.raises(ValueError, match="labels_sha256"):
        train(shapes, recipe, tmp_path / "cut", labels=labels[::-1], classes=CLASSES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:5], "60 whole numbers"),
        (LABELS + 0.5, "60 whole numbers"),
        (LABELS + 1, "from 0 to 2"),
        (None, "y missing"),
    ],
)
def test_labels_that_are_not_the_shapes_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        SupervisedClassifier(tiny(), CLASSES).fit(shapes_of(LABELS), labels)


def test_networks_that_cannot_classify_are_refused():
    with pytest.raises(ValueError, match="one logit for each of the 3"):
        SupervisedClassifier(tiny(4), CLASSES)
    plain = keras.Sequential([keras.Input((4, 4, 4, 1)), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(ValueError, match="embedding"):
        SupervisedClassifier(plain, CLASSES)


def test_a_recipe_without_labels_or_steps_is_refused(tmp_path):
    recipe = RECIPES["classifier"].changed(classifier_steps=2)
    with pytest.raises(ValueError, match="several"):
        train(shapes_of(LABELS), recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="classifier_steps must be positive; it is 0"):
        Recipe(task="classification")
    with pytest.raises(ValueError, match="for the task classification"):
        RECIPES["base"].changed(classifier_steps=3)


def test_the_networks_grid_is_halved_four_times():
    network = networks.classifier(32, 10)
    assert network.output_shape == (None, 10)
    assert network.get_layer("pool4").output.shape[1:] == (2, 2, 2, 128)
