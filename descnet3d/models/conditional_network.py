"""A network f(Y | c, level) whose gradient draws a shape from a noisy one, given its category."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops


def conditional(
    size: int = 32,
    *,
    conditions: int = 16,
    patch: int = 4,
    width: int = 96,
    context: int = 64,
    hidden: int = 192,
    channels: int = 4,
    code: int = 320,
    blocks: int = 3,
    told: int = 64,
    cells: int = 48,
    cell_blocks: int = 2,
    voxels: int = 16,
    voxel_blocks: int = 2,
    mirrored: bool = True,
    observed: bool = False,
    reference_std: float = 0.5,
) -> keras.Model:
    """The log evidence of a noisy shape under independent voxels, whose odds a network draws.

    On the path y = g·x + (1 - g)·ε with x = ±1, ε ~ N(0, 1) and g = 1 / (1 + level), a voxel with
    the log odds a of being occupied has the evidence cosh(ℓ/2) / cosh(a/2) beside the reference
    N(0, (1 - g)²), where ℓ = a + 2gy/(1 - g)² are the odds after y was seen. So

        f(Y | c, level) = Σ log cosh(ℓ/2) - log cosh(a/2),    a = a(y, c, level).

    If a did not depend on y, the descent of E = ‖Y‖²/2s² - f would lead exactly to what ℓ draws,
    tanh(ℓ/2); training makes what is left of it small.

    The log odds come from what each patch shows (`patch_responses`), what a code of all of them
    says of the whole (`code_2`), and blocks in which a patch sees its neighbours and the patches
    at its mirrored places. These odds tell the whole; convolutions on cells of 2³ voxels and on
    the voxels themselves, which see noise, odds and what the patches know, then close surfaces and
    join thin parts. They see their mirrored places, too: of a symmetric shape, one noisy copy is
    two. Condition and level scale and shift the responses of every block.

    Args:
        size: the grid's side, in voxels; a multiple of `patch`.
        conditions: how many numbers tell what the shape should be; zeros tell nothing.
        patch: the side of a patch.
        width: responses of a patch.
        context: filters, 3 patches wide, that see each patch among its neighbours.
        hidden: hidden responses of a patch.
        channels: numbers that each patch gives to the code and gets from it.
        code: the length of the code.
        blocks: how many blocks follow the code.
        told: the length of what condition and level become.
        cells: responses of a cell of 2³ voxels.
        cell_blocks: how many blocks on cells.
        voxels: responses of a voxel; 0 leaves the odds as the patches tell them.
        voxel_blocks: how many blocks on voxels.
        mirrored: whether cells and voxels see their mirrored places about axes 0 and 1.
        observed: whether the network is told what is observed of a shape (`energy.constraints`),
            which patches and voxels see beside the noisy shape: f(Y | c, level, observation).
        reference_std: half the distance of an occupied from an empty voxel in model space.

    Returns:
        A network of shapes `[n, D, H, W, 1]`, conditions `[n, conditions]` and noise levels
        `[n, 1]`, and observations `[n, D, H, W, 2]` where it is told them, with the score `[n, 1]`
        and the intermediate `log_odds` `[n, D, H, W, 1]`.

    Raises:
        ValueError: when patches don't fill the grid, or cells no patch.
    """
    if voxels and patch % 2:
        raise ValueError(
            f"patch must be even, since voxels is {voxels} and cells have a side of 2, but it is "
            f"{patch}."
        )
    if size % patch:
        raise ValueError(
            f"the grid's side must be a multiple of {patch} for this network, but it is {size}."
        )
    side = size // patch
    count = side**3
    shapes = keras.Input((size, size, size, 1), name="shapes")
    condition = keras.Input((conditions,), name="condition")
    level = keras.Input((1,), name="level")
    inputs = [shapes, condition, level]

    known = _known(condition, level, told)
    # What is summed over the voxels is float32 under any policy, and so is what goes into it.
    noisy = layers.Rescaling(1 / reference_std, dtype="float32", name="in_reference_units")(shapes)
    responses = _patch_drive(noisy, (side, patch), width, "patch")
    told_of = None
    if observed:
        observation = keras.Input((size, size, size, 2), name="observation")
        inputs.append(observation)
        told_of = layers.Rescaling([1 / reference_std, 1.0], name="observed")(observation)
        responses = responses + _patch_drive(told_of, (side, patch), width, "observed")
    responses = responses + _for_patches(layers.Dense(width, name="patch_condition")(known))
    responses = layers.Activation("silu", name="patch_responses")(responses)

    responses = responses + _code(responses, known, count, width, channels, code)
    for number in range(1, blocks + 1):
        responses = _block(responses, known, side, width, context, hidden, f"block{number}")

    scale, shift = _scale_and_shift(known, width, 1, "drawn_condition")
    responses = _normalized(responses, "drawn_normalized") * scale + shift
    odds = _drawn_patches(responses, (side, patch))
    name = "patch_odds" if voxels else "log_odds"
    odds = layers.Reshape((size, size, size, 1), dtype="float32", name=name)(odds)

    # How much a voxel's own noisy value says of it: 2g/(1 - g)² = 2(1 + level)/level².
    own = ops.reshape(2.0 * (1.0 + level) / ops.square(level), (-1, 1, 1, 1, 1)) * noisy
    if voxels:
        seen = _seen(noisy, odds, odds + own, told_of, mirrored)
        sizes = (cells, cell_blocks), (voxels, voxel_blocks)
        more = _voxel_odds(seen, responses, known, (side, patch), sizes, mirrored)
        odds = layers.Add(dtype="float32", name="log_odds")([odds, more])
    evidence = _log_cosh(0.5 * (odds + own)) - _log_cosh(0.5 * odds)
    score = layers.Reshape((1,), dtype="float32", name="score")(ops.sum(evidence, axis=(1, 2, 3)))
    return keras.Model(inputs, score, name="conditional")


def with_conditions(
    network: keras.Model, known: int, new: int, like: int | None = None
) -> keras.Model:
    """The network with so many more conditions after those that it knows.

    Args:
        network: as `conditional` builds it.
        known: how many of its conditions are categories, which come first.
        new: how many more there will be.
        like: the category that new ones begin as; None for the mean of all.
    """
    config = network.get_config()
    for layer in config["layers"]:
        if layer["name"] == "condition":
            layer["config"]["batch_shape"] = [None, network.input_shape[1][1] + new]
        layer.pop("build_config", None)
    larger = keras.Model.from_config(config)
    larger.trainable = True  # whatever was frozen
    for ours, theirs in zip(larger.variables, network.variables, strict=True):
        value = ops.convert_to_numpy(theirs)
        if ours.shape != theirs.shape:
            begun = value[:known].mean(axis=0) if like is None else value[like]
            value = np.concatenate([value[:known], np.tile(begun, (new, 1)), value[known:]])
        ours.assign(value)
    return larger


def is_told_observations(network: keras.Model) -> bool:
    """Whether a network is told what is observed of shapes, beside condition and level."""
    return len(network.inputs) > 3


def with_observations(network: keras.Model) -> keras.Model:
    """The network, told also what is observed of shapes; it makes nothing of that yet.

    Args:
        network: as `conditional` builds it.

    Returns:
        A copy that gives the same, or the network itself where it is told already.

    Raises:
        ValueError: when `conditional` did not build the network.
    """
    if is_told_observations(network):
        return network
    try:
        larger = conditional(network.input_shape[0][1], observed=True, **_sizes_of(network))
        kernel = larger.get_layer("observed_drive").kernel
        kernel.assign(ops.zeros_like(kernel))
        for layer in network.layers:
            ours = larger.get_layer(layer.name).variables if layer.variables else ()
            for variable, theirs in zip(ours, layer.variables, strict=True):
                value = ops.convert_to_numpy(theirs)
                if variable.shape != value.shape:  # of voxel_drive, which sees them too
                    more = variable.shape[3] - value.shape[3]
                    value = np.pad(value, [(0, 0)] * 3 + [(0, more), (0, 0)])
                variable.assign(value)
    except ValueError as error:
        raise ValueError(
            f"observed needs a network that models.conditional_network.conditional built: {error}"
        ) from None
    return larger


def _sizes_of(network: keras.Model) -> dict[str, Any]:
    """The arguments that `conditional` built a network with, but for its grid."""
    names = {layer.name for layer in network.layers}

    def of(name: str) -> int:
        return network.get_layer(name).output.shape[-1] if name in names else 0

    def count(prefix: str) -> int:
        return sum(name.startswith(prefix) and name.endswith("_context") for name in names)

    sizes = {
        "width": "patch_drive",
        "context": "block1_context",
        "hidden": "block1_own_1",
        "channels": "patch_channels",
        "code": "code_2",
        "told": "level_2",
        "cells": "cell_drive",
        "voxels": "voxel_drive",
    }
    return {
        **{argument: of(name) for argument, name in sizes.items()},
        "conditions": network.input_shape[1][1],
        "patch": round(network.get_layer("patches").output.shape[-1] ** (1 / 3)),
        "blocks": count("block"),
        "cell_blocks": count("cell"),
        "voxel_blocks": count("voxel"),
        "mirrored": "mirrored_voxels" in names,
        "reference_std": 1 / network.get_layer("in_reference_units").scale,
    }


def _known(condition: Any, level: Any, length: int) -> Any:
    """What condition and level become, `[n, length]`."""
    logarithm = ops.log(level)
    waves = [wave(rate * logarithm) for wave in (ops.sin, ops.cos) for rate in (0.5, 1.0, 2.0, 4.0)]
    noise = layers.Dense(length, activation="silu", name="level_1")(ops.concatenate(waves, axis=1))
    noise = layers.Dense(length, name="level_2")(noise)
    embedded = layers.Dense(
        length, use_bias=False, kernel_initializer=_normal(0.1), name="condition_embedding"
    )(condition)
    return layers.Activation("silu", name="known")(noise + embedded)


def _patch_drive(voxels: Any, grid: tuple[int, int], width: int, name: str) -> Any:
    """What each patch's voxels say, `[n, p, width]`; `grid` as `_voxel_odds` takes it."""
    (side, patch), channels = grid, voxels.shape[-1]
    count, volume = side**3, patch**3 * channels
    of = "" if name == "patch" else f"{name}_"
    patches = layers.Reshape((*(side, patch) * 3, channels), name=f"{of}cut")(voxels)
    patches = layers.Permute((1, 3, 5, 2, 4, 6, 7), name=f"{of}gather")(patches)
    patches = layers.Reshape((count, volume), name=f"{of}patches")(patches)
    return layers.EinsumDense(
        "npv,vw->npw",
        output_shape=(count, width),
        bias_axes="pw" if name == "patch" else None,
        name=f"{name}_drive",
    )(patches)


