"""A descriptor of independent voxels, whose odds each category tells: what it draws is known."""

import keras
import numpy as np
from keras import layers, ops

from descnet3d.energy.settings import AnnealingSettings
from descnet3d.models.annealed import AnnealedDescriptor

SIDE, CLASSES, REFERENCE = 4, ("slab", "post"), 0.5
SHAPE = (SIDE, SIDE, SIDE, 1)
SEEN = 8.0


def _log_cosh(values):
    return ops.logaddexp(values, -values) - np.log(2.0)


def told_odds_model(observed=False, **sampling):
    """The model, and the odds of each voxel by category: None for that of no category.

    Where it is told what is observed, `SEEN` times its mean is added to them.
    """
    voxels = SIDE**3
    positions, level = keras.Input(SHAPE), keras.Input((1,))
    condition = keras.Input((len(CLASSES) + 6,))
    dense = layers.Dense(voxels)
    inputs, odds = [positions, condition, level], dense(condition)
    if observed:
        inputs.append(keras.Input((*SHAPE[:3], 2)))
        odds = odds + SEEN * ops.mean(inputs[-1][..., :1], axis=(1, 2, 3))
    odds = layers.Reshape(SHAPE, name="log_odds")(odds)
    signal = ops.reshape(1.0 / (1.0 + level), (-1, 1, 1, 1, 1))
    own = 2.0 * signal / ops.square(1.0 - signal) * positions / REFERENCE
    evidence = _log_cosh(0.5 * (odds + own)) - _log_cosh(0.5 * odds)
    score = layers.Reshape((1,))(ops.sum(evidence, axis=(1, 2, 3)))
    network = keras.Model(inputs, score)

    generator = np.random.default_rng(0)
    kernel = np.zeros((len(CLASSES) + 6, voxels), np.float32)
    kernel[: len(CLASSES)] = 1.5 * generator.standard_normal((len(CLASSES), voxels))
    bias = generator.standard_normal(voxels).astype(np.float32)
    dense.set_weights([kernel, bias])
    told = {name: (bias + kernel[row]).reshape(SHAPE) for row, name in enumerate(CLASSES)}
    model = AnnealedDescriptor(
        network, CLASSES, reference_std=REFERENCE, sampling=AnnealingSettings(**sampling)
    )
    return model, {None: bias.reshape(SHAPE), **told}
