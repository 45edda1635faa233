"""Which voxels of a shape can still be seen: the corruptions that recovery undoes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The share of the voxels that each hides unless told otherwise. A scan hides what the shape hides.
SHARES = {"voxels": 0.7, "half": 0.5, "block": 0.3, "scan": None}


def visible_voxels(
    occupancy: np.ndarray, corruption: str, generator: np.random.Generator
) -> np.ndarray:
    """A fresh corruption of each shape.

    Args:
        occupancy: `[n, D, H, W]` in [0, 1].
        corruption: "voxels" hides voxels at random (the paper's), "half" a half space on a random
            side, "block" a block at a random place, "scan" whatever a scanner on a random
            horizontal side doesn't see: all that lies behind the first occupied voxel. The share
            of hidden voxels can follow, as in "voxels:0.7".
        generator: where the choices come from.

    Returns:
        bool `[n, D, H, W]`, True where a voxel is visible.

    Raises:
        ValueError: when there is no such corruption.
    """
    kind, share = parse(corruption)
    hide: dict[str, Callable[..., np.ndarray]] = {
        "voxels": _voxels,
        "half": _half,
        "block": _block,
        "scan": _scan,
    }
    return np.stack([~hide[kind](shape, share, generator) for shape in occupancy])


def parse(corruption: str) -> tuple[str, float | None]:
    """The kind of a corruption, and the share of the voxels that it hides.

    Raises:
        ValueError: when there is no such corruption.
    """
    kind, _, number = str(corruption).partition(":")
    if kind not in SHARES:
        raise ValueError(
            f"corruption must be one of {', '.join(SHARES)}, but it is {corruption!r}; the share "
            'of hidden voxels may follow, as in "voxels:0.7".'
        )
    share = SHARES[kind]
    if number:
        if share is None:
            raise ValueError(
                f"a scan hides what the shape hides: give {kind!r}, not {corruption!r}."
            )
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise ValueError(
                f"the share of hidden voxels must lie between 0 and 1, but it is {number!r} in "
                f"corruption={corruption!r}."
            )
    return kind, share


def _voxels(shape: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    return generator.random(shape.shape) < share


def _half(shape: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    hidden = np.zeros(shape.shape, dtype=bool)
    axis, high = generator.integers(3), generator.integers(2)
    length = round(share * shape.shape[axis])
    planes = slice(shape.shape[axis] - length, None) if high else slice(0, length)
    hidden[tuple(planes if other == axis else slice(None) for other in range(3))] = True
    return hidden


def _block(shape: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    hidden = np.zeros(shape.shape, dtype=bool)
    sides = [max(1, round(side * share ** (1 / 3))) for side in shape.shape]
    starts = [
        generator.integers(whole - side + 1) for whole, side in zip(shape.shape, sides, strict=True)
    ]
    hidden[tuple(slice(at, at + side) for at, side in zip(starts, sides, strict=True))] = True
    return hidden


def _scan(shape: np.ndarray, share: None, generator: np.random.Generator) -> np.ndarray:
    axis, high = int(generator.integers(2)), generator.integers(2)
    along = np.flip(shape, axis) if high else shape
    solid = along > 0.5
    behind: np.ndarray = np.cumsum(solid, axis=axis) > solid
    return np.flip(behind, axis) if high else behind
