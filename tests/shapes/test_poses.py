"""Poses about the upward axis, and grids inside larger ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descnet3d.shapes import poses


def test_twelve_poses_are_thirty_degrees_apart():
    assert poses.pose_turns() == tuple(range(0, 360, 30))
    assert poses.pose_turns(1) == (0.0,)
    with pytest.raises(ValueError, match="count must be at least 1"):
        poses.pose_turns(0)


@settings(max_examples=50, deadline=None)
@given(
    grid=hnp.arrays(bool, st.integers(1, 8).flatmap(lambda side: st.just((2, side, side, side)))),
    more=st.integers(0, 5),
)
def test_a_padded_grid_lies_whole_in_the_middle(grid, more):
    side, start = grid.shape[-1], more // 2
    padded = poses.pad(grid, side + more)
    assert padded.shape == (2, *[side + more] * 3) and padded.sum() == grid.sum()
    middle = slice(start, start + side)
    np.testing.assert_array_equal(padded[:, middle, middle, middle], grid)


def test_thirty_voxels_lie_in_the_middle_of_thirty_two():
    padded = poses.pad(np.ones((30, 30, 30)))
    assert padded[1:31, 1:31, 1:31].all() and padded.sum() == 30**3
    wide = poses.pad(np.ones((1, 4, 2)), 4)
    assert np.argwhere(wide).min(axis=0).tolist() == [1, 0, 1]


def test_grids_that_do_not_fit_are_refused():
    grid = np.zeros((32, 32, 32), bool)
    with pytest.raises(ValueError, match="do not fit into 30"):
        poses.pad(grid, 30)
    with pytest.raises(ValueError, match=r"must be \[\.\.\., D, H, W\]"):
        poses.pad(grid[0])
