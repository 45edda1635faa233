"""Pieces of a shape and what joins them, beside the best that trying everything finds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import label

from descnet3d.shapes.pieces import in_one_piece, label_pieces

ODDS = st.integers(-600, 600).map(lambda hundredths: hundredths / 100 + 0.005)


def pieces_of(solid):
    """How many, by another library."""
    return int(label(solid, connectivity=3).max())


def likelihood(log_odds, solid):
    """Of a shape, beside that of the one which has every voxel as it is likelier."""
    return float(np.where(solid, log_odds, 0.0).sum() - np.maximum(log_odds, 0.0).sum())


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (5, 5, 5), elements=ODDS))
def test_there_is_one_piece_and_it_is_likelier_than_the_largest_alone(log_odds):
    found = in_one_piece(log_odds) > 0
    labels, count = label_pieces(log_odds > 0)
    assert count == pieces_of(log_odds > 0)
    assert pieces_of(found) == min(count, 1)
    alone = max((likelihood(log_odds, labels == n + 1) for n in range(count)), default=0.0)
    assert likelihood(log_odds, _filled_alone(log_odds)) >= alone - 0.2


def test_it_is_nearly_always_the_likeliest_of_all_shapes_in_one_piece():
    grid = (1, 2, 7)
    every = [np.array(bits, bool).reshape(grid) for bits in product((0, 1), repeat=14)]
    whole = np.stack([each for each in every if pieces_of(each) <= 1])
    missed, generator = [], np.random.default_rng(0)
    for _ in range(100):
        log_odds = generator.normal(-1.0, 3.0, grid)
        best = max(likelihood(log_odds, each) for each in whole)
        missed.append(best - likelihood(log_odds, _filled_alone(log_odds)))
    assert min(missed) > -1e-6
    assert np.mean(np.array(missed) < 0.01) > 0.8


def _filled_alone(log_odds):
    """What is occupied, without the neighbours of paths, which only ask to be."""
    found = in_one_piece(log_odds)
    return (found > 0) & ((log_odds > 0) | np.isclose(found, 1.0))


def test_what_is_in_one_piece_is_left_as_it_is():
    log_odds = np.full((4, 4, 4), -3.0)
    assert in_one_piece(log_odds) is log_odds
    log_odds[1:3, 1:3, 1] = 2.0
    assert in_one_piece(log_odds) is log_odds


def test_a_foot_is_joined_along_the_likeliest_neck_and_a_crumb_goes():
    log_odds = np.full((9, 5, 5), -5.0)
    log_odds[0:2], log_odds[5:7, 1:4, 1:4] = 3.0, 3.0  # a plate, and a foot three voxels below
    log_odds[2:5, 3, 2] = -0.5  # where a neck is likelier than elsewhere
    log_odds[8, 0, 0] = 0.2  # a crumb, one voxel from the foot
    found = in_one_piece(log_odds)
    assert (found[2:5, 3, 2] > 0).all() and found[8, 0, 0] < 0
    assert ((found > 0) == (log_odds > 0))[5:8].all() and (found[2:5] > 0).sum() == 3
    # What is next to the neck may be drawn with it: it is told half as much.
    assert found[3, 2, 2] == pytest.approx(-5.0 + 0.5 * 1.5)
    # Whoever is eager joins crumbs, too.
    eager = in_one_piece(log_odds, eagerness=100.0)
    assert eager[8, 0, 0] > 0 and pieces_of(eager > 0) == 1


def test_what_is_certain_stays():
    log_odds = np.full((3, 3, 7), -2.0)
    log_odds[1, 1, [0, 6]] = np.inf
    log_odds[:, :, 3] = -np.inf  # a wall
    log_odds[:, :, 0] = 3.0  # a body, beside the first; behind the wall no path leads to
    found = in_one_piece(log_odds)
    np.testing.assert_array_equal(found, log_odds)
    log_odds[:, :, 0] = -2.0
    log_odds[1, 1, 0] = np.inf
    log_odds[0, 0, 3] = -4.0  # a way around
    found = in_one_piece(log_odds)
    assert pieces_of(found > 0) == 1 and found[0, 0, 3] > 0
    assert (np.isinf(found) == np.isinf(log_odds)).all()


def test_a_leg_of_two_fragments_is_kept_where_one_is_eager():
    log_odds = np.full((12, 3, 3), -10.0)
    log_odds[0:2] = 5.0  # a seat
    log_odds[4, 1, 1], log_odds[7, 1, 1] = 12.0, 11.7  # and what is left of a leg, gaps of 20
    assert not (in_one_piece(log_odds)[2:] > 0).any()
    found = in_one_piece(log_odds, eagerness=3.0) > 0
    assert found[[4, 7], 1, 1].all() and pieces_of(found) == 1


def test_what_went_comes_back_whole_where_a_later_path_leads_through_it():
    log_odds = np.full((16, 5, 5), -8.0)
    log_odds[0:3] = 4.0  # a plate
    log_odds[5:8, 1:4, 1:4] = 0.5  # a fragment, not worth its path
    log_odds[10:14, 1:4, 1:4] = 4.0  # a foot, which is
    found = in_one_piece(log_odds) > 0
    assert found[5:8, 1:4, 1:4].all() and pieces_of(found) == 1


def test_of_hundreds_of_crumbs_one_piece_is_left():
    log_odds = np.random.default_rng(0).normal(-2.2, 1.0, (32, 32, 32))
    assert label_pieces(log_odds > 0)[1] > 300
    assert pieces_of(in_one_piece(log_odds, eagerness=3.0) > 0) == 1