def _drawn_patches(responses: Any, grid: tuple[int, int]) -> Any:
    """The odds of the voxels of all patches, `[n, d, s, d, s, d, s]`."""
    (side, patch), width = grid, responses.shape[-1]
    drawn = layers.EinsumDense(
        "npw,wv->npv",
        output_shape=(side**3, patch**3),
        bias_axes="pv",
        kernel_initializer=_normal(0.02 / math.sqrt(width)),
        bias_initializer=keras.initializers.Constant(-3.0),
        name="drawn",
    )(responses)
    odds = layers.Reshape((side, side, side, patch, patch, patch), name="patch_voxels")(drawn)
    return layers.Permute((1, 4, 2, 5, 3, 6), name="scatter")(odds)


def _code(responses: Any, known: Any, count: int, width: int, channels: int, code: int) -> Any:
    """What a code of all patches says of the whole, to each patch."""
    whole = layers.Dense(channels, name="patch_channels")(responses)
    whole = layers.Flatten(name="flatten")(whole)
    whole = layers.Dense(code, name="code_drive")(whole)
    whole = whole + layers.Dense(code, name="code_condition")(known)
    whole = layers.Activation("silu", name="code_1")(whole)
    whole = layers.Dense(code, activation="silu", name="code_2")(whole)
    whole = layers.Dense(count * channels, name="code_spread")(whole)
    whole = layers.Reshape((count, channels), name="code_patches")(whole)
    return layers.Dense(width, name="code_responses")(whole)


