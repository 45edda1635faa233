"""Batches of shapes whose order depends on nothing but a seed and the number of the epoch."""

from __future__ import annotations

import keras
import numpy as np

from descnet3d.shapes import corruptions


class VoxelBatches(keras.utils.PyDataset):
    """Shuffled batches of occupancy, the same in a resumed run as in the unbroken one.

    Args:
        occupancy: the shapes, ``[n, D, H, W]``.
        batch_size: shapes a batch; the last batch of an epoch may hold fewer.
        seed: with the number of the epoch, all that the order depends on.
        mirror_axes: axes of the grid (0, 1, 2) along which each shape is mirrored at random, for
            categories that are symmetric or that should be.
        corruption: what hides voxels of each shape anew in each epoch, as
            `corruptions.visible_voxels` takes it; None for none.
        labels: integers ``[n]``, given out beside the shapes; None for none.

    Attributes:
        epoch: the epoch whose order the batches have; `DescriptorNet.fit` sets it.
    """

    def __init__(
        self,
        occupancy: np.ndarray,
        batch_size: int = 32,
        *,
        seed: int = 0,
        mirror_axes: tuple[int, ...] = (),
        corruption: str | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, but it is {batch_size!r}.")
        if not set(mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror_axes must be among 0, 1 and 2, but they are {mirror_axes!r}.")
        self.occupancy = occupancy
        self.batch_size = batch_size
        self.seed = seed
        self.mirror_axes = tuple(mirror_axes)
        self.corruption = corruption
        self.labels = labels
        self.epoch = 0

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-len(self.occupancy) // self.batch_size)

    def __getitem__(
        self, index: int
    ) -> np.ndarray | dict[str, np.ndarray] | tuple[np.ndarray, np.ndarray]:
        """One batch, float32 ``[batch, D, H, W]``; with what is visible of it, or with labels."""
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.occupancy))
        mirrored = generator.random((len(self.occupancy), 3)) < 0.5
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.occupancy[rows].astype(np.float32)
        for axis in self.mirror_axes:
            flipped = mirrored[rows, axis]
            batch[flipped] = np.flip(batch[flipped], axis=axis + 1)
        if self.labels is not None:
            return batch, self.labels[rows]
        if self.corruption is None:
            return batch
        generator = np.random.default_rng((self.seed, self.epoch, index))
        visible = corruptions.visible_voxels(batch, self.corruption, generator)
        return {"occupancy": batch, "visible": visible}
