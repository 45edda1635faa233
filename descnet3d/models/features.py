"""What a network sees in shapes: its intermediate responses, pooled over regions of space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.energy import backend
from descnet3d.models import networks


def pooled_responses(
    network: keras.Model, layers: Sequence[str] | None, regions: int
) -> Callable[[Any], Any]:
    """A compiled function from positions ``[n, D, H, W, 1]`` to features ``[n, d]``.

    Args:
        network: a functional network.
        layers: the names of its layers; None for all convolutions and dense layers.
        regions: into how many regions each axis is cut.

    Raises:
        ValueError: when there is no such layer, or regions don't fill a layer's grid.
    """
    intermediates = networks.intermediates(network, layers)
    # A dictionary's order is the backend's; the features' is the network's.
    order = [layer.name for layer in network.layers if layer.name in intermediates.output]
    for name in order:
        _require_regions(name, intermediates.output[name].shape, regions)

    def features(positions: Any) -> Any:
        responses = intermediates(positions)
        return _pooled([responses[name] for name in order], regions)

    return backend.compiled(features)


def _grid_of(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The grid of a layer's responses; that of patches ``[n, p, c]`` is a cube."""
    if len(shape) == 5:
        return shape[1], shape[2], shape[3]
    side = round(shape[1] ** (1 / 3))
    return (side, side, side) if len(shape) == 3 and side**3 == shape[1] else None


def _require_regions(name: str, shape: tuple[int, ...], regions: int) -> None:
    grid = _grid_of(shape) if len(shape) in (3, 5) else None
    if regions > 1 and len(shape) in (3, 5) and (not grid or any(side % regions for side in grid)):
        raise ValueError(
            f"regions must divide the grid of each layer, but {name} gives {list(shape)} and "
            f"regions is {regions}: name other layers, or take fewer regions."
        )


def _pooled(responses: list[Any], regions: int) -> Any:
    """Mean and maximum over each region of responses in space; other responses as they are."""
    parts = []
    for response in responses:
        if len(response.shape) not in (3, 5):
            parts.append(response)
            continue
        axes = tuple(range(1, len(response.shape) - 1))
        if regions > 1:
            channels = response.shape[-1]
            sides = [
                cells
                for side in _grid_of(response.shape) or ()
                for cells in (regions, side // regions)
            ]
            response = ops.reshape(response, (-1, *sides, channels))
            axes = (2, 4, 6)
        for pool in (ops.mean, ops.max):
            pooled = pool(response, axes)
            parts.append(ops.reshape(pooled, (-1, int(np.prod(pooled.shape[1:])))))
    return ops.concatenate(parts, axis=1)
