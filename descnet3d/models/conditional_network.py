"""A network f(Y | c, level) whose gradient draws a shape from a noisy one, given its category."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from descnet3d.energy.conditional_energy import is_told_observations
from descnet3d.models.conditional_blocks import (
    drawn_patches,
    for_patches,
    known_of,
    normalized,
    of_the_whole,
    patch_block,
    patch_drive,
    scale_and_shift,
    seen_of_voxels,
    voxel_odds,
)


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
        code: the length of the code; with 0 there is none, and no weight that belongs to a place:
            the same weights draw on a grid of any size, and see what is near and, where it is
            `mirrored`, what is at mirrored places.
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

    known = known_of(condition, level, told)
    # What is summed over the voxels is float32 under any policy, and so is what goes into it.
    noisy = layers.Rescaling(1 / reference_std, dtype="float32", name="in_reference_units")(shapes)
    placed = code > 0
    responses = patch_drive(noisy, (side, patch), width, "patch", placed)
    told_of = None
    if observed:
        observation = keras.Input((size, size, size, 2), name="observation")
        inputs.append(observation)
        told_of = layers.Rescaling([1 / reference_std, 1.0], name="observed")(observation)
        responses = responses + patch_drive(told_of, (side, patch), width, "observed")
    responses = responses + for_patches(layers.Dense(width, name="patch_condition")(known))
    responses = layers.Activation("silu", name="patch_responses")(responses)

    if code:
        responses = responses + of_the_whole(responses, known, count, width, channels, code)
    of_patches = (width, context, hidden)
    for number in range(1, blocks + 1):
        responses = patch_block(
            responses, known, side, of_patches, f"block{number}", mirrored or placed
        )

    scale, shift = scale_and_shift(known, width, 1, "drawn_condition")
    responses = normalized(responses, "drawn_normalized") * scale + shift
    odds = drawn_patches(responses, (side, patch), placed)
    name = "patch_odds" if voxels else "log_odds"
    odds = layers.Reshape((size, size, size, 1), dtype="float32", name=name)(odds)

    # How much a voxel's own noisy value says of it: 2g/(1 - g)² = 2(1 + level)/level².
    own = ops.reshape(2.0 * (1.0 + level) / ops.square(level), (-1, 1, 1, 1, 1)) * noisy
    if voxels:
        seen = seen_of_voxels(noisy, odds, odds + own, told_of, mirrored)
        sizes = (cells, cell_blocks), (voxels, voxel_blocks)
        more = voxel_odds(seen, responses, known, (side, patch), sizes, mirrored)
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


def on_grid(network: keras.Model, size: int) -> keras.Model:
    """The network on grids of another side, with the same weights.

    Args:
        network: as `conditional` builds it with `code=0`.
        size: the side, in voxels.

    Raises:
        ValueError: when patches don't fill the grid, or weights belong to places of it.
    """
    same = conditional(size, observed=is_told_observations(network), **_sizes_of(network))
    for ours, theirs in zip(same.variables, network.variables, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError("network must have no weights that belong to places: code=0.")
        ours.assign(theirs)
    return same


def of_no_place(network: keras.Model, size: int) -> keras.Model:
    """A network of surfaces that begins with what another one knows of no place and no category.

    Args:
        network: as `conditional` builds it.
        size: the side of the grid, in voxels.

    Returns:
        One with `code=0` and `observed=True`. Biases that differ from place to place become their
        mean; of what the other one has not, it knows nothing yet.
    """
    kept = {**_sizes_of(network), "conditions": 1, "code": 0, "observed": True}
    free = conditional(size, **kept)
    names = {layer.name for layer in network.layers}
    for layer in free.layers:  # the other one's drive has biases, which come below
        theirs = network.get_layer(layer.name).variables if layer.name in names else ()
        for ours, value in zip(layer.variables, map(ops.convert_to_numpy, theirs), strict=False):
            if layer.name == "condition_embedding":
                ours.assign(ops.zeros_like(ours))
            elif ours.shape == value.shape:
                ours.assign(value)
            elif ours.shape == value.shape[1:]:
                ours.assign(value.mean(axis=0))
    drive = network.get_layer("patch_drive")
    if drive.bias_axes:  # which the condition of patches has as well
        bias = free.get_layer("patch_condition").bias
        bias.assign_add(ops.mean(drive.bias, axis=0))
    return free


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


def _log_cosh(x: Any) -> Any:
    """The logarithm of 2 cosh(x)."""
    size = ops.abs(x)
    return size + ops.softplus(-2.0 * size)
