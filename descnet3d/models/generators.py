"""Top-down networks g(Z; α), from latents to model space, and an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# A generator grows its shapes from a grid of this side, and draws them in patches of PATCH voxels.
SEED_SIDE = 4
PATCH = 4


class _Patches(layers.Layer):
    """What a transposed convolution whose kernel is as long as its strides does, as a product.

    Args:
        drawing: the convolution, whose weights these are.
    """

    def __init__(self, drawing: layers.Conv3DTranspose) -> None:
        super().__init__(name=drawing.name, dtype=drawing.dtype_policy)
        self.drawing = drawing
        self.built = True

    def call(self, responses: Any) -> Any:
        """The grid `[n, D·a, H·b, W·c, o]` of responses `[n, D, H, W, k]`."""
        kernel = self.drawing.kernel
        (a, b, c, out, channels), (depth, height, width) = kernel.shape, responses.shape[1:4]
        weights = ops.reshape(ops.transpose(kernel, (4, 0, 1, 2, 3)), (channels, a * b * c * out))
        flat = ops.reshape(responses, (-1, depth * height * width, channels))
        patches = ops.reshape(ops.matmul(flat, weights), (-1, depth, height, width, a, b, c * out))
        grid = ops.transpose(patches, (0, 1, 4, 2, 5, 3, 6))
        grid = ops.reshape(grid, (-1, depth * a, height * b, width * c, out))
        return self.drawing.activation(grid + self.drawing.bias)


def patchwise(network: keras.Model) -> Callable[..., Any]:
    """The function of a generator, which draws its patches by a matrix product.

    On CPUs without AVX-512, TensorFlow takes up to 90 times as long for a transposed convolution of
    2 to 16 shapes as for 20 (`benchmarks/small_batches.py` measures it). Where the kernel is as
    long as the strides, as in the last layer of `generator`, patches do not overlap, and one
    product of matrices does the same.

    Args:
        network: g; its weights are those of the function.

    Returns:
        A function of latents `[n, d]` and of `training`; it gives what the network gives.
    """
    if keras.backend.backend() != "tensorflow":
        return _in_float32(network)

    def replaced(layer: keras.Layer) -> keras.Layer:
        patches = (
            isinstance(layer, layers.Conv3DTranspose)
            and tuple(layer.kernel_size) == tuple(layer.strides)
            and (layer.padding, layer.output_padding, layer.use_bias) == ("valid", None, True)
            and layer.data_format == "channels_last"
        )
        return _Patches(layer) if patches else layer

    return _in_float32(keras.models.clone_model(network, clone_function=replaced))


def _in_float32(network: keras.Model) -> Callable[..., Any]:
    # As a function, so that a model that keeps it does not find the weights a second time.
    return lambda latents, training=False: ops.cast(network(latents, training=training), "float32")


def generator(
    size: int = 32,
    *,
    latents: int = 64,
    hidden: int = 192,
    seed_channels: int = 24,
    width: int = 64,
    voxel_mean: float = 0.5,
    occupancy: float = 0.5,
) -> keras.Model:
    """A small generator: dense layers, then transposed convolutions that double the grid.

    The last transposed convolution draws each voxel of the coarse grid as a patch of 4³; the ones
    before it double a grid of 4³ until patches fill the fine one.

    Args:
        size: the side of the grid, in voxels; 16 times a power of 2.
        latents: d, the length of Z.
        hidden: units of the two dense layers.
        seed_channels: responses of each cell of the first grid, 4³.
        width: filters of the convolutions.
        voxel_mean: what model space subtracts from occupancy.
        occupancy: about the share of occupied voxels that it begins with. From one half, sparse
            shapes can drive it into the flat end of the sigmoid, where it stays.

    Returns:
        A network that maps Z, `[n, latents]`, to positions in model space, `[n, D, H, W, 1]`,
        whose occupancy is in (0, 1).

    Raises:
        ValueError: when the grid can't be grown, or the occupancy is no share.
    """
    side = _coarse_side(size)
    if not 0 < occupancy < 1:
        raise ValueError(f"occupancy must be between 0 and 1, but it is {occupancy!r}.")
    inputs = keras.Input((latents,), name="latents")
    response = layers.Dense(
        hidden, activation="silu", kernel_initializer=_normal(latents, 1.0), name="dense_1"
    )(inputs)
    response = layers.Dense(
        hidden, activation="silu", kernel_initializer=_normal(hidden), name="dense_2"
    )(response)
    response = layers.Dense(
        SEED_SIDE**3 * seed_channels,
        activation="silu",
        kernel_initializer=_normal(hidden),
        name="seed",
    )(response)
    response = layers.Reshape((SEED_SIDE,) * 3 + (seed_channels,), name="seed_grid")(response)
    reached, channels = SEED_SIDE, seed_channels
    while reached < side:
        reached *= 2
        response = layers.Conv3DTranspose(
            width,
            4,
            2,
            padding="same",
            activation="silu",
            kernel_initializer=_normal(2**3 * channels),  # of 4³, every other meets a voxel
            name=f"grow_to_{reached}",
        )(response)
        channels = width
    response = layers.Conv3D(
        width,
        3,
        padding="same",
        activation="silu",
        kernel_initializer=_normal(3**3 * channels),
        name="refine",
    )(response)
    response = layers.Conv3DTranspose(
        1,
        PATCH,
        PATCH,
        activation="sigmoid",
        kernel_initializer=_normal(width),
        bias_initializer=keras.initializers.Constant(math.log(occupancy / (1 - occupancy))),
        dtype="float32",
        name="occupancy",
    )(response)
    outputs = layers.Rescaling(1.0, offset=-voxel_mean, dtype="float32", name="positions")(response)
    return keras.Model(inputs, outputs, name="generator")


def principal_encoder(
    shapes: np.ndarray,
    *,
    latents: int = 64,
    voxel_mean: float = 0.5,
    mirror_axes: tuple[int, ...] = (),
    seed: int = 0,
) -> keras.Model:
    """The linear encoder whose latents are the shapes' whitened principal components.

    Over the shapes each latent has mean 0 and variance 1, and no two of them are correlated, so
    that draws from N(0, I) are like the latents of shapes, as far as two moments tell.

    Args:
        shapes: occupancy `[n, D, H, W]`.
        latents: d, how many components.
        voxel_mean: what model space subtracts from occupancy.
        mirror_axes: axes along which mirrored shapes count too.
        seed: of the randomised decomposition.

    Returns:
        A network that maps positions `[n, D, H, W, 1]` to latents `[n, d]`, of one dense layer
        whose weights are not trained.

    Raises:
        ValueError: when there are fewer shapes than latents.
    """
    from sklearn.decomposition import PCA

    mirrored = [np.flip(shapes, axis=axis + 1) for axis in mirror_axes]
    rows = np.concatenate([shapes, *mirrored]).reshape(-1, shapes[0].size).astype(np.float32)
    if len(rows) <= latents:
        raise ValueError(
            f"latents must be fewer than the shapes, of which there are {len(rows)}, but they are "
            f"{latents}: take fewer (--generator_latents), or give more shapes."
        )
    found = PCA(latents, whiten=True, svd_solver="randomized", random_state=seed).fit(rows)
    scale = np.sqrt(np.maximum(found.explained_variance_, 1e-12))
    kernel = (found.components_ / scale[:, None]).T
    bias = (voxel_mean - found.mean_) @ kernel
    inputs = keras.Input((*shapes.shape[1:], 1), name="shapes")
    flat = layers.Flatten(name="flatten")(inputs)
    dense = layers.Dense(latents, trainable=False, name="components")
    encoder = keras.Model(inputs, dense(flat), name="principal_encoder")
    dense.set_weights([kernel, bias])
    return encoder


def _normal(fan_in: int, gain: float = 2.8) -> keras.initializers.Initializer:
    """Weights that hand on the variance of what so many SiLUs (or, with gain 1, inputs) say.

    Without it the latents are hardly heard in the shapes at first, and may never be.
    """
    return keras.initializers.RandomNormal(stddev=(gain / fan_in) ** 0.5)


def _coarse_side(size: int) -> int:
    side = size // PATCH
    if size % PATCH or side < SEED_SIDE or side & (side - 1):
        raise ValueError(
            f"the grid's side must be 16, 32, 64, … for a generator, but it is {size}."
        )
    return side
