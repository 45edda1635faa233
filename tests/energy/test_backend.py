"""The seam to TensorFlow and PyTorch: what is compiled, and one step of descent."""

import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.constraints import BlockMeans


def test_a_compiled_function_knows_the_grid_of_every_batch_that_it_meets():
    """TensorFlow would forget a side that changes, as it forgets the number of rows."""

    def spread(positions, constraint):
        return positions if constraint is None else constraint.project(positions)

    compiled = backend.compiled(spread)
    positions = np.random.default_rng(0).random((5, 8, 8, 8, 1)).astype("float32")
    for side in (2, 4, 8):
        for count in (5, 2, 3):
            means = np.full((count, side, side, side, 1), 0.25, "float32")
            found = compiled(
                ops.convert_to_tensor(positions[:count]), BlockMeans(ops.convert_to_tensor(means))
            )
            width = 8 // side
            blocks = ops.convert_to_numpy(found)[..., 0].reshape(count, *(side, width) * 3)
            np.testing.assert_allclose(blocks.mean(axis=(2, 4, 6)), 0.25, atol=1e-6)
    np.testing.assert_array_equal(compiled(positions, None), positions)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_descent_moves_by_the_gradient_whatever_the_loss_is_scaled_by(scaled):
    start = np.array([1.0, -2.0, 3.0], "float32")
    variable = keras.Variable(start)
    optimizer = keras.optimizers.SGD(0.1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build([variable])
    loss = backend.descend(
        lambda: (ops.sum(ops.square(variable)), ops.sum(ops.square(variable))),
        optimizer,
        [variable],
    )
    assert float(loss) == 14.0
    np.testing.assert_allclose(ops.convert_to_numpy(variable.value), 0.8 * start, rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="TensorFlow has none anyway")
@pytest.mark.parametrize("kept", [True, False])
def test_training_takes_subnormal_numbers_for_zero_and_leaves_others_theirs(kept):
    import torch

    variable = keras.Variable(np.ones(1, "float32"))
    tiny = torch.tensor(1e-40)
    torch.set_flush_denormal(not kept)
    try:
        seen, _ = backend.gradients(
            lambda: (ops.sum(variable.value), float(tiny * 1.0)), [variable]
        )
        assert seen == 0
        with pytest.raises(ZeroDivisionError):
            backend.gradients(lambda: (1 / 0, None), [variable])
        assert bool(tiny * 1.0 > 0) is kept
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(("asked", "used"), [(None, True), ("0", False)])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow's oneDNN is for x86")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow alone")
def test_convolutions_are_those_of_onednn_unless_told_otherwise(asked, used):
    """TensorFlow by itself has them on some processors only."""
    code = (
        "from descnet3d import startup; startup.import_keras(); import keras, numpy\n"
        "keras.layers.Conv3D(16, 3)(numpy.zeros((1, 8, 8, 8, 16), 'float32'))"
    )
    told = {**os.environ, "ONEDNN_VERBOSE": "1"}
    told.pop("TF_ENABLE_ONEDNN_OPTS", None)
    if asked:
        told["TF_ENABLE_ONEDNN_OPTS"] = asked
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told
    )
    assert (",convolution," in result.stdout) == used
