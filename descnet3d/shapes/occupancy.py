"""Occupancy grids, and the door through which they enter the package.

A grid is `[x, y, z]` with z up, one number in [0, 1] a voxel; a batch of n grids is `[n, D, H, W]`.
"""

from __future__ import annotations

import numpy as np

# 2³³ voxels are all of ModelNet40 in twelve poses at 32³, and take 8 GB as bool.
MAX_VOXELS = 2**33
MAX_GRID_SIDE = 1024
# What sums and float16 leave beside 0 and 1.
_ROUNDING = 1e-3


def as_occupancy(
    shapes, name: str = "shapes", size: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Checks a user's occupancy and converts it: the one door into the package.

    Args:
        shapes: bool, integers 0 and 1, or floats in [0, 1]; `[n, D, H, W]` or `[n, D, H, W, 1]`.
            An array, nested lists, or a tensor that numpy can read.
        name: what the caller's argument is called, for the error messages.
        size: the grid `(D, H, W)` that is needed, or None for any.

    Returns:
        float32 `[n, D, H, W]`. Where `shapes` was that already it is the same array, not a copy.

    Raises:
        ValueError: `shapes` is anything else; the message names the argument, says what came, and
            what to do about it.
    """
    try:
        values = np.asarray(shapes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot be read as one array ({error}); pass an array [n, D, H, W] in which "
            "all grids have the same size"
        ) from error
    if values.dtype.name == "bfloat16":  # numpy knows this type by name alone
        values = values.astype(np.float32)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold numbers, but it is {values.dtype}; pass bool, 0 and 1, or floats "
            "in [0, 1], as one array [n, D, H, W]"
        )
    shape = list(values.shape)
    if values.ndim == 3:
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], but it is one grid {shape}; add a leading "
            f"axis: {name}[None]"
        )
    if size is not None and values.shape == (*size, 1):
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], but it is one grid {shape}; drop the last "
            f"axis and add a leading one: {name}[None, ..., 0]"
        )
    if values.ndim == 5 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 4:
        raise ValueError(
            f"{name} must be a batch [n, D, H, W], but its shape is {shape}; "
            "give it four axes, or five with a last one of length 1"
        )
    if values.size == 0:
        raise ValueError(f"{name} is empty (shape {shape}); pass at least one shape")
    if size is not None and values.shape[1:] != tuple(size):
        raise ValueError(
            f"{name} must have grids of size {list(size)}, but its shape is {shape}; "
            "voxelize or resize the shapes to that grid"
        )
    return _in_unit_range(values, name).astype(np.float32, copy=False)


def _in_unit_range(values: np.ndarray, name: str) -> np.ndarray:
    """The same values, clipped where rounding has led out of [0, 1]; an error where more has."""
    if values.dtype.kind != "b":
        lowest, highest = values.min(), values.max()
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            bad = int(values.size - np.isfinite(values).sum())
            raise ValueError(f"{name} holds {bad} values that are NaN or infinite; remove them")
        if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
            raise ValueError(
                f"{name} must lie in [0, 1], but its values go from {lowest:g} to {highest:g}; "
                "pass occupancy: divide by the largest value, threshold, or clip"
            )
        if lowest < 0 or highest > 1:
            values = np.clip(values, 0, 1)
    return values


def as_visible(visible, shape: tuple[int, ...]) -> np.ndarray:
    """Checks which voxels of a batch are visible.

    Args:
        visible: bool, or numbers 0 and 1; `[n, D, H, W]`, with or without a last axis of length 1.
        shape: that of the batch, `(n, D, H, W)`.

    Returns:
        bool `[n, D, H, W]`.

    Raises:
        ValueError: `visible` has another shape, or other values.
    """
    mask = np.asarray(visible)
    if mask.shape == (*shape, 1):
        mask = mask[..., 0]
    if mask.shape != shape:
        raise ValueError(
            f"visible must have the shape of the occupancy, {list(shape)}, but its shape is "
            f"{list(mask.shape)}; give one bool a voxel, True where it can be seen"
        )
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"visible must be True or False, but it is {mask.dtype} with other values; "
            "compare first: visible > 0"
        )
    return mask.astype(bool)


def as_labels(labels, count: int, classes: int, name: str = "labels") -> np.ndarray:
    """Checks the labels of a batch.

    Args:
        labels: whole numbers, one a shape.
        count: how many shapes there are.
        classes: how many categories there are.
        name: what the caller's argument is called, for the error messages.

    Returns:
        int64 `[count]`.

    Raises:
        ValueError: `labels` is anything else.
    """
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be {count} whole numbers, one for each shape, but they are "
            f"{values.dtype} {list(values.shape)}"
        )
    if count and not 0 <= values.min() <= values.max() < classes:
        raise ValueError(
            f"{name} must be from 0 to {classes - 1}, an index into the categories, but they are "
            f"from {values.min()} to {values.max()}"
        )
    return values.astype(np.int64)


def as_binary(shapes, name: str = "shapes") -> np.ndarray:
    """Checks occupancy that must be exactly 0 or 1, and converts it.

    Args:
        shapes: a batch, as `as_occupancy` takes it.
        name: what the caller's argument is called, for the error messages.

    Returns:
        bool `[n, D, H, W]`.

    Raises:
        ValueError: `shapes` is no occupancy, or holds values between 0 and 1.
    """
    if isinstance(shapes, np.ndarray) and shapes.dtype == bool and shapes.ndim == 4 and shapes.size:
        return shapes  # float32 would take four times the memory
    values = as_occupancy(shapes, name)
    filled = values != 0
    if not np.array_equal(filled, values):
        raise ValueError(
            f"{name} must be 0 or 1 for this kind of file, but it has values between; "
            f"threshold it first: {name} > 0.5"
        )
    return filled
