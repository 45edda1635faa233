"""What a descriptor is trained for, beside synthesis: recovery and super-resolution.

Both are p(Y | what is known of Y). They differ from synthesis in where chains start, and in the
projection after each Langevin step; a task makes the `constraints` of a batch of
observed shapes that holds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

from descnet3d.energy.constraints import BlockMeans, VisibleVoxels, block_means
from descnet3d.shapes import corruptions


@dataclass(frozen=True)
class Recovery:
    """p(Y_M | Y_visible): each iteration hides other voxels of the observed shapes.

    Attributes:
        corruption: which voxels, as `corruptions.visible_voxels` takes it.
    """

    corruption: str = "voxels"

    def __post_init__(self) -> None:
        """Refuse what no corruption is."""
        corruptions.parse(self.corruption)

    def constraint(self, observed: Any, visible: Any) -> VisibleVoxels:
        """What is known of observed shapes `[n, D, H, W, 1]`, given the visible voxels.

        Raises:
            ValueError: when the batch doesn't say which they are.
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


@dataclass(frozen=True)
class SuperResolution:
    """p(Y_high | Y_low): Y_low are the averages of blocks of the observed shapes.

    Attributes:
        ratio: the side of a block, in voxels.
    """

    ratio: int = 4

    def __post_init__(self) -> None:
        """Refuse what is no ratio."""
        if not isinstance(self.ratio, int) or self.ratio < 2:
            raise ValueError(f"ratio must be an integer of at least 2, but it is {self.ratio!r}.")

    def constraint(self, observed: Any, visible: Any = None) -> BlockMeans:
        """What is known of observed shapes `[n, D, H, W, 1]`.

        Raises:
            ValueError: when blocks don't fill the grid.
        """
        grid = tuple(observed.shape[1:4])
        if any(side % self.ratio for side in grid):
            raise ValueError(f"ratio must divide the grid {grid}, but it is {self.ratio}.")
        return BlockMeans(block_means(observed, tuple(side // self.ratio for side in grid)))


Task = Recovery | SuperResolution


def task_of(recipe: Mapping[str, Any]) -> Task | None:
    """The task of a recipe's settings; None for synthesis."""
    name = recipe.get("task", "synthesis")
    if name == "recovery":
        return Recovery(recipe["corruption"])
    return SuperResolution(recipe["ratio"]) if name == "super_resolution" else None
