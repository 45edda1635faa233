"""The way from a mesh's coordinates to a grid's, against which the package's way back is held."""

import numpy as np

from descnet3d.shapes.transform import upright


def to_grid(transform, points):
    """Points of the mesh, `[..., 3]` in its units, in the grid's coordinates, in voxels."""
    turned = np.asarray(points, np.float64) @ upright(transform.up, transform.turn).T
    return (turned - transform.offset) / transform.scale
