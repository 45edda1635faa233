"""Occupancy enters by one door."""

import numpy as np
import pytest

from descnet3d.shapes.occupancy import as_occupancy


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_every_kind_of_number_comes_out_as_float32(dtype):
    shapes = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 5)).astype(dtype)
    occupancy = as_occupancy(shapes)
    assert occupancy.dtype == np.float32
    np.testing.assert_array_equal(occupancy, shapes)
    np.testing.assert_array_equal(as_occupancy(shapes[..., None]), shapes)
    np.testing.assert_array_equal(as_occupancy(shapes.tolist()), shapes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (np.zeros((4, 4, 4)), r"it is one grid \[4, 4, 4\]; add a leading axis: mine\[None\]"),
        (np.zeros((4, 4)), r"its shape is \[4, 4\]"),
        (np.zeros((2, 4, 4, 4, 2)), r"its shape is \[2, 4, 4, 4, 2\]"),
        (np.zeros((0, 4, 4, 4)), "mine is empty"),
        (np.zeros((2, 0, 4, 4)), "mine is empty"),
        (np.full((1, 2, 2, 2), np.nan), "mine holds 8 values that are NaN or infinite"),
        (np.full((1, 2, 2, 2), -np.inf), "NaN or infinite"),
        (np.full((1, 2, 2, 2), 255, np.uint8), r"must lie in \[0, 1\].*from 255 to 255"),
        (np.full((1, 2, 2, 2), -0.1), "from -0.1 to -0.1"),
        (np.full((1, 2, 2, 2), "1"), "mine must hold numbers"),
        (np.ones((1, 2, 2, 2), complex), "mine must hold numbers, but it is complex128"),
        ([[[[1]]], [[[1, 1]]]], "same size"),
        (None, "mine must hold numbers"),
    ],
)
def test_what_is_no_occupancy_is_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        as_occupancy(shapes, "mine")


def test_the_size_of_the_grid_is_checked_where_one_is_needed():
    shapes = np.zeros((2, 4, 4, 4))
    assert as_occupancy(shapes, size=(4, 4, 4)).shape == (2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"grids of size \[8, 8, 8\]"):
        as_occupancy(shapes, size=(8, 8, 8))
    with pytest.raises(ValueError, match="drop the last axis"):
        as_occupancy(np.zeros((4, 4, 4, 1)), size=(4, 4, 4))
