"""Batches of shapes whose order depends on nothing but a seed and the number of the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.shapes import corruptions, observations, warps


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
        warped: the share of labelled shapes that are slightly scaled, and shifted upwards or
            down; where it is positive, batches say how.
        observed: the share of labelled shapes of which something is observed; where it is positive,
            batches say what (`shapes.observations`).
        shuffled: whether each pass over the shapes has an order of its own, or that of the shapes.
        steps: batches an epoch, where it is not a pass over the shapes: passes go on from epoch to
            epoch, so that every shape gets its turn.

    Attributes:
        epoch: the epoch whose order the batches have; `DescriptorNet.fit` sets it.
        skipped: how many batches are left out at the beginning of the epoch, as a run that was
            stopped in the middle of it has seen them already.
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
        observed: float = 0.0,
        shuffled: bool = True,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        require_positive_integer("batch_size", batch_size)
        if steps is not None:
            require_positive_integer("steps_per_epoch", steps)
        of_label = mirror_axes if isinstance(mirror_axes, Mapping) else {None: mirror_axes}
        if not {axis for axes in of_label.values() for axis in axes} <= {0, 1, 2}:
            raise ValueError(f"mirror_axes must be among 0, 1 and 2, but they are {mirror_axes!r}.")
        self.occupancy = occupancy
        self.batch_size = int(batch_size)
        self.shuffled = shuffled
        self.steps = steps
        self.seed = seed
        self._symmetric = np.zeros((len(occupancy), 3), bool)
        for label, axes in of_label.items():
            for axis in axes:
                self._symmetric[slice(None) if label is None else labels == label, axis] = True
        self.warped = warped
        self.observed = observed
        self.corruption = corruption
        self.labels = labels
        self.epoch = 0
        self.skipped = 0

    def __len__(self) -> int:
        """The number of batches in an epoch, without those that are skipped."""
        return self._steps_of_an_epoch - self.skipped

    @property
    def _steps_of_an_epoch(self) -> int:
        return self.steps or self._steps_of_a_pass

    @property
    def _steps_of_a_pass(self) -> int:
        return -(-len(self.occupancy) // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        """One batch, float32 `[batch, D, H, W]`, with what is visible of it, or labels, warps."""
        index += self.skipped
        done, index = divmod(self.epoch * self._steps_of_an_epoch + index, self._steps_of_a_pass)
        generator = np.random.default_rng((self.seed, done))
        order = generator.permutation(len(self.occupancy))
        if not self.shuffled:
            order = np.arange(len(order))
        mirrored = generator.random((len(self.occupancy), 3)) < 0.5
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.occupancy[rows].astype(np.float32)
        for axis in range(3):
            flipped = mirrored[rows, axis] & self._symmetric[rows, axis]
            batch[flipped] = np.flip(batch[flipped], axis=axis + 1)
        if self.labels is not None:
            return self._told(batch, (self.seed, done, index)), self.labels[rows]
        if self.corruption is None:
            return batch
        generator = np.random.default_rng((self.seed, done, index))
        visible = corruptions.visible_voxels(batch, self.corruption, generator)
        return {"occupancy": batch, "visible": visible}

    def _told(self, batch: np.ndarray, seed: tuple[int, ...]) -> Any:
        """Labelled shapes, warped, and what is told of them."""
        told = {}
        if self.warped:
            generator = np.random.default_rng((*seed, 1))
            told["warps"] = warps.draw_warps(len(batch), self.warped, generator)
            batch = warps.warp(batch, told["warps"])
        if self.observed:
            generator = np.random.default_rng((*seed, 2))
            told["observation"] = observations.draw_observations(batch, self.observed, generator)
        return {"occupancy": batch, **told} if told else batch


def is_array(x: Any) -> bool:
    """Whether shapes come as one array, or what NumPy reads as one, and not in batches."""
    return isinstance(x, list) or ops.is_tensor(x) or hasattr(x, "__array__")


def as_numpy(x: Any) -> Any:
    """A tensor of the backend as an array; anything else as it is."""
    return ops.convert_to_numpy(x) if ops.is_tensor(x) else x


def split(x: Any, y: Any, share: float) -> Any:
    """An array without its end, and that end, as Keras splits them."""
    if not 0 < share < 1:
        raise ValueError(f"validation_split must be in (0, 1), but it is {share!r}.")
    kept = math.floor(len(x) * (1 - share))
    if kept == 0:
        raise ValueError(f"validation_split={share!r} leaves none of {len(x)} shapes to train on.")
    parts = slice(kept), slice(kept, None)
    return [(x[part], None if y is None else y[part]) for part in parts]
