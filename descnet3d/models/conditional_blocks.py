"""What the conditional network is built of: patches, a code of the whole, cells and voxels."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops


def known_of(condition: Any, level: Any, length: int) -> Any:
    """What condition and level become, `[n, length]`."""
    logarithm = ops.log(level)
    waves = [wave(rate * logarithm) for wave in (ops.sin, ops.cos) for rate in (0.5, 1.0, 2.0, 4.0)]
    noise = layers.Dense(length, activation="silu", name="level_1")(ops.concatenate(waves, axis=1))
    noise = layers.Dense(length, name="level_2")(noise)
    embedded = layers.Dense(
        length, use_bias=False, kernel_initializer=_normal(0.1), name="condition_embedding"
    )(condition)
    return layers.Activation("silu", name="known")(noise + embedded)


def patch_drive(
    voxels: Any, grid: tuple[int, int], width: int, name: str, placed: bool = False
) -> Any:
    """What each patch's voxels say, `[n, p, width]`; `grid` as `voxel_odds` takes it.

    With `placed` every patch has biases of its own.
    """
    (side, patch), channels = grid, voxels.shape[-1]
    count, volume = side**3, patch**3 * channels
    of = "" if name == "patch" else f"{name}_"
    patches = layers.Reshape((*(side, patch) * 3, channels), name=f"{of}cut")(voxels)
    patches = layers.Permute((1, 3, 5, 2, 4, 6, 7), name=f"{of}gather")(patches)
    patches = layers.Reshape((count, volume), name=f"{of}patches")(patches)
    return layers.EinsumDense(
        "npv,vw->npw",
        output_shape=(count, width),
        bias_axes="pw" if placed else None,
        name=f"{name}_drive",
    )(patches)


def drawn_patches(responses: Any, grid: tuple[int, int], placed: bool) -> Any:
    """The odds of the voxels of all patches, `[n, d, s, d, s, d, s]`; `placed` as above."""
    (side, patch), width = grid, responses.shape[-1]
    drawn = layers.EinsumDense(
        "npw,wv->npv",
        output_shape=(side**3, patch**3),
        bias_axes="pv" if placed else "v",
        kernel_initializer=_normal(0.02 / math.sqrt(width)),
        bias_initializer=keras.initializers.Constant(-3.0),
        name="drawn",
    )(responses)
    odds = layers.Reshape((side, side, side, patch, patch, patch), name="patch_voxels")(drawn)
    return layers.Permute((1, 4, 2, 5, 3, 6), name="scatter")(odds)


def of_the_whole(
    responses: Any, known: Any, count: int, width: int, channels: int, code: int
) -> Any:
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


def patch_block(
    responses: Any, known: Any, side: int, sizes: tuple[int, int, int], name: str, mirrored: bool
) -> Any:
    """Mirrored places, then neighbours, then each patch alone; each adds to the responses.

    `sizes` are the responses of a patch, the filters of its context and its hidden responses.
    """
    width, context, hidden = sizes
    scale, shift, scale_own, shift_own = scale_and_shift(known, width, 2, f"{name}_condition")
    seen = normalized(responses, f"{name}_normalized") * scale + shift
    seen = layers.Reshape((side, side, side, width), name=f"{name}_in_space")(seen)
    from_mirrored = _from_mirrored(seen, name) if mirrored else 0.0
    around = layers.Conv3D(context, 3, padding="same", activation="silu", name=f"{name}_context")(
        seen
    )
    around = layers.Dense(
        width, kernel_initializer=_normal(0.5 / math.sqrt(context)), name=f"{name}_around"
    )(around)
    added = layers.Reshape((side**3, width), name=f"{name}_patches")(from_mirrored + around)
    responses = responses + added
    own = normalized(responses, f"{name}_own_normalized") * scale_own + shift_own
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


def seen_of_voxels(noisy: Any, odds: Any, posterior: Any, told_of: Any, mirrored: bool) -> Any:
    """What voxels see of themselves, and of their mirrored places, `[n, D, H, W, c]`."""
    drawn = ops.tanh(0.5 * posterior)
    seen = [noisy, ops.tanh(0.5 * odds), drawn]
    if mirrored:
        both = ops.concatenate([noisy, drawn], axis=-1)
        seen.append(layers.Concatenate(name="mirrored_voxels")(_mirrored(both)))
    if told_of is not None:
        seen += [told_of, *(_mirrored(told_of) if mirrored else [])]
    return ops.concatenate(seen, axis=-1)


def voxel_odds(
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
    seen = normalized(responses, f"{name}_normalized") * (1.0 + scale) + shift
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


def normalized(responses: Any, name: str) -> Any:
    """Responses of a place whose mean square is one, times a learned scale of each channel."""
    return layers.RMSNormalization(epsilon=1e-4, name=name)(responses)


def scale_and_shift(known: Any, width: int, pairs: int, name: str) -> list[Any]:
    """Scales (1 at first) and shifts (0 at first) of all patches' responses, in turn."""
    numbers = layers.Dense(2 * pairs * width, kernel_initializer="zeros", name=name)(known)
    parts = [for_patches(part) for part in ops.split(numbers, 2 * pairs, axis=-1)]
    return [1.0 + part if index % 2 == 0 else part for index, part in enumerate(parts)]


def for_patches(numbers: Any) -> Any:
    """Numbers of a shape, `[n, w]`, for all its patches."""
    return ops.expand_dims(numbers, 1)


def _for_places(numbers: Any) -> Any:
    return ops.reshape(numbers, (-1, 1, 1, 1, numbers.shape[-1]))


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)
