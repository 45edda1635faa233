"""`export`: what a model says of shapes, in programs that know nothing of this package."""

import every_model
import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet

TORCH = keras.backend.backend() == "torch"
runtime = pytest.importorskip("onnxruntime")


def run(path, inputs):
    """What the exported function gives, a row at a time, as Keras on PyTorch exports it."""
    session = runtime.InferenceSession(path)
    (name,) = [each.name for each in session.get_inputs()]
    rows = [session.run(None, {name: inputs[[row]]})[0] for row in range(len(inputs))]
    if not TORCH:
        np.testing.assert_allclose(session.run(None, {name: inputs})[0], np.concatenate(rows), 1e-5)
    return np.concatenate(rows)


@pytest.mark.parametrize(
    "example_of",
    [every_model.likelihood, every_model.cooperative, every_model.annealed, every_model.classifier],
)
def test_energies_and_logits_are_the_same_in_onnx_and_in_a_saved_model(example_of, tmp_path):
    model, shapes, _ = example_of()
    expected = ops.convert_to_numpy(ops.stop_gradient(model(shapes[:3])))
    path = str(tmp_path / "model.onnx")
    model.export(path, format="onnx", verbose=False)
    np.testing.assert_allclose(run(path, shapes[:3]), expected, rtol=1e-4, atol=1e-5)
    if TORCH:
        return  # Keras writes a SavedModel of PyTorch's only by way of XLA
    import tensorflow as tf

    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(shapes[:3]), expected, rtol=1e-4, atol=1e-5)


def test_wide_kernels_are_exported_as_the_convolutions_that_they_are(tmp_path):
    keras.utils.set_random_seed(0)
    network = networks.paper(16, filters=(20, 8), kernels=(10, 5), strides=(2, 1))
    model, path = DescriptorNet(network), str(tmp_path / "model.onnx")
    shapes = np.random.default_rng(0).random((3, 16, 16, 16)).astype("float32")
    model(shapes)
    model.export(path, format="onnx", verbose=False)
    np.testing.assert_allclose(run(path, shapes), model.energy(shapes), rtol=1e-5)


def test_a_generator_is_exported_as_the_keras_model_that_it_is(tmp_path):
    model = every_model.cooperative().model
    latents, path = model.draw_latents(3, seed=0), str(tmp_path / "generator.onnx")
    model.generator(latents)  # Keras exports to ONNX what has been called
    fixed = {"input_signature": [keras.InputSpec(shape=(1, 3), dtype="float32")]} if TORCH else {}
    model.generator.export(path, format="onnx", verbose=False, **fixed)
    np.testing.assert_allclose(
        model.to_occupancy(run(path, latents)), model.generate(latents=latents), atol=1e-5
    )


def test_what_gives_nothing_says_what_does(tmp_path):
    with pytest.raises(ValueError, match=r"no output to export.*model\.generator or model\.enc"):
        every_model.autoencoder().model.export(tmp_path / "saved")
