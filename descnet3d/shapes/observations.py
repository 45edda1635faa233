"""What is observed of shapes: some of their voxels, or averages of blocks, drawn at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from descnet3d.shapes import blocks, corruptions


class _Kind(NamedTuple):
    """A way to observe shapes.

    Attributes:
        chance: how often it is drawn.
        name: the corruption that hides the rest; or "" for averages of blocks.
        usual: how often the share that is hidden is that of `corruptions.SHARES`.
        between: what it lies between otherwise.
        ratio: the side of the blocks.
    """

    chance: float
    name: str = ""
    usual: float = 1.0
    between: tuple[float, float] = (0.0, 0.0)
    ratio: int = 0


# How often, where voxels are hidden, so are all that are empty: what is there is right, and
# anything may be missing.
_OCCUPIED_ALONE = 0.2
_KINDS = (
    _Kind(0.35, "voxels", 0.5, (0.4, 0.95)),
    _Kind(0.115, "half", 0.6, (0.2, 0.8)),
    _Kind(0.115, "block", 0.6, (0.1, 0.6)),
    _Kind(0.115, "scan"),
    _Kind(0.205, ratio=4),
    _Kind(0.10, ratio=2),
)


def draw_observations(
    occupancy: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Random observations of shapes, as recovery and super-resolution pose them.

    Args:
        occupancy: `[n, D, H, W]` in [0, 1].
        share: the share of shapes of which something is observed.
        generator: where the choices come from.

    Returns:
        float32 `[n, D, H, W, 2]`: of each voxel the average of the block that it lies in, and one
        over the side of that block, 1 where the voxel itself is observed; zeros where nothing is.
    """
    chances = [kind.chance for kind in _KINDS]
    observed = np.zeros((*occupancy.shape, 2), np.float32)
    for row, shape in enumerate(occupancy):
        if generator.random() >= share:
            continue
        kind = _KINDS[generator.choice(len(_KINDS), p=chances)]
        if kind.ratio:
            coarse = blocks.average(shape[None], kind.ratio)
            observed[row, ..., 0] = blocks.spread(coarse, occupancy.shape[1:])[0]
            observed[row, ..., 1] = 1 / kind.ratio
        else:
            some = generator.random() >= kind.usual
            hidden = f":{generator.uniform(*kind.between):.3f}" if some else ""
            [visible] = corruptions.visible_voxels(shape[None], kind.name + hidden, generator)
            if generator.random() < _OCCUPIED_ALONE:
                visible &= shape > 0.5
            observed[row, ..., 0] = np.where(visible, shape, 0)
            observed[row, ..., 1] = visible
    return observed
