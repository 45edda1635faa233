"""Bottom-up networks f(Y; θ): Keras functional graphs from ``[n, D, H, W, 1]`` to ``[n, 1]``."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers


def paper(
    size: int = 32,
    *,
    filters: tuple[int, ...] = (200, 100),
    kernels: tuple[int, ...] = (16, 6),
    strides: tuple[int, ...] = (3, 2),
) -> keras.Model:
    """The network of the paper: wide strided convolutions with ReLU, then a dense unit.

    Args:
        size: the grid's side, in voxels.
        filters: the number of filters of each convolution.
        kernels: their sides, in voxels (responses after the first).
        strides: their strides.

    Returns:
        A network with the intermediates ``conv1``, ``conv2``, …, ``score``: 'same' padding and
        zero biases as in the original code, initial weights N(0, 0.01²).
    """
    inputs = keras.Input((size, size, size, 1), name="shapes")
    hidden = inputs
    for level, (count, kernel, stride) in enumerate(
        zip(filters, kernels, strides, strict=True), start=1
    ):
        hidden = layers.Conv3D(
            count,
            kernel,
            stride,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name=f"conv{level}",
        )(hidden)
    hidden = layers.Flatten(name="flatten")(hidden)
    score = layers.Dense(
        1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="score"
    )(hidden)
    return keras.Model(inputs, score, name="paper")


NETWORKS: dict[str, Callable[..., keras.Model]] = {"paper": paper}


def build(name: str, size: int = 32) -> keras.Model:
    """A network of this module by its name.

    Raises:
        ValueError: when there is no such network.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, but it is {name!r}.")
    return NETWORKS[name](size)


def intermediates(network: keras.Model) -> keras.Model:
    """The network with every response of its convolutions and dense layers as outputs, by name.

    Args:
        network: a functional network, of this module or a user's own.

    Returns:
        A model that maps ``[n, D, H, W, 1]`` to a dictionary of layer names to responses.
    """
    kinds = (layers.Conv3D, layers.Dense)
    outputs = {
        layer.name: layer.output
        for layer in network.layers
        if isinstance(layer, kinds) and layer.output is not network.outputs[0]
    }
    return keras.Model(network.inputs, outputs)
