"""What is observed of shapes when a network learns to use it: true, and as constraints say it."""

import numpy as np
from keras import ops

from descnet3d.energy.constraints import averages, visible_voxels
from descnet3d.shapes.observations import draw_observations


def drawn(share=1.0, count=400):
    generator = np.random.default_rng(0)
    shapes = (generator.random((count, 8, 8, 8)) < 0.3).astype(np.float32)
    return shapes, draw_observations(shapes, share, generator)


def test_each_is_what_the_constraint_of_recovery_or_super_resolution_tells():
    shapes, observed = drawn()
    counted = {"voxels": 0, 4: 0, 2: 0}
    for shape, values in zip(shapes, observed, strict=True):
        fineness = values[..., 1].max()
        positions = ops.convert_to_tensor(shape[None, ..., None] - 0.5)
        ratio = round(1 / fineness)
        if ratio == 1:
            told = visible_voxels(positions, values[None, ..., 1] > 0).observation((8, 8, 8))
        else:
            told = averages(positions, ratio).observation((8, 8, 8))
        counted["voxels" if ratio == 1 else ratio] += 1
        occupancy = np.where(values[..., 1] > 0, values[..., 0] - 0.5, 0.0)
        [told] = ops.convert_to_numpy(told)
        np.testing.assert_allclose(told[..., 0], occupancy, atol=1e-6)
        np.testing.assert_allclose(told[..., 1], values[..., 1])
    assert all(number > 20 for number in counted.values()), counted


def test_of_so_many_shapes_something_is_observed():
    _, observed = drawn(share=0.4)
    share = (observed[..., 1] > 0).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.4) < 4 * np.sqrt(0.24 / 400)
    _, nothing = drawn(share=0.0, count=5)
    assert not nothing.any()
