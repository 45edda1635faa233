"""The pieces that a shape falls into, and what would join them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Voxels that touch at a face, an edge or a corner are joined: 26 neighbours.
NEIGHBOURHOOD = np.ones((3, 3, 3), bool)

_MOST = 32  # pieces that are looked at: without limit, what knows no shape yet would take long
_A_STEP = 1e-3  # what a path costs a voxel, beside its odds: of equal ones, the shorter
_FILLED, _EMPTIED = 1.0, -1.0  # log odds of what is changed
_BESIDE = 0.5  # how much of the change the neighbours of filled voxels are told


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

    Of shapes in one piece that is, nearly, the likeliest. Each piece but the last, beginning with
    the smallest, either goes, for the sum of its voxels' log odds, or is joined to another one
    along the path of empty voxels that costs least, by the same measure: the greedy tree of a
    prize-collecting Steiner problem. (Of more than 32 pieces the smallest go.) What is next to a
    path is told half of what the path is, so that whoever draws from the odds may make it as thick
    as it should be.

    Args:
        log_odds: `[D, H, W]`; a voxel is occupied where they are above 0. What is certain, where
            they are infinite, is neither filled nor emptied, and a piece from which no path leads
            to another one stays.
        eagerness: how many times as dear as a piece its path has to be for the piece to go; above
            1 more pieces are joined than would be likeliest.

    Returns:
        The odds, `[D, H, W]`; where occupied voxels are one piece, the array itself.
    """
    labels, count = label_pieces(log_odds > 0)
    if count < 2:
        return log_odds
    numbers = range(1, count + 1)
    sums = eagerness * ndimage.sum_labels(log_odds, labels, list(numbers))
    worth = dict(zip(numbers, sums, strict=True))
    within = {number: _first(labels, number) for number in numbers}
    for crumb in sorted(worth, key=worth.__getitem__)[:-_MOST]:
        if np.isfinite(worth[crumb]):
            labels[labels == crumb] = 0
            del worth[crumb], within[crumb]
    alone = np.where(log_odds > 0, 0.0, -log_odds) + _A_STEP
    costs, filled, stay = alone.copy(), np.zeros(log_odds.shape, bool), []
    while len(worth) > 1:
        piece = min(worth, key=worth.__getitem__)
        value, start = worth.pop(piece), within.pop(piece)
        cost, path = _cheapest_path(costs, labels, start, list(within.values()))
        voxels = labels == piece
        if path is None:
            stay.append(start)
        elif cost < value:
            other = labels[path][-1]
            filled[path] = True
            costs[path] = _A_STEP
            labels[voxels] = labels[path] = other
            worth[other] += value - cost
        else:
            filled[voxels] = False
            costs[voxels] = alone[voxels]
            labels[voxels] = 0
    # What went comes back where a later path leads through it.
    whole, _ = label_pieces((log_odds > 0) | filled)
    stays = np.isin(whole, [whole[start] for start in (*stay, *within.values())])
    filled &= log_odds <= 0
    lift = np.where(filled, _FILLED - log_odds, 0.0)
    beside = _BESIDE * ndimage.maximum_filter(lift, footprint=NEIGHBOURHOOD)
    changed = log_odds + np.where(filled, lift, np.where(log_odds <= 0, beside, 0.0))
    return np.where((log_odds > 0) & ~stays, _EMPTIED, changed).astype(log_odds.dtype)


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