def _block(
    responses: Any, known: Any, side: int, width: int, context: int, hidden: int, name: str
) -> Any:
    """Mirrored places, then neighbours, then each patch alone; each adds to the responses."""
    scale, shift, scale_own, shift_own = _scale_and_shift(known, width, 2, f"{name}_condition")
    seen = _normalized(responses, f"{name}_normalized") * scale + shift
    seen = layers.Reshape((side, side, side, width), name=f"{name}_in_space")(seen)
    mirrored = _from_mirrored(seen, name)
    around = layers.Conv3D(context, 3, padding="same", activation="silu", name=f"{name}_context")(
        seen
    )
    around = layers.Dense(
        width, kernel_initializer=_normal(0.5 / math.sqrt(context)), name=f"{name}_around"
    )(around)
    added = layers.Reshape((side**3, width), name=f"{name}_patches")(mirrored + around)
    responses = responses + added
    own = _normalized(responses, f"{name}_own_normalized") * scale_own + shift_own
    own = layers.Dense(hidden, activation="silu", name=f"{name}_own_1")(own)
    own = layers.Dense(
        width, kernel_initializer=_normal(0.5 / math.sqrt(hidden)), name=f"{name}_own_2"
    )(own)
    return responses + own


def _mirrored(places: Any) -> list[Any]:
    """What is at each place's mirrored ones, about axis 0, axis 1 and both."""
    return [ops.flip(places, axes) for axes in (1, 2, (1, 2))]


def _from_mirrored(seen: Any, name: str) -> Any:
    """What the mirrored places add to each place's responses."""
    width = seen.shape[-1]
    mirrored = ops.concatenate(_mirrored(seen), axis=-1)
    mirrored = layers.Activation("silu", name=f"{name}_mirrored")(mirrored)
    normal = _normal(0.3 / math.sqrt(3 * width))
    return layers.Dense(width, kernel_initializer=normal, name=f"{name}_mirror")(mirrored)


