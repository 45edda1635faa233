"""The poses of a shape about the upward axis, and grids inside larger grids."""

from __future__ import annotations

import numpy as np

# 3DShapeNets' release, and the paper's experiments after it, turn every shape by steps of 30°.
NUM_POSES = 12


def pose_turns(count: int = NUM_POSES) -> tuple[float, ...]:
    """The angles of evenly spread poses.

    Args:
        count: how many.

    Returns:
        Degrees, from 0 up, for `turn` of `voxelize.voxelize`.

    Raises:
        ValueError: `count` is not a positive number.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but it is {count}.")
    return tuple(360.0 * pose / count for pose in range(count))


def pad(occupancy, size: int = 32) -> np.ndarray:
    """Puts grids in the middle of larger ones.

    Args:
        occupancy: `[..., D, H, W]`, of any type.
        size: the side of the larger grid. Where what is left over is odd, the upper side has more.

    Returns:
        `[..., size, size, size]`, zero around the grids.

    Raises:
        ValueError: there are fewer than three axes, or a side is longer than `size`.
    """
    grids = np.asarray(occupancy)
    if grids.ndim < 3:
        raise ValueError(f"occupancy must be [..., D, H, W], but it is {list(grids.shape)}.")
    if max(grids.shape[-3:]) > size:
        raise ValueError(
            f"occupancy has grids of {list(grids.shape[-3:])}, which do not fit into {size}; "
            "choose a larger size"
        )
    left_over = [size - side for side in grids.shape[-3:]]
    widths = [(over // 2, over - over // 2) for over in left_over]
    return np.pad(grids, [(0, 0)] * (grids.ndim - 3) + widths)
