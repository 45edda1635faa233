"""The pieces that a shape falls into, and what would join them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Voxels that touch at a face, an edge or a corner are joined: 26 neighbours.
NEIGHBOURHOOD = np.ones((3, 3, 3), bool)

_MOST = 32  # pieces that are looked at: without limit, what knows no shape yet would take long
_JOINED = 1.0  # log odds of voxels that were filled, and less those of voxels that were emptied
_A_STEP = 1e-3  # what a path costs a voxel, beside its odds: of equal ones, the shorter
_BESIDE = 0.5  # how much of that the neighbours of filled voxels are told


def label_pieces(solid: np.ndarray) -> tuple[np.ndarray, int]:
    """Which piece each voxel belongs to.

    Args:
        solid: bool `[D, H, W]`.

    Returns:
        Integers `[D, H, W]`, 0 where there is none and pieces from 1 on; and how many there are.
    """
    labels, count = ndimage.label(solid, NEIGHBOURHOOD)
    return labels, int(count)


def in_one_piece(log_odds: np.ndarray, eagerness: float = 1.0) -> np.ndarray:
    """Voxels' odds, changed as little as needs be for the occupied ones to be one piece.

    Of shapes in one piece that is, nearly, the likeliest. Each piece but the largest, beginning
    with the smallest, either goes, for the sum of its voxels' log odds, or is joined to another one
    along the path of empty voxels that costs least, by the same measure: the greedy tree of a
    prize-collecting Steiner problem. (Of more than 32 pieces the smallest go.) What is next to a
    path is told half of what the path is, so that whoever draws from the odds may make it as thick
    as it should be.

    Args:
        log_odds: `[D, H, W]`; a voxel is occupied where they are above 0. What is certain, where
            they are infinite, is neither filled nor emptied, and a piece with it does not go.
        eagerness: how many times as dear as a path a piece has to be to go; above 1 more pieces are
            joined than would be likeliest.

    Returns:
        The odds, `[D, H, W]`; where occupied voxels are one piece, the array itself.
    """
    labels, count = label_pieces(log_odds > 0)
    if count < 2:
        return log_odds
    numbers = range(1, count + 1)
    worth = dict(zip(numbers, ndimage.sum_labels(log_odds, labels, list(numbers)), strict=True))
    within = {number: _first(labels, number) for number in numbers}
    costs = np.where(log_odds > 0, 0.0, -log_odds) + _A_STEP
    filled = np.zeros(log_odds.shape, bool)
    emptied = np.zeros(log_odds.shape, bool)
    for crumb in sorted(worth, key=worth.__getitem__)[:-_MOST]:
        if np.isfinite(worth[crumb]):
            emptied[labels == crumb] = True
            labels[labels == crumb] = 0
            del worth[crumb], within[crumb]
    while len(worth) > 1:
        piece = min(worth, key=worth.__getitem__)
        value, start = worth.pop(piece), within.pop(piece)
        cost, path = _cheapest_path(costs, labels, start, list(within.values()))
        voxels = labels == piece
        if path is not None and cost < eagerness * value:
            other = labels[path][-1]
            filled[path], emptied[path] = True, False
            costs[path] = _A_STEP
            labels[voxels] = labels[path] = other
            worth[other] += value - cost
        else:
            emptied |= voxels & np.isfinite(value)
            labels[voxels] = 0
    filled &= (log_odds <= 0) & ~emptied
    lift = np.where(filled, _JOINED - log_odds, 0.0)
    beside = _BESIDE * ndimage.maximum_filter(lift, footprint=NEIGHBOURHOOD)
    told = log_odds + np.where(filled, lift, beside)
    return np.where(emptied, -_JOINED, told).astype(log_odds.dtype)


def _first(labels: np.ndarray, piece: int) -> tuple[int, ...]:
    """The index of its first voxel."""
    where = np.unravel_index(np.argmax(labels == piece), labels.shape)
    return tuple(int(each) for each in where)


def _cheapest_path(
    costs: np.ndarray, labels: np.ndarray, start: tuple[int, ...], ends: list[tuple[int, ...]]
) -> tuple[float, tuple[np.ndarray, ...] | None]:
    """From one voxel of a piece to another piece: what it costs, and its voxels as an index.

    Infinite, and None, where none leads. Steps within a piece cost next to nothing, so one voxel of
    each is enough.
    """
    from skimage.graph import MCP

    graph = MCP(costs, fully_connected=True)
    reached, _ = graph.find_costs([start], ends, find_all_ends=False)
    end = min(ends, key=lambda end: reached[end])
    if not np.isfinite(reached[end]):
        return np.inf, None
    path = np.array(graph.traceback(end)).T
    passed = labels[tuple(path)]
    first = int(np.argmax((passed > 0) & (passed != labels[start])))
    return float(reached[tuple(path[:, first])]), tuple(path[:, : first + 1])