def _seen(noisy: Any, odds: Any, posterior: Any, told_of: Any, mirrored: bool) -> Any:
    """What voxels see of themselves, and of their mirrored places, `[n, D, H, W, c]`."""
    drawn = ops.tanh(0.5 * posterior)
    seen = [noisy, ops.tanh(0.5 * odds), drawn]
    if mirrored:
        both = ops.concatenate([noisy, drawn], axis=-1)
        seen.append(layers.Concatenate(name="mirrored_voxels")(_mirrored(both)))
    if told_of is not None:
        seen += [told_of, *(_mirrored(told_of) if mirrored else [])]
    return ops.concatenate(seen, axis=-1)


def _voxel_odds(
    seen: Any,
    of_patches: Any,
    known: Any,
    grid: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    mirrored: bool,
) -> Any:
    """What convolutions on cells of 2³ voxels, and on voxels, add to the odds of each voxel.

    Args:
        seen: what is known of each voxel, `[n, D, H, W, c]`.
        of_patches: the responses of the patches, `[n, p, w]`.
        known: of condition and level.
        grid: how many patches along an axis, and their side.
        sizes: the responses of a cell and the blocks on cells, and the same of voxels.
        mirrored: whether cells see their mirrored places.
    """
    (side, patch), ((cell_width, cell_blocks), (width, blocks)) = grid, sizes
    halves = patch // 2
    drive = layers.Conv3D(width, 3, padding="same", name="voxel_drive")(seen)
    told = layers.Dense(width, name="voxel_condition")(known)
    fine = layers.Activation("silu", name="voxel_responses")(drive + _for_places(told))

    coarse = layers.Conv3D(cell_width, 2, strides=2, name="cell_drive")(fine)
    placed = layers.Dense(halves**3 * cell_width, name="cell_places")(of_patches)
    placed = layers.Reshape((side,) * 3 + (halves**3 * cell_width,), name="cells_of_patches")(
        placed
    )
    coarse = coarse + _unfolded(placed, halves, cell_width, "cell")
    for number in range(1, cell_blocks + 1):
        coarse = _near_block(coarse, known, f"cell{number}", mirrored)

    spread = layers.Dense(8 * width, name="voxel_places")(coarse)
    fine = fine + _unfolded(spread, 2, width, "voxel")
    for number in range(1, blocks + 1):
        fine = _near_block(fine, known, f"voxel{number}")
    fine = layers.Activation("silu", name="voxel_last")(fine)
    return layers.Dense(1, kernel_initializer="zeros", name="voxel_odds")(fine)


def _near_block(responses: Any, known: Any, name: str, mirrored: bool = False) -> Any:
    """Each place among its neighbours, and its mirrored places; adds to the responses."""
    width = responses.shape[-1]
    numbers = layers.Dense(2 * width, kernel_initializer="zeros", name=f"{name}_condition")(known)
    scale, shift = (_for_places(part) for part in ops.split(numbers, 2, axis=-1))
    seen = _normalized(responses, f"{name}_normalized") * (1.0 + scale) + shift
    around = layers.Conv3D(width, 3, padding="same", activation="silu", name=f"{name}_context")
    own = layers.Dense(
        width, kernel_initializer=_normal(0.5 / math.sqrt(width)), name=f"{name}_own"
    )
    added = own(around(seen))
    return responses + (added + _from_mirrored(seen, name) if mirrored else added)


def _unfolded(responses: Any, times: int, width: int, name: str) -> Any:
    """`[n, d, d, d, times³·w]`, each place unfolded to so many along each axis."""
    side = responses.shape[1]
    parts = layers.Reshape((side,) * 3 + (times,) * 3 + (width,), name=f"{name}_folded")(responses)
    parts = layers.Permute((1, 4, 2, 5, 3, 6, 7), name=f"{name}_unfold")(parts)
    return layers.Reshape((side * times,) * 3 + (width,), name=f"{name}_unfolded")(parts)


def _normalized(responses: Any, name: str) -> Any:
    return layers.RMSNormalization(epsilon=1e-4, name=name)(responses)


def _scale_and_shift(known: Any, width: int, pairs: int, name: str) -> list[Any]:
    """Scales (1 at first) and shifts (0 at first) of all patches' responses, in turn."""
    numbers = layers.Dense(2 * pairs * width, kernel_initializer="zeros", name=name)(known)
    parts = [_for_patches(part) for part in ops.split(numbers, 2 * pairs, axis=-1)]
    return [1.0 + part if index % 2 == 0 else part for index, part in enumerate(parts)]


def _for_patches(numbers: Any) -> Any:
    return ops.expand_dims(numbers, 1)


def _for_places(numbers: Any) -> Any:
    return ops.reshape(numbers, (-1, 1, 1, 1, numbers.shape[-1]))


def _log_cosh(x: Any) -> Any:
    """The logarithm of 2 cosh(x)."""
    size = ops.abs(x)
    return size + ops.softplus(-2.0 * size)


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)
