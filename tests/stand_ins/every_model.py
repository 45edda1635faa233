"""One small model of each class, compiled with settings that are none of its defaults."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from descnet3d.energy.settings import (
    AnnealingSettings,
    ChainSettings,
    Denoising,
    EquilibriumMatching,
    LangevinSettings,
    MaximumLikelihood,
)
from descnet3d.energy.tasks import Recovery, SuperResolution
from descnet3d.models import generators, networks
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.autoencoder import Autoencoder
from descnet3d.models.conditional_network import conditional
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.shape_model import ShapeModel
from descnet3d.models.supervised_classifier import SupervisedClassifier
from descnet3d.models.surface_descriptor import SurfaceDescriptor
from descnet3d.models.teaching import Teaching

LANGEVIN = LangevinSettings(num_steps=2, step_size=0.05, initial_std=0.4)


class Example(NamedTuple):
    """A compiled model, and what its `fit` takes."""

    model: ShapeModel
    shapes: np.ndarray
    labels: np.ndarray | None = None

    @property
    def data(self) -> tuple[np.ndarray, ...]:
        """The positional arguments of `fit`."""
        return (self.shapes,) if self.labels is None else (self.shapes, self.labels)


def boxes(count: int = 12, side: int = 8) -> np.ndarray:
    """Boxes of many heights, that stand on the floor of a grid."""
    heights = np.random.default_rng(0).integers(side // 4, side, count)
    shapes = np.zeros((count, side, side, side), np.float32)
    for shape, height in zip(shapes, heights, strict=True):
        shape[side // 4 : -side // 4, side // 4 : -side // 4, :height] = 1
    return shapes


def optimizer(rate: float = 2e-3) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(rate, beta_1=0.7, use_ema=True, ema_momentum=0.5)


def _network(side: int = 8) -> keras.Model:
    keras.utils.set_random_seed(0)
    return networks.paper(side, filters=(4, 3), kernels=(4, 3), strides=(2, 2))


def _descriptor(**objectives: Any) -> Example:
    model = DescriptorNet(_network(), voxel_mean=0.3, reference_std=0.6, seed=5)
    model.compile(optimizer(), **objectives)
    return Example(model, boxes())


def likelihood() -> Example:
    chains = ChainSettings(per_step=4, count=8, restart_rate=0.2)
    return _descriptor(likelihood=MaximumLikelihood(0.5, LANGEVIN, chains, noise_until_epoch=9))


def recovery() -> Example:
    return _descriptor(matching=EquilibriumMatching(scale=3.0), task=Recovery("voxels"))


def super_resolution() -> Example:
    likelihood = MaximumLikelihood(langevin=LANGEVIN, chains=ChainSettings("data"))
    return _descriptor(
        likelihood=likelihood, matching=EquilibriumMatching(0.1), task=SuperResolution(2)
    )


def cooperative(anchored: bool = True) -> Example:
    descriptor = DescriptorNet(_network(16), voxel_mean=0.5)
    generator = generators.generator(16, latents=3, hidden=8, seed_channels=2, width=4)
    model = CooperativeNet(descriptor, generator, generator_std=0.4, seed=5)
    encoder = keras.Sequential(
        [keras.Input((16, 16, 16, 1)), layers.Flatten(), layers.Dense(3, name="code")]
    )
    anchor = Autoencoder(generator, encoder, generator_std=0.7)
    model.compile(
        optimizer(),
        generator_optimizer=optimizer(3e-3),
        likelihood=MaximumLikelihood(0.1, LANGEVIN, ChainSettings("generator", per_step=4)),
        matching=EquilibriumMatching(scale=3.0),
        teaching=Teaching(LANGEVIN, anchor if anchored else None),
    )
    return Example(model, boxes(side=16))


def autoencoder() -> Example:
    keras.utils.set_random_seed(0)
    generator = generators.generator(16, latents=3, hidden=8, seed_channels=2, width=4)
    encoder = generators.principal_encoder(boxes(side=16), latents=3)
    model = Autoencoder(generator, encoder, generator_std=0.7)
    model.compile(optimizer())
    return Example(model, boxes(side=16))


def small_conditional(side: int, **changes: int) -> keras.Model:
    """A network of an annealed descriptor whose graphs are quickly traced; for two categories."""
    small = {"width": 12, "context": 8, "hidden": 12, "channels": 2, "code": 12, "told": 8}
    few = {"conditions": 8, "blocks": 1, "cell_blocks": 1, "voxel_blocks": 1}
    return conditional(side, **{**small, **few, **changes})


def annealed(learns: str = "odds") -> Example:
    keras.utils.set_random_seed(0)
    # On a grid of 2³ patches PyTorch's gradients of a bfloat16 convolution are garbage on a CPU.
    network = small_conditional(16)
    sampling = AnnealingSettings(num_steps=4, guidance=0.0)  # one graph in place of two
    model = AnnealedDescriptor(network, ("slab", "post"), sampling=sampling, seed=5)
    model.compile(optimizer(), denoising=Denoising(learns, 2.0, 1.0, 0.3, 0.2))
    return Example(model, boxes(side=16), np.arange(12) % 2)


def annealed_energy() -> Example:
    return annealed("energy")


def surfaces() -> Example:
    keras.utils.set_random_seed(0)
    network = small_conditional(16, conditions=1, code=0, mirrored=False, observed=True)
    model = SurfaceDescriptor(network, sampling=AnnealingSettings(first_level=9.0), seed=5)
    model.compile(optimizer(), denoising=Denoising("odds", 2.0, 1.0, 0.3))
    return Example(model, boxes(side=16))


def classifier() -> Example:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 8, 1))
    hidden = layers.Conv3D(4, 4, 4, activation="relu")(inputs)
    hidden = layers.Dense(8, activation="relu", name="embedding")(layers.Flatten()(hidden))
    logits = layers.Dense(2)(layers.Dropout(0.3, seed=1)(hidden))
    model = SupervisedClassifier(keras.Model(inputs, logits), ("low", "high"), voxel_mean=0.3)
    model.compile(optimizer())
    return Example(model, boxes(), (boxes().mean((1, 2, 3)) > boxes().mean()).astype(int))


EVERY = (
    likelihood, recovery, super_resolution, cooperative, autoencoder, annealed, annealed_energy,
    surfaces, classifier,
)  # fmt: skip
