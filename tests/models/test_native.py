"""Losses as native code, beside the same losses as PyTorch runs them."""

import os
import shutil
import sysconfig
from pathlib import Path

import keras
import numpy as np
import pytest
from every_model import small_conditional
from keras import ops

import descnet3d
from descnet3d.energy import backend
from descnet3d.energy.native import native
from descnet3d.energy.settings import Denoising

ON_TORCH = keras.backend.backend() == "torch"
CAN_BE_MADE = (
    ON_TORCH
    and shutil.which(os.environ.get("CXX", "g++")) is not None
    and (Path(sysconfig.get_path("include")) / "Python.h").exists()
)
needs_compiler = pytest.mark.skipif(
    not CAN_BE_MADE, reason="needs PyTorch, g++ and the headers of Python (python3-dev)"
)


def model_that_learns(learns, **options):
    """A descriptor of two categories on 8³ voxels, the same one every time."""
    keras.utils.set_random_seed(1)
    model = descnet3d.AnnealedDescriptor(small_conditional(8, voxels=0), ("slab", "post"), seed=5)
    for variable in model.network.trainable_variables:  # what is zero at first, too
        variable.assign(variable + 0.2 * keras.random.normal(variable.shape, seed=2))
    # Steps of Adam would make of rounding, where a gradient is nearly zero, a whole step.
    optimizer = keras.optimizers.SGD(0.5)
    model.compile(optimizer, denoising=Denoising(learns), **options)
    return model


def shapes_and_labels(count):
    shapes = np.zeros((count, 8, 8, 8), np.float32)
    shapes[0::2, 1:7, 1:7, 2:4] = 1
    shapes[1::2, 3:5, 3:5, 1:7] = 1
    return shapes, np.arange(count) % 2


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("learns", ["odds", "energy"])
def test_native_code_learns_what_keras_learns(learns):
    """Six shapes in batches of four: the last batch of an epoch is not the code's."""
    plain, compiled = (model_that_learns(learns, native=each) for each in ("no", "float32"))
    before = [ops.convert_to_numpy(each) for each in plain.network.trainable_variables]
    losses = [
        model.fit(*shapes_and_labels(6), batch_size=4, epochs=2, verbose=0).history
        for model in (plain, compiled)
    ]
    assert losses[0].keys() == losses[1].keys()
    for name, values in losses[0].items():
        np.testing.assert_allclose(losses[1][name], values, rtol=1e-3)
    variables = zip(
        plain.network.trainable_variables, compiled.network.trainable_variables, strict=True
    )
    steps = [
        [ops.convert_to_numpy(each) - start for each in both]
        for start, both in zip(before, variables, strict=True)
    ]
    moved = max(float(np.abs(ours).max()) for ours, _ in steps)
    assert moved > 0
    for ours, theirs in steps:
        np.testing.assert_allclose(theirs, ours, atol=1e-3 * moved)


@needs_compiler
def test_bfloat16_rounds_the_factors_of_products_and_nothing_else():
    generator = np.random.default_rng(0)
    kernel = keras.Variable(generator.normal(size=(24, 3)).astype("float32"))
    rows = generator.normal(size=(5, 24)).astype("float32")

    def of(values):
        """Native code keeps the values beside their sum."""
        return native(lambda x: (ops.sum(values(x)), values(x)), [kernel], [], "bfloat16")

    product = of(lambda x: ops.matmul(x, kernel.value))
    summed = of(lambda x: x + 1e-4 * kernel.value[0, 0])
    x = ops.convert_to_tensor(rows)

    def rounded(values):
        return ops.convert_to_numpy(ops.cast(ops.cast(values, "bfloat16"), "float32"))

    exact = rows @ ops.convert_to_numpy(kernel.value)
    expected = rounded(rows).astype("float64") @ rounded(kernel.value).astype("float64")
    found = ops.convert_to_numpy(ops.cast(product(x)[1], "float32"))
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
    assert not np.allclose(found, exact, rtol=1e-5)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(summed(x)[1]), ops.convert_to_numpy(x + 1e-4 * kernel.value[0, 0])
    )


@needs_compiler
def test_it_reads_the_variables_as_they_are_when_it_is_called():
    kernel, factor = keras.Variable(np.ones(3, "float32")), keras.Variable(1.0)
    cubes = native(
        lambda x: (factor.value * ops.sum(x * kernel.value**3), ops.sum(x)),
        [kernel],
        [factor],
        "float32",
    )

    def value_of(x):
        return [float(ops.stop_gradient(each)) for each in cubes(ops.convert_to_tensor(x))]

    x = np.array([1.0, 2.0, 4.0], "float32")
    assert value_of(x) == [7.0, 7.0]
    kernel.assign([1.0, 2.0, 3.0])
    factor.assign(2.0)
    assert value_of(x) == [2 * (1 + 16 + 108), 7.0]
    loss = backend.gradients(lambda: cubes(ops.convert_to_tensor(x)), [kernel])
    np.testing.assert_allclose(ops.convert_to_numpy(loss[1][0]), [6.0, 48.0, 216.0])
    longer = np.ones((2, 3), "float32")  # another shape, as it is
    assert value_of(longer) == [2 * 2 * (1 + 8 + 27), 6.0]


def test_where_no_native_code_can_be_made_is_said_before_training(monkeypatch):
    with pytest.raises(ValueError, match="one of no, float32, bfloat16, but it is 'half'"):
        model_that_learns("odds", native="half")
    if not ON_TORCH:
        with pytest.raises(backend.BackendError, match="KERAS_BACKEND=torch"):
            model_that_learns("odds", native="float32")
        return
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(backend.BackendError, match="there is no no-such-compiler: apt-get"):
        model_that_learns("odds", native="float32")
