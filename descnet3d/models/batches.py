"""Batches of shapes whose order depends on nothing but a seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from descnet3d.shapes import corruptions, warps


class VoxelBatches(keras.utils.PyDataset):
    """Shuffled batches of occupancy, the same in a resumed run as in the unbroken one.

    Args:
        occupancy: the shapes, `[n, D, H, W]`.
        batch_size: shapes a batch; the last batch of an epoch may hold fewer.
        seed: with the number of the epoch, all that the order depends on.
        mirror_axes: axes of the grid (0, 1, 2) along which each shape is mirrored at random, for
            categories that are symmetric or that should be; or a mapping from labels to
            theirs.
        corruption: what hides voxels of each shape anew in each epoch, as
            `corruptions.visible_voxels` takes it; None for none.
        labels: integers `[n]`, given out beside the shapes; None for none.
        warped: the share of labelled shapes that are slightly scaled and shifted; where it is
            positive, batches say how.

    Attributes:
        epoch: the epoch whose order the batches have; `DescriptorNet.fit` sets it.
    """

    def __init__(
        self,
        occupancy: np.ndarray,
        batch_size: int = 32,
        *,
        seed: int = 0,
        mirror_axes: Sequence[int] | Mapping[int, Sequence[int]] = (),
        corruption: str | None = None,
        labels: np.ndarray | None = None,
        warped: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, but it is {batch_size!r}.")
        of_label = mirror_axes if isinstance(mirror_axes, Mapping) else {None: mirror_axes}
        if not {axis for axes in of_label.values() for axis in axes} <= {0, 1, 2}:
            raise ValueError(f"mirror_axes must be among 0, 1 and 2, but they are {mirror_axes!r}.")
        self.occupancy = occupancy
        self.batch_size = batch_size
        self.seed = seed
        self._symmetric = np.zeros((len(occupancy), 3), bool)
        for label, axes in of_label.items():
            for axis in axes:
                self._symmetric[slice(None) if label is None else labels == label, axis] = True
        self.warped = warped
        self.corruption = corruption
        self.labels = labels
        self.epoch = 0

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-len(self.occupancy) // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        """One batch, float32 `[batch, D, H, W]`, with what is visible of it, or labels, warps."""
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.occupancy))
        mirrored = generator.random((len(self.occupancy), 3)) < 0.5
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.occupancy[rows].astype(np.float32)
        for axis in range(3):
            flipped = mirrored[rows, axis] & self._symmetric[rows, axis]
            batch[flipped] = np.flip(batch[flipped], axis=axis + 1)
        if self.warped and self.labels is not None:
            generator = np.random.default_rng((self.seed, self.epoch, index, 1))
            told = warps.draw_warps(len(batch), self.warped, generator)
            return {"occupancy": warps.warp(batch, told), "warps": told}, self.labels[rows]
        if self.labels is not None:
            return batch, self.labels[rows]
        if self.corruption is None:
            return batch
        generator = np.random.default_rng((self.seed, self.epoch, index))
        visible = corruptions.visible_voxels(batch, self.corruption, generator)
        return {"occupancy": batch, "visible": visible}
