"""How ragged shapes are: the pieces that they fall into, and their surface beside their volume."""

from __future__ import annotations

import numpy as np

from descnet3d.shapes.pieces import label_pieces


def raggedness(solid: np.ndarray) -> dict[str, float]:
    """Figures of raggedness, means over the shapes that are not empty.

    Args:
        solid: bool `[n, D, H, W]`.

    Returns:
        `one_piece`, the share of shapes in one piece; `largest_piece`, the share of a shape's
        voxels in its largest one; `surface_to_volume`, exposed faces a voxel. Empty where all
        shapes are.
    """
    shapes = [shape for shape in np.asarray(solid, bool) if shape.any()]
    if not shapes:
        return {}
    sizes = [_piece_sizes(shape) for shape in shapes]
    return {
        "one_piece": float(np.mean([len(size) == 1 for size in sizes])),
        "largest_piece": float(np.mean([size.max() / size.sum() for size in sizes])),
        "surface_to_volume": float(np.mean([_faces(shape) / shape.sum() for shape in shapes])),
    }


def _piece_sizes(shape: np.ndarray) -> np.ndarray:
    """The number of voxels of each piece."""
    labels, _ = label_pieces(shape)
    return np.bincount(labels.ravel())[1:]


def _faces(shape: np.ndarray) -> int:
    """The number of faces between an occupied voxel and an empty one, or the grid's outside."""
    padded = np.pad(shape, 1)
    return sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in range(3))
