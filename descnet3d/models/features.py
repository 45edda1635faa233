"""What a network sees in shapes: its intermediate responses, pooled over regions of space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from descnet3d.energy import backend
from descnet3d.models import networks


@dataclass(frozen=True)
class Pooling:
    """Which of a network's responses are the features.

    Attributes:
        layers: the names of the layers; what None stands for is the user's to say.
        regions: the grid is cut into so many regions along each axis, and pooled in each.
        contractions: what positions in model space are multiplied by before the network sees them;
            features are those of each, one after the other. Contracted shapes lie on the way from
            grey to the data, where a pretrained network has most to decide.
    """

    layers: tuple[str, ...] | None = None
    regions: int = 4
    contractions: tuple[float, ...] = (0.3, 0.5, 0.7)


def widest_layers(network: keras.Model, *, seeing_neighbours: bool = False) -> tuple[str, ...]:
    """The names of the layers whose responses lie in space and are of the most filters, in order.

    Args:
        network: of shapes.
        seeing_neighbours: whether convolutions alone count.

    Raises:
        ValueError: when no responses lie in space.
    """
    kinds: Any = (keras_layers.Conv3D,)
    if not seeing_neighbours:
        kinds = (*kinds, keras_layers.Dense, keras_layers.EinsumDense)
    found = {
        layer.name: layer.output.shape[-1]
        for layer in network.layers
        if isinstance(layer, kinds) and len(layer.output.shape) in (3, 5)
    }
    if not found:
        raise ValueError(
            "descriptor must have a layer whose responses lie in space, such as Conv3D."
        )
    return tuple(name for name, filters in found.items() if filters == max(found.values()))


class PooledResponses:
    """The features of a network, compiled once for each way of pooling.

    Args:
        network: a functional network on positions `[n, D, H, W, 1]`, or on more.
        inputs_of: makes the network's inputs of positions, where it takes more.
    """

    def __init__(
        self, network: keras.Model, inputs_of: Callable[[Any], Any] = lambda positions: positions
    ) -> None:
        self.network = network
        self.inputs_of = inputs_of
        self._compiled: dict[Any, Callable[[Any], Any]] = {}

    def by(self, pooling: Pooling) -> Callable[[Any], Any]:
        """A function from positions to features `[n, d]`.

        Args:
            pooling: how; where it names no layers, all convolutions and dense layers.

        Raises:
            ValueError: when there is no such layer, or regions don't fill a layer's grid.
        """
        key = (pooling.layers, pooling.regions)
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        found = self._compiled[key]
        return lambda positions: ops.concatenate(
            [found(size * positions) for size in pooling.contractions], axis=1
        )

    def _compile(self, layers: tuple[str, ...] | None, regions: int) -> Callable[[Any], Any]:
        intermediates = networks.intermediates(self.network, layers)
        # A dictionary's order is the backend's; the features' is the network's.
        names = [layer.name for layer in self.network.layers]
        order = [name for name in names if name in intermediates.output]
        for name in order:
            _require_regions(name, intermediates.output[name].shape, regions)

        def features(positions: Any) -> Any:
            responses = intermediates(self.inputs_of(positions))
            return _pooled([responses[name] for name in order], regions)

        return backend.compiled(features)


def _grid_of(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The grid of a layer's responses; that of patches `[n, p, c]` is a cube."""
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
        response = ops.cast(response, "float32")
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
