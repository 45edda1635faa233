"""Warps, beside what whole voxels allow."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from descnet3d.shapes.warps import LARGEST_SCALE, LARGEST_SHIFT, draw_warps, warp


def random_shapes(seed, count=3):
    noise = np.random.default_rng(seed).standard_normal((count, 16, 16, 16))
    return (ndimage.gaussian_filter(noise, (0, 2, 2, 2)) > 0.03).astype(np.float32)


def test_no_warp_leaves_shapes_as_they_are():
    shapes = random_shapes(0)
    np.testing.assert_array_equal(warp(shapes, np.zeros((3, 6), np.float32)), shapes)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1, -0.5, 0, 0.5, 1]), min_size=3, max_size=3))
def test_a_shift_is_scipys(shift):
    shapes = random_shapes(1, 1)
    numbers = np.array([[0, 0, 0, *shift]], np.float32)
    voxels = [LARGEST_SHIFT * part for part in shift]
    expected = ndimage.shift(shapes[0], voxels, order=0)
    np.testing.assert_array_equal(warp(shapes, numbers)[0], expected)


def test_scaling_changes_the_extent_and_keeps_thin_plates():
    box = np.zeros((2, 32, 32, 32), np.float32)
    box[:, 6:26, 6:26, 15:17] = 1
    box[:, 6:26, 9, 6:26] = 1  # a plate of one voxel
    numbers = np.zeros((2, 6), np.float32)
    numbers[0, :2], numbers[1, :2] = 1, -1
    larger, smaller = warp(box, numbers)
    assert abs(larger.any((1, 2)).sum() - 20 * LARGEST_SCALE) <= 1
    assert abs(smaller.any((1, 2)).sum() - 20 / LARGEST_SCALE) <= 1
    assert smaller[:, :, 20].any()  # the plate alone is there


def test_the_share_that_is_warped_is_the_one_asked_for():
    numbers = draw_warps(4000, 0.3, np.random.default_rng(0))
    share = (numbers != 0).any(axis=1).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert np.abs(numbers).max() <= 1


def test_symmetric_shapes_stay_symmetric():
    shapes = random_shapes(2, 40)
    for axes in ((1,), (2,)):
        symmetric = np.maximum(shapes, np.flip(shapes, axes))
        warped = warp(symmetric, draw_warps(40, 1.0, np.random.default_rng(3)))
        assert (warped != symmetric).any()
        np.testing.assert_array_equal(np.flip(warped, axes), warped)
