"""Raggedness, beside shapes whose figures are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import label

from descnet3d.evaluation.pieces import raggedness


def box(*corners):
    grid = np.zeros((8, 8, 8), bool)
    for low, high in corners:
        grid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return grid


def test_a_cube_is_one_piece_whose_surface_is_its_six_sides():
    found = raggedness(box(((1, 1, 1), (4, 4, 4)))[None])
    assert found == pytest.approx({"one_piece": 1, "largest_piece": 1, "surface_to_volume": 2})


def test_corners_join_and_a_crumb_is_a_piece():
    touching = box(((0, 0, 0), (2, 2, 2)), ((2, 2, 2), (4, 4, 4)))
    apart = box(((0, 0, 0), (2, 2, 2)), ((6, 6, 6), (8, 8, 7)))
    found = raggedness(np.stack([touching, apart]))
    assert found["one_piece"] == 0.5
    assert found["largest_piece"] == pytest.approx((1 + 8 / 12) / 2)


def test_empty_shapes_have_no_figures_and_spoil_no_mean():
    cube = box(((1, 1, 1), (4, 4, 4)))
    assert raggedness(np.zeros((2, 4, 4, 4), bool)) == {}
    assert raggedness(np.stack([cube, np.zeros_like(cube)])) == raggedness(cube[None])


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(bool, (5, 5, 5), elements=st.booleans()))
def test_pieces_are_those_of_another_library(shape):
    if shape.any():
        count = label(shape, connectivity=3).max()
        assert raggedness(shape[None])["one_piece"] == (count == 1)
