"""Sums of energies: of several conditions, each with a weight, and of what is told of voxels.

With c₀ that nothing is told, conditions c and their weights w make

    E(Y | w, level) = E(Y | c₀, level) + Σ w_c (E(Y | c, level) - E(Y | c₀, level)),

and the voxels' odds are summed likewise, as noise predictions are in composed diffusion (Liu et
al., ECCV 2022). A voxel i of which log odds tᵢ are told adds -tᵢxᵢ to the energy of clean shapes,
x in {0, 1}: its odds after all else was seen become ℓᵢ + tᵢ, and where tᵢ is infinite the voxel is
certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops


class Composition(NamedTuple):
    """What chains are conditioned on, where that is more than one condition `[n, c]`.

    Attributes:
        conditions: `[n, k, c]`; that nothing is told is one of them, where it has a weight.
        weights: theirs, `[n, k]`; those of a chain add up to 1.
        told: the log odds that are told of voxels, `[n, D, H, W, 1]`, or `[n, 1, 1, 1, 1]` zeros.
        observation: what is observed of the shapes, `[n, D, H, W, 2]`, as `energy.constraints` has
            it; None for nothing.
    """

    conditions: Any
    weights: Any
    told: Any
    observation: Any = None


Category = str | Mapping[str, float]  # a name, or several with a weight each
Conditions = Any | Composition  # an array or a tensor `[n, c]`, or the sum of several


def composed(
    conditions: Sequence[np.ndarray], weights: Sequence[float]
) -> np.ndarray | Composition:
    """The sum of conditions `[n, c]`; one of weight 1 is itself.

    Args:
        conditions: what the weights belong to.
        weights: what they add up to less than 1, or more, is the weight of nothing told.
    """
    left = 1.0 - float(np.sum(weights))
    parts = [(part, weight) for part, weight in zip(conditions, weights, strict=True) if weight]
    if abs(left) > 1e-6:
        parts.append((np.zeros_like(conditions[0]), left))
    if len(parts) == 1:
        return parts[0][0]
    count = len(conditions[0])
    return Composition(
        np.stack([part for part, _ in parts], axis=1),
        np.tile(np.array([weight for _, weight in parts], np.float32), (count, 1)),
        np.zeros((count, 1, 1, 1, 1), np.float32),
    )


def with_told(condition: np.ndarray | Composition, told: np.ndarray) -> Composition:
    """The same, with log odds that are told of voxels, `[n, D, H, W, 1]`."""
    return _as_composition(condition)._replace(told=told)


def with_observation(condition: Conditions, observation: Any) -> Composition:
    """The same, with what is observed of the shapes, `[n, D, H, W, 2]`."""
    return _as_composition(condition)._replace(observation=observation)


def observation_of(condition: Conditions) -> Any:
    """What is observed of the shapes; None for nothing."""
    return condition.observation if isinstance(condition, Composition) else None


def _as_composition(condition: Conditions) -> Composition:
    if isinstance(condition, Composition):
        return condition
    ones = ops.ones_like(condition[:, :1])
    return Composition(condition[:, None], ones, ops.reshape(0.0 * ones, (-1, 1, 1, 1, 1)))


def _each(condition: Composition, function: Callable[[Any], Any]) -> Composition:
    return Composition(*(None if part is None else function(part) for part in condition))


def rows_of(condition: Conditions, rows: slice) -> Conditions:
    """Those of some chains, as tensors."""
    if isinstance(condition, Composition):
        return _each(condition, lambda part: ops.convert_to_tensor(part[rows]))
    return ops.convert_to_tensor(condition[rows])


def count_of(condition: Conditions) -> Any:
    """How many chains."""
    return (condition.weights if isinstance(condition, Composition) else condition).shape[0]


def repeated(condition: Conditions, count: Any) -> Conditions:
    """That of one chain, for so many."""
    if isinstance(condition, Composition):
        return _each(condition, lambda part: ops.repeat(part, count, axis=0))
    return ops.repeat(condition, count, axis=0)


def untold(condition: Conditions) -> Conditions:
    """That no category is told, for as many chains; what is observed of the shapes stays."""
    if not isinstance(condition, Composition):
        return ops.zeros_like(condition)
    nothing = ops.zeros_like(condition.conditions[:, 0])
    if condition.observation is None:
        return nothing
    return with_observation(nothing, condition.observation)


def summed(function: Callable[[Any], Any], condition: Conditions) -> Any:
    """What a function gives for conditions `[n, c]`, weighed and added up where they are several.

    Args:
        function: its values have the chains as their first axis.
        condition: of each chain.
    """
    if not isinstance(condition, Composition):
        return function(condition)
    total: Any = 0.0
    for index in range(condition.conditions.shape[1]):
        values = function(condition.conditions[:, index])
        weights = ops.reshape(condition.weights[:, index], (-1, *[1] * (len(values.shape) - 1)))
        total = total + weights * values
    return total
