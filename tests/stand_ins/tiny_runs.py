"""A recipe, shapes and a network that train in no time."""

import keras
import numpy as np

from descnet3d.models import networks
from descnet3d.training.recipes import RECIPES
from descnet3d.training.run import train

SIZE = 8
QUICK = RECIPES["base"].changed(
    batch_size=4,
    matching_steps=9,
    matching_warmup=2,
    average=0.5,
    likelihood_steps=9,
    langevin_steps=2,
    chains_per_step=3,
    chains_count=6,
    chains_restart=0.3,
    mirror_axes="0",
    noise_until_epoch=2,
)


def boxes(count=10):
    generator = np.random.default_rng(0)
    shapes = np.zeros((count, SIZE, SIZE, SIZE), bool)
    for shape, height in zip(shapes, generator.integers(2, 6, count), strict=True):
        shape[2:6, 3:6, :height] = True
    return shapes


def small_network():
    keras.utils.set_random_seed(0)
    return networks.paper(SIZE, filters=(4, 4), kernels=(4, 3), strides=(2, 2))


COOPERATIVE = RECIPES["cooperative"].changed(
    start="network",
    batch_size=4,
    average=0.5,
    mirror_axes="0",
    generator_latents=3,
    generator_steps=9,
    generator_batch_size=4,
    cooperation_steps=6,
    chains_per_step=3,
    langevin_steps=2,
    inference_steps=2,
)
ANNEALED = RECIPES["annealed"].changed(
    denoising_steps=9, gradient_steps=6, average=0.5, batch_size=4
)
CLASSIFIER = RECIPES["classifier"].changed(classifier_steps=12, batch_size=4)


def descriptor(folder, **options):
    """Matching and maximum likelihood."""
    return train(boxes(), QUICK, folder, network=small_network(), **options)


def cooperative(folder, **options):
    """A generator, and its cooperation with a descriptor."""
    keras.utils.set_random_seed(0)
    network = networks.paper(16, filters=(3,), kernels=(4,), strides=(4,))
    shapes = np.repeat(np.repeat(np.repeat(boxes(), 2, 1), 2, 2), 2, 3)
    return train(shapes, COOPERATIVE, folder, network=network, **options)


def annealed(folder, **options):
    """Denoising, and the energy's gradient."""
    labels = np.arange(10) % 2
    return train(boxes(), ANNEALED, folder, labels=labels, classes=("low", "high"), **options)


def classifier(folder, **options):
    """A supervised classifier."""
    shapes = np.repeat(np.repeat(np.repeat(boxes(), 2, 1), 2, 2), 2, 3)
    labels = np.arange(10) % 2
    return train(shapes, CLASSIFIER, folder, labels=labels, classes=("low", "high"), **options)
