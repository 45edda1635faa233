"""The way from a mesh's coordinates to a grid's, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from placing import to_grid

from descnet3d.shapes.transform import GridTransform, upright

coordinates = st.floats(-1000, 1000)
transforms = st.builds(
    GridTransform,
    st.floats(1e-3, 1e3),
    st.tuples(coordinates, coordinates, coordinates),
    st.sampled_from(["z", "y"]),
    st.one_of(st.floats(-720, 720), st.integers(-24, 24).map(lambda pose: 30.0 * pose)),
)


@settings(max_examples=100, deadline=None)
@given(transforms, hnp.arrays(float, (2, 5, 3), elements=st.floats(0, 64)))
def test_there_and_back_is_where_it_was(transform, points):
    back = to_grid(transform, transform.to_mesh(points))
    np.testing.assert_allclose(back, points, atol=1e-6)
    there = transform.to_mesh(to_grid(transform, points))
    np.testing.assert_allclose(there, points, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(transforms)
def test_a_voxel_is_a_cube_of_the_scale_and_is_not_mirrored(transform):
    corners = transform.to_mesh(np.concatenate([np.zeros((1, 3)), np.eye(3)]))
    axes = (corners[1:] - corners[0]) / transform.scale
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-4)
    assert np.linalg.det(axes) == pytest.approx(1, abs=1e-4)


def test_quarter_turns_are_exact_and_counter_clockwise():
    np.testing.assert_array_equal(upright("z", 0) @ [1, 2, 3], [1, 2, 3])
    np.testing.assert_array_equal(upright("z", 90) @ [1, 2, 3], [-2, 1, 3])
    np.testing.assert_array_equal(upright("z", -450) @ [1, 2, 3], [2, -1, 3])
    np.testing.assert_array_equal(upright("y", 0) @ [1, 2, 3], [1, -3, 2])
    np.testing.assert_array_equal(upright("y", 180) @ [1, 2, 3], [-1, 3, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, (0, 0, 0)), "scale must be a positive number, but it is 0"),
        ((float("inf"), (0, 0, 0)), "scale"),
        ((1.0, (0, 0)), "offset must be three numbers"),
        ((1.0, (0, 0, float("nan"))), "offset"),
        ((1.0, (0, 0, 0), "x"), 'up must be "z" or "y"'),
        ((1.0, (0, 0, 0), "z", float("nan")), "turn"),
    ],
)
def test_what_is_no_transform_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GridTransform(*arguments)
