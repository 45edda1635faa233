"""Bottom-up networks f(Y; θ): Keras functional graphs from `[n, D, H, W, 1]` to `[n, 1]`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Layers of this block compute in float32 under any policy: half is lost in a grid's sums."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


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
        A network with the intermediates `conv1`, `conv2`, …, `score`: 'same' padding and
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
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="score",
    )(hidden)
    return keras.Model(inputs, score, name="paper")


def base(
    size: int = 32,
    *,
    patch: int = 4,
    width: int = 64,
    context: int = 48,
    hidden: int = 96,
    channels: int = 8,
    code: int = 256,
    reference_std: float = 0.5,
) -> keras.Model:
    """A small network whose energy is how far it would move a shape: E(Y) = ψ(‖Y - U(Y)‖).

    U draws the shape anew from what each patch shows (`patch_responses`), what a code of all of
    them says of the whole (`code_2`) and what the neighbouring patches show (`context`). ψ is
    an increasing function of the distance. With the reference that every energy has,
    f(Y) = ‖Y‖²/2s² - ψ(‖Y - U(Y)‖).

    Args:
        size: the grid's side, in voxels; a multiple of `patch`.
        patch: the side of a patch.
        width: responses of a patch.
        context: filters, 3 patches wide, that see each patch among its neighbours.
        hidden: hidden responses of a patch.
        channels: numbers that each patch gives to the code and gets from it.
        code: the length of the code.
        reference_std: s, the reference's standard deviation; lengths are in units of it.

    Returns:
        A network with the intermediates `patch_responses`, `patch_channels`, `code_1`,
        `code_2`, `context` and others.

    Raises:
        ValueError: when patches don't fill the grid.
    """
    if size % patch:
        raise ValueError(
            f"the grid's side must be a multiple of {patch} for this network, but it is {size}."
        )
    side = size // patch
    inputs = keras.Input((size, size, size, 1), name="shapes")
    with in_float32():
        patches = layers.Rescaling(1 / reference_std, name="in_reference_units")(inputs)
        patches = layers.Reshape((side, patch) * 3, name="split")(patches)
        patches = layers.Permute((1, 3, 5, 2, 4, 6), name="gather")(patches)
        patches = layers.Reshape((side**3, patch**3), name="patches")(patches)
    drawn = _drawn(patches, side, width, context, hidden, channels, code)
    redrawn = layers.Multiply(name="sharpened")([drawn, _gain(patches)])
    redrawn = layers.Activation("tanh", name="redrawn")(redrawn)
    with in_float32():
        score = _nearness(patches, redrawn, size**3)
    return keras.Model(inputs, score, name="base")


def _drawn(
    patches: Any, side: int, width: int, context: int, hidden: int, channels: int, code: int
) -> Any:
    """The patches of the shape that U draws, before they are sharpened."""
    count, volume = side**3, patches.shape[-1]
    responses = layers.EinsumDense(
        "npv,vw->npw",
        output_shape=(count, width),
        bias_axes="pw",
        activation="silu",
        name="patch_responses",
    )(patches)
    whole = layers.Dense(channels, name="patch_channels")(responses)
    whole = layers.Flatten(name="flatten")(whole)
    whole = layers.Dense(code, activation="silu", name="code_1")(whole)
    whole = layers.Dense(code, activation="silu", name="code_2")(whole)
    whole = layers.Dense(
        count * channels, kernel_initializer=_normal(1 / code**0.5), name="code_spread"
    )(whole)
    whole = layers.Reshape((count, channels), name="code_patches")(whole)
    whole = layers.Dense(
        width, kernel_initializer=_normal(0.5 / channels**0.5), name="code_responses"
    )(whole)
    responses = layers.Add(name="with_code")([responses, whole])
    around = layers.Reshape((side, side, side, width), name="in_space")(responses)
    around = layers.Conv3D(context, 3, padding="same", activation="silu", name="context")(around)
    around = layers.Reshape((count, context), name="context_patches")(around)
    around = layers.Dense(
        width, kernel_initializer=_normal(0.5 / context**0.5), name="context_responses"
    )(around)
    responses = layers.Add(name="with_context")([responses, around])
    refined = layers.Dense(hidden, activation="silu", name="refine_1")(responses)
    refined = layers.Dense(width, kernel_initializer=_normal(0.5 / hidden**0.5), name="refine_2")(
        refined
    )
    responses = layers.Add(name="refined")([responses, refined])

    drawn = layers.EinsumDense(
        "npw,wv->npv",
        output_shape=(count, volume),
        bias_axes="pv",
        kernel_initializer=_normal(0.3 / width**0.5),
        name="drawn",
    )(responses)
    kept = layers.Dense(
        volume, use_bias=False, kernel_initializer=keras.initializers.Identity(0.7), name="kept"
    )(patches)
    return layers.Add(name="drawing")([drawn, kept])


def _gain(patches: Any) -> Any:
    """How noisy the whole looks decides how sharply voxels are told apart."""
    noisiness = layers.Dense(32, activation="silu", name="noisiness_1")(patches)
    noisiness = layers.GlobalAveragePooling1D(name="noisiness_pooled")(noisiness)
    noisiness = layers.Dense(32, activation="silu", name="noisiness_2")(noisiness)
    gain = layers.Dense(
        1,
        activation="softplus",
        bias_initializer=keras.initializers.Constant(0.54),
        name="gain",
    )(noisiness)
    return layers.Reshape((1, 1), name="gain_of_all")(gain)


def _nearness(patches: Any, redrawn: Any, voxels: int) -> Any:
    """‖Y‖²/2s² - ψ(‖Y - U(Y)‖), where ψ is a sum of 16 softplus steps along the distance."""
    flat = layers.Flatten(name="flat")(patches)
    square = layers.Rescaling(0.5, name="reference")(_product(flat, flat))
    moved = layers.Flatten(name="moved")(layers.Subtract(name="move")([patches, redrawn]))
    direction = layers.UnitNormalization(name="direction")(moved)
    distance = _product(moved, direction)
    # At first ψ is about the absolute value.
    steps = layers.Rescaling(40 / voxels**0.5, name="distance_units")(distance)
    steps = layers.Dense(
        16,
        activation="softplus",
        kernel_initializer=keras.initializers.Constant(1.0),
        bias_initializer=keras.initializers.RandomUniform(-11.3, 0.0),
        name="distance_steps",
    )(steps)
    psi = layers.Dense(
        1, kernel_initializer=keras.initializers.Constant(-1.0), use_bias=False, name="minus_psi"
    )(steps)
    psi = layers.Rescaling(voxels * 5.66 / 16 / 40, name="minus_psi_scaled")(psi)
    return layers.Add(name="score")([square, psi])


def _product(one: Any, other: Any) -> Any:
    """Scalar products `[n, 1]` of numbers `[n, k]`.

    `layers.Dot` adds up one after the other where a processor has no better way, and loses digits:
    of 64³ numbers all but three.
    """
    return ops.sum(one * other, axis=1, keepdims=True)


def classifier(size: int = 32, classes: int = 10) -> keras.Model:
    """A supervised network for shapes: four convolutions, between which the grid is halved.

    Args:
        size: the grid's side, in voxels; a multiple of 16.
        classes: the number of categories.

    Returns:
        A network from `[n, D, H, W, 1]` to one logit a category, with the layer `embedding`.
    """
    inputs = keras.Input((size, size, size, 1), name="shapes")
    hidden = inputs
    for level, (filters, kernel, stride) in enumerate(
        ((32, 5, 2), (48, 3, 1), (96, 3, 1), (128, 3, 1)), start=1
    ):
        hidden = layers.Conv3D(
            filters,
            kernel,
            stride,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv{level}",
        )(hidden)
        if level > 1:
            hidden = layers.MaxPooling3D(name=f"pool{level}")(hidden)
    hidden = layers.Flatten(name="flatten")(hidden)
    hidden = layers.Dropout(0.5, name="dropout_1")(hidden)
    hidden = layers.Dense(128, activation="relu", kernel_initializer="he_normal", name="embedding")(
        hidden
    )
    hidden = layers.Dropout(0.5, name="dropout_2")(hidden)
    logits = layers.Dense(classes, dtype="float32", name="logits")(hidden)
    return keras.Model(inputs, logits, name="classifier")


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


NETWORKS: dict[str, Callable[..., keras.Model]] = {"paper": paper, "base": base}


def build(name: str, size: int = 32, reference_std: float = 0.5) -> keras.Model:
    """A network of this module by its name.

    Args:
        name: "paper" or "base".
        size: the grid's side, in voxels.
        reference_std: s of the energy that the network will be part of.

    Raises:
        ValueError: when there is no such network, or not on such a grid.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, but it is {name!r}.")
    if name != "base":
        return NETWORKS[name](size)
    # The code's weights grow with the number of patches: on larger grids each tells it less,
    # and what it says is shorter.
    channels = max(1, min(8, round(8 * (32 / size) ** 3)))
    code = 256 if channels == 8 else 192
    return base(size, channels=channels, code=code, reference_std=reference_std)


