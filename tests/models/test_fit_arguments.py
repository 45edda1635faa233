"""The arguments of `fit` and `evaluate`: what they do to a plain Keras model, they do here."""

import every_model
import keras
import numpy as np
import pytest
from every_model import boxes
from keras import layers, ops

from descnet3d.models.batches import VoxelBatches
from descnet3d.models.supervised_classifier import SupervisedClassifier

SHAPES = boxes(12)
LABELS = (SHAPES.mean((1, 2, 3)) > SHAPES.mean()).astype("int64")
HELD = boxes(16)[11:], np.array([0, 1, 1, 0, 1])


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 8, 1))
    hidden = layers.Dense(6, activation="tanh", name="embedding")(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def ours():
    model = SupervisedClassifier(network(), ("low", "high"))
    model.compile(keras.optimizers.SGD(0.2))
    return model


def plain():
    """The same network, loss and optimizer, and nothing of this package."""
    inner = network()
    inputs = keras.Input((8, 8, 8))
    model = keras.Model(inputs, inner(layers.Reshape((8, 8, 8, 1))(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss, metrics=["accuracy"])
    return model


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return SHAPES[rows], LABELS[rows]


def dataset(unknown=False, repeat=False):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((SHAPES, LABELS)).batch(4)
    if unknown:
        shapes = tf.TensorSpec((None, None, None, None)), tf.TensorSpec((None,), "int64")
        data = tf.data.Dataset.from_generator(lambda: iter(Batches()), output_signature=shapes)
    return data.repeat() if repeat else data


def generator():
    while True:
        yield from (Batches()[index] for index in range(3))


def loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(SHAPES), torch.tensor(LABELS))
    return torch.utils.data.DataLoader(data, batch_size=4)


def arrays(**arguments):
    return lambda: ((SHAPES, LABELS), {"batch_size": 4, "shuffle": False, **arguments})


def batches(data, **arguments):
    return lambda: ((data(),), arguments)


CASES = {
    "arrays": arrays(),
    "lists": lambda: ((SHAPES.tolist(), LABELS.tolist()), {"batch_size": 4, "shuffle": False}),
    "tensors": lambda: (
        (ops.convert_to_tensor(SHAPES), ops.convert_to_tensor(LABELS)),
        {"batch_size": 4, "shuffle": False},
    ),
    "a batch size of NumPy": arrays(batch_size=np.int64(4)),
    "a last batch that is smaller": arrays(batch_size=5),
    "validation_split": arrays(validation_split=0.3),
    "validation_data as arrays": arrays(validation_data=HELD),
    "validation_data as a dataset": arrays(validation_data=Batches()),
    "validation_batch_size": arrays(validation_data=HELD, validation_batch_size=2),
    "validation_freq": arrays(validation_data=HELD, validation_freq=2),
    "fewer steps than a pass": arrays(steps_per_epoch=2),  # of the very data, repeated
    "initial_epoch": arrays(initial_epoch=1),
    "a PyDataset": batches(Batches, shuffle=False),
    "tf.data": batches(dataset),
    "tf.data of unknown sides": batches(lambda: dataset(unknown=True)),
    "tf.data that repeats": batches(lambda: dataset(repeat=True), steps_per_epoch=2),
    "a generator": batches(generator, steps_per_epoch=3),
    "a DataLoader": batches(loader),
}


@pytest.mark.parametrize("case", CASES)
def test_fit_does_what_it_does_to_a_plain_keras_model(case):
    histories, weights = [], []
    for model in (plain(), ours()):
        data, arguments = CASES[case]()
        if not isinstance(model, SupervisedClassifier):
            if case == "lists":  # which Keras reads as many inputs
                data = [np.array(each, "float32") for each in data]
            if case == "fewer steps than a pass":  # which Keras cuts an epoch short for
                data, arguments = (dataset(repeat=True),), {"steps_per_epoch": 2}
            if case == "a batch size of NumPy":  # which Keras on PyTorch refuses
                arguments["batch_size"] = 4
        histories.append(model.fit(*data, epochs=3, verbose=0, **arguments).history)
        weights.append(model.get_weights())
    expected, found = histories
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)
    for ours_, theirs in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(ours_, theirs, atol=1e-5)


def test_evaluate_predict_and_single_batches_are_those_of_a_plain_keras_model():
    expected, model = plain(), ours()
    for data, arguments in ((HELD, {"batch_size": 2}), ((Batches(),), {}), ((dataset(),), {})):
        found = model.evaluate(*data, verbose=0, return_dict=True, **arguments)
        wanted = expected.evaluate(*data, verbose=0, return_dict=True, **arguments)
        assert found == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(
        model.predict(SHAPES, verbose=0), expected.predict(SHAPES, verbose=0), rtol=1e-4, atol=1e-6
    )
    for each in (model, expected):
        each.train_on_batch(SHAPES[:4], LABELS[:4])
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_shuffling_shows_every_shape_once_a_pass_in_another_order():
    order = VoxelBatches(SHAPES, 4, labels=np.arange(12))
    passes = []
    for epoch in range(2):
        order.epoch = epoch
        passes.append(np.concatenate([order[index][1] for index in range(3)]).tolist())
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(12)) and passes[0] != passes[1]
    # Two of three batches an epoch are three passes in nine batches, in the same order.
    part = VoxelBatches(SHAPES, 4, labels=np.arange(12), steps=2)
    assert len(part) == 2
    shown = []
    for epoch in range(3):
        part.epoch = epoch
        shown += [part[index][1] for index in range(2)]
    assert np.concatenate(shown).tolist() == passes[0] + passes[1]


@pytest.mark.parametrize("example_of", every_model.EVERY)
def test_every_model_takes_what_keras_takes(example_of):
    example = example_of()
    model = example.model
    history = model.fit(
        *example.data, batch_size=np.int32(4), validation_split=0.25, steps_per_epoch=2,
        validation_batch_size=2, verbose=0,
    ).history  # fmt: skip
    held = {name.removeprefix("val_") for name in history if name.startswith("val_")}
    assert held and set(model.evaluate(*example.data, verbose=0, return_dict=True)) == held
    for name in ("sample_weight", "class_weight"):
        with pytest.raises(ValueError, match=f"{name} must be None: every shape counts the same"):
            model.fit(*example.data, **{name: np.ones(12)}, verbose=0)
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.train_step((example.shapes, example.labels, np.ones(12)))
    with pytest.raises(ValueError, match="validation_data must lie in"):
        model.fit(*example.data, validation_data=(255 * example.shapes, example.labels), verbose=0)
    with pytest.raises(ValueError, match="loss must be None"):
        model.compile("sgd", loss="mse")


def test_an_energy_learns_from_shapes_whose_labels_it_does_not_need():
    with_labels, without = every_model.likelihood().model, every_model.likelihood().model
    with_labels.fit(SHAPES, LABELS, batch_size=4, verbose=0)
    without.fit(SHAPES, batch_size=4, verbose=0)
    for one, other in zip(with_labels.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("sides", [(16, 16, 16), (4, 8, 16)])
def test_a_grid_that_a_dataset_did_not_tell_is_refused_when_it_comes(sides):
    tf = pytest.importorskip("tensorflow")
    shapes = tf.TensorSpec((None, None, None, None))
    data = tf.data.Dataset.from_generator(
        lambda: iter([np.zeros((2, *sides), "float32")]), output_signature=shapes
    )
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match=f"{sides[0]}.*{sides[2]}"
    ):
        every_model.likelihood().model.fit(data, verbose=0)
