"""What a task holds fixed of a shape while Langevin dynamics moves the rest.

A constraint is an affine subspace of model space: `project` maps positions to their nearest point
in it, `free` a direction to its part along it. `observation` tells a network of each voxel what is
observed: the average, in model space, of the block that it lies in, and one over the side of that
block; both are 0 where nothing is. Constraints are named tuples of tensors, so that compiled
functions take them as arguments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class VisibleVoxels(NamedTuple):
    """Recovery: p(Y_M | Y_visible), the visible voxels are held.

    Attributes:
        values: Y, `[n, D, H, W, 1]` in model space; what hidden voxels hold doesn't matter.
        visible: bool, of the same shape.
    """

    values: Any
    visible: Any

    def project(self, positions: Any) -> Any:
        """The positions, with the visible voxels put back: exact to the bit."""
        return ops.where(self.visible, self.values, positions)

    def free(self, direction: Any) -> Any:
        """The direction's part in the hidden voxels."""
        return ops.where(self.visible, 0.0, direction)

    def observation(self, grid: tuple[int, ...]) -> Any:
        """What a network is told, `[n, D, H, W, 2]`: blocks of one voxel."""
        seen = ops.cast(self.visible, "float32")
        values = ops.where(self.visible, self.values, 0.0)
        return ops.concatenate([values, seen], axis=-1)


class BlockMeans(NamedTuple):
    """Super-resolution: p(Y_high | Y_low), the average of every block of voxels is held.

    Attributes:
        means: Y_low, `[n, d, h, w, 1]` in model space; the blocks' sides are the ratios of the
            positions' grid to this one.
    """

    means: Any

    def project(self, positions: Any) -> Any:
        """The positions, each block shifted to its average: exact to float32 rounding."""
        change = ops.subtract(self.means, block_means(positions, self.means.shape[1:4]))
        return ops.add(positions, expand_blocks(change, positions.shape[1:4]))

    def free(self, direction: Any) -> Any:
        """The direction's part that leaves the blocks' averages as they are."""
        means = block_means(direction, self.means.shape[1:4])
        return ops.subtract(direction, expand_blocks(means, direction.shape[1:4]))

    def observation(self, grid: tuple[int, ...]) -> Any:
        """What a network is told, `[n, D, H, W, 2]`, on a fine grid."""
        values = expand_blocks(ops.convert_to_tensor(self.means), grid)
        fineness = self.means.shape[1] / grid[0]
        return ops.concatenate([values, ops.full_like(values, fineness)], axis=-1)


Constraint = VisibleVoxels | BlockMeans


def block_means(positions: Any, grid: tuple[int, ...]) -> Any:
    """The average of each block of voxels.

    Args:
        positions: `[n, D, H, W, 1]`.
        grid: the blocks' grid `(d, h, w)`; its sides divide those of the positions.

    Returns:
        `[n, d, h, w, 1]`.
    """
    sides = tuple(positions.shape[1:4])
    for axis, (side, count) in enumerate(zip(sides, grid, strict=True), start=1):
        shape = tuple(positions.shape)
        split = (-1, *shape[1:axis], count, side // count, *shape[axis + 1 :])
        positions = ops.mean(ops.reshape(positions, split), axis=axis + 1)
    return positions


def expand_blocks(means: Any, grid: tuple[int, ...]) -> Any:
    """Each number repeated over its block.

    Args:
        means: `[n, d, h, w, 1]`.
        grid: the fine grid `(D, H, W)`; its sides are multiples of those of the means.

    Returns:
        `[n, D, H, W, 1]`.
    """
    for axis, side in enumerate(grid, start=1):
        means = ops.repeat(means, side // means.shape[axis], axis=axis)
    return means


def visible_voxels(observed: Any, visible: Any) -> VisibleVoxels:
    """What is known of observed shapes, given the voxels that can be seen.

    Args:
        observed: `[n, D, H, W, 1]` in model space.
        visible: bool, of this shape or without the last axis; None where a batch does not say.

    Raises:
        ValueError: when the batch doesn't say.
    """
    if visible is None:
        raise ValueError(
            "recovery is trained on batches that say which voxels are visible: fit an array "
            'of shapes, or a dataset of {"occupancy": ..., "visible": ...}, both [n, D, H, W].'
        )
    visible = ops.cast(visible, "bool")
    if len(visible.shape) == 4:
        visible = ops.expand_dims(visible, -1)
    return VisibleVoxels(observed, visible)


def averages(observed: Any, ratio: int) -> BlockMeans:
    """What is known of observed shapes `[n, D, H, W, 1]`: averages of blocks of a side.

    Raises:
        ValueError: when blocks don't fill the grid.
    """
    grid = tuple(observed.shape[1:4])
    if any(side % ratio for side in grid):
        raise ValueError(f"ratio must divide the grid {grid}, but it is {ratio}.")
    return BlockMeans(block_means(observed, tuple(side // ratio for side in grid)))