def grid_of_score(network: keras.Model) -> tuple[int, int, int]:
    """The grid `(D, H, W)` of a network that can be a score f(Y).

    Args:
        network: its first input are the shapes; what other inputs condition it on is free.

    Raises:
        ValueError: when it takes or gives something else.
    """
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 5 or None in shape[1:] or shape[-1] != 1:
        raise ValueError(
            f"network must take [n, D, H, W, 1] with a fixed grid, but it takes {list(shape)}: "
            "build it on keras.Input((D, H, W, 1))."
        )
    if tuple(network.output_shape) not in ((None,), (None, 1)):
        raise ValueError(
            "network must give one score a shape, [n, 1] or [n], but it gives "
            f"{list(network.output_shape)}: end it with keras.layers.Dense(1)."
        )
    return shape[1], shape[2], shape[3]


def intermediates(network: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """The network with the responses of its convolutions and dense layers as outputs, by name.

    Args:
        network: a functional network, of this module or a user's own.
        names: the layers that are wanted; None for all.

    Returns:
        A model that maps `[n, D, H, W, 1]` to a dictionary of layer names to responses, all but
        the score itself.

    Raises:
        ValueError: when the network has no such layer.
    """
    kinds = (layers.Conv3D, layers.Dense, layers.EinsumDense)
    outputs = {
        layer.name: layer.output
        for layer in network.layers
        if isinstance(layer, kinds) and layer.output is not network.outputs[0]
    }
    if not outputs:
        raise ValueError(
            "network has no convolution or hidden dense layer of its own to take responses from."
        )
    missing = [name for name in names or () if name not in outputs]
    if missing:
        raise ValueError(
            f"layers must be among {', '.join(outputs)}, but one of them is {missing[0]!r}."
        )
    chosen = outputs if names is None else {name: outputs[name] for name in names}
    return keras.Model(network.inputs, chosen)
