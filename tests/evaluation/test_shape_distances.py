"""Metrics against closed forms and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.metrics import jaccard_score

from descnet3d.evaluation import shape_distances


def chamfer_distance(first, second):
    surfaces = shape_distances.Surfaces
    return surfaces.of(first).chamfer_distance(surfaces.of(second))


def boxes(*sides, size=8):
    grids = np.zeros((len(sides), size, size, size), bool)
    for grid, side in zip(grids, sides, strict=True):
        grid[:side, :side, :side] = True
    return grids


def test_nested_boxes_have_the_ratio_of_their_volumes():
    overlap = shape_distances.intersection_over_union(boxes(2, 4), boxes(4, 8))
    np.testing.assert_allclose(overlap, [[8 / 64, 8 / 512], [1, 64 / 512]])


def test_iou_agrees_with_the_jaccard_score():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 5, 6, 6, 6))
    overlap = shape_distances.intersection_over_union(first, second)
    for i in range(5):
        for j in range(5):
            expected = jaccard_score((first[i] > 0.5).ravel(), (second[j] > 0.5).ravel())
            assert overlap[i, j] == pytest.approx(expected)


def test_nothing_equals_nothing_and_misses_everything_else():
    overlap = shape_distances.intersection_over_union(boxes(0), boxes(0, 3))
    np.testing.assert_array_equal(overlap, [[1, 0]])


def test_a_shape_in_the_reference_is_its_own_nearest():
    shapes = boxes(1, 2, 3, 5)
    nearest = shape_distances.nearest_shapes(shapes, shapes[::-1])
    np.testing.assert_array_equal(nearest.row, [3, 2, 1, 0])
    np.testing.assert_array_equal(nearest.iou, 1)


def test_mean_pairwise_iou_leaves_out_the_shape_itself():
    expected = np.mean([1 / 8, 1 / 27, 8 / 27])
    assert shape_distances.mean_pairwise_iou(boxes(1, 2, 3)) == pytest.approx(expected)


def test_occupied_share_counts_voxels():
    np.testing.assert_allclose(shape_distances.occupied_share(boxes(2, 4)), [8 / 512, 64 / 512])


def test_grids_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="same grid"):
        shape_distances.intersection_over_union(boxes(1), boxes(1, size=6))


@pytest.mark.parametrize("distance", ["empty", "full"])
def test_chamfer_distance_agrees_with_a_search_tree(distance):
    generator = np.random.default_rng(1)
    first, second = generator.random((2, 4, 7, 8, 9)) > (0.9 if distance == "empty" else 0.2)
    found = chamfer_distance(first, second)
    for i in range(4):
        for j in range(4):
            clouds = [
                np.argwhere(shape_distances.surface_voxels(shapes)[k]) / 9
                for shapes, k in ((first, i), (second, j))
            ]
            ways = [cKDTree(b).query(a)[0] ** 2 for a, b in (clouds, clouds[::-1])]
            assert found[i, j] == pytest.approx(sum(way.mean() for way in ways))


def test_a_shifted_plate_is_as_far_as_it_was_shifted():
    plates = np.zeros((2, 8, 8, 8), bool)
    plates[0, 1], plates[1, 4] = True, True
    np.testing.assert_allclose(chamfer_distance(plates, plates), 2 * (3 / 8) ** 2 * (1 - np.eye(2)))


def test_an_empty_shape_is_farther_than_any_other_from_all_but_itself():
    np.testing.assert_allclose(chamfer_distance(boxes(0, 2), boxes(0)), [[0], [6]])
    corner = np.zeros((1, 8, 8, 8), bool)
    corner[0, 7, 7, 7] = True
    assert chamfer_distance(boxes(1), corner)[0, 0] < 6


def test_the_surface_of_a_box_is_all_but_its_inside():
    solid = np.zeros((1, 8, 8, 8), bool)
    solid[0, 1:6, 1:6, 1:6] = True
    surface = shape_distances.surface_voxels(solid)
    assert surface.sum() == 5**3 - 3**3 and not surface[0, 2:5, 2:5, 2:5].any()
    assert (
        shape_distances.surface_voxels(np.ones((1, 4, 4, 4))).sum() == 4**3 - 2**3
    )  # the grid ends there
