"""What tasks hold fixed: exact after any number of steps, and a projection in Euclid's sense."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from descnet3d.energy.constraints import BlockMeans, VisibleVoxels, block_means, expand_blocks
from descnet3d.energy.langevin import langevin_dynamics
from descnet3d.shapes import blocks, corruptions


def array(tensor):
    return ops.convert_to_numpy(tensor)


@st.composite
def grids(draw):
    ratio = draw(st.integers(1, 3))
    coarse = draw(st.tuples(*[st.integers(1, 3)] * 3))
    return ratio, coarse, tuple(ratio * side for side in coarse), draw(st.integers(0, 2**16))


@settings(max_examples=8, deadline=None)
@given(grids(), st.integers(1, 20), st.floats(0.0, 1.0))
def test_what_is_held_is_exact_after_any_number_of_steps(grid, num_steps, share):
    ratio, coarse, fine, seed = grid
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(2, *fine, 1)).astype("float32")
    visible = generator.random(truth.shape) < share
    start = generator.normal(size=truth.shape).astype("float32")

    def energy(positions):
        return ops.sum(ops.cos(3 * positions) + positions**2, axis=(1, 2, 3, 4))

    for constraint in (VisibleVoxels(truth, visible), BlockMeans(block_means(truth, coarse))):
        positions, _ = langevin_dynamics(
            energy,
            start,
            num_steps=num_steps,
            step_size=0.3,
            seed_generator=keras.random.SeedGenerator(seed),
            projection=constraint.project,
        )
        end = array(positions)
        if isinstance(constraint, VisibleVoxels):
            assert np.array_equal(end[visible], truth[visible])
        else:
            assert np.abs(array(block_means(end, coarse)) - array(constraint.means)).max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(grids())
def test_a_projection_goes_to_the_nearest_point_and_leaves_it(grid):
    ratio, coarse, fine, seed = grid
    generator = np.random.default_rng(seed)
    truth, start = generator.normal(size=(2, 1, *fine, 1)).astype("float32")
    visible = generator.random(truth.shape) < 0.5
    for constraint in (VisibleVoxels(truth, visible), BlockMeans(block_means(truth, coarse))):
        projected = array(constraint.project(start))
        np.testing.assert_allclose(array(constraint.project(projected)), projected, atol=1e-5)
        # The way there is perpendicular to every direction that the constraint leaves free.
        direction = array(constraint.free(generator.normal(size=truth.shape).astype("float32")))
        assert abs(((start - projected) * direction).sum()) < 1e-3
        np.testing.assert_allclose(
            array(constraint.project(projected + direction)), projected + direction, atol=1e-5
        )


def test_block_averages_are_those_of_reshaping_in_numpy():
    fine = np.random.default_rng(0).normal(size=(3, 6, 4, 8, 1)).astype("float32")
    means = fine.reshape(3, 3, 2, 2, 2, 4, 2, 1).mean((2, 4, 6))
    np.testing.assert_allclose(array(block_means(fine, (3, 2, 4))), means, atol=1e-6)
    np.testing.assert_array_equal(array(expand_blocks(means, (6, 4, 8)))[:, ::2, ::2, ::2], means)
    np.testing.assert_array_equal(
        array(expand_blocks(means, (6, 4, 8)))[:, 1::2, 1::2, 1::2], means
    )


def test_langevin_dynamics_among_hidden_voxels_samples_the_conditional_gaussian():
    """p(Y_M | Y_V) of exp(-½ YᵀAY) is N(-A_MM⁻¹ A_MV Y_V, A_MM⁻¹)."""
    generator = np.random.default_rng(3)
    root = generator.normal(size=(8, 8))
    precision = (root @ root.T / 8 + np.eye(8)).astype("float32")
    known, held = np.arange(8) < 3, generator.normal(size=8).astype("float32")
    chains = 6000

    def energy(positions):
        flat = ops.reshape(positions, (-1, 8))
        return 0.5 * ops.sum(flat * ops.matmul(flat, precision), axis=1)

    shape = (chains, 2, 2, 2, 1)
    constraint = VisibleVoxels(
        np.broadcast_to(held.reshape(2, 2, 2, 1), shape),
        np.broadcast_to(known.reshape(2, 2, 2, 1), shape),
    )
    positions, _ = langevin_dynamics(
        energy,
        constraint.project(ops.zeros(shape)),
        num_steps=250,
        step_size=0.25,
        seed_generator=keras.random.SeedGenerator(0),
        projection=constraint.project,
    )
    hidden = array(positions).reshape(chains, 8)[:, ~known]
    inner = precision[np.ix_(~known, ~known)]
    mean = -np.linalg.solve(inner, precision[np.ix_(~known, known)] @ held[known])
    np.testing.assert_allclose(hidden.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(hidden.T), np.linalg.inv(inner), atol=0.06)


@settings(max_examples=40, deadline=None)
@given(grids(), st.floats(0.1, 5.0))
def test_occupancy_with_given_block_averages_has_them_and_is_the_nearest(grid, spread):
    ratio, coarse, fine, seed = grid
    generator = np.random.default_rng(seed)
    wanted = generator.random((2, *coarse)).astype("float32").round(2)  # 0 and 1 among them
    values = generator.normal(0.5, spread, size=(2, *fine))
    found = blocks.with_means(values, wanted)
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(blocks.average(found, ratio), wanted, atol=1e-6)
    # Nothing else that has the averages is nearer: here, the same shifted towards another such.
    other = blocks.with_means(generator.normal(0.5, spread, size=values.shape), wanted)
    between = 0.99 * found + 0.01 * other
    assert ((found - values) ** 2).sum() <= ((between - values) ** 2).sum() + 1e-4


def test_blocks_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match="divides the grid"):
        blocks.average(np.zeros((1, 6, 6, 6)), 4)


# --- Corruptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corruption", "share"),
    [("voxels:0.7", 0.7), ("half", 0.5), ("half:0.25", 0.25), ("block:0.3", 0.3)],
)
def test_a_corruption_hides_its_share_of_the_voxels(corruption, share):
    shapes = np.zeros((20, 16, 16, 16), bool)
    visible = corruptions.visible_voxels(shapes, corruption, np.random.default_rng(0))
    assert 1 - visible.mean() == pytest.approx(share, abs=0.05)
    # Others in every shape, the same with the same seed.
    assert len(np.unique(visible.reshape(20, -1), axis=0)) > 1
    again = corruptions.visible_voxels(shapes, corruption, np.random.default_rng(0))
    assert np.array_equal(visible, again)


def test_a_scan_sees_up_to_the_first_surface_and_nothing_behind_it():
    shapes = np.random.default_rng(0).random((30, 8, 8, 8)) < 0.2
    visible = corruptions.visible_voxels(shapes, "scan", np.random.default_rng(1))
    sides = set()
    for shape, seen in zip(shapes, visible, strict=True):
        fitting = []
        for axis in (0, 1):
            for step in (1, -1):
                rays = np.moveaxis(shape, axis, -1)[..., ::step].reshape(-1, 8)
                eyes = np.moveaxis(seen, axis, -1)[..., ::step].reshape(-1, 8)
                firsts = [list(ray).index(True) if ray.any() else 8 for ray in rays]
                if all(
                    eye[: first + 1].all() and not eye[first + 1 :].any()
                    for eye, first in zip(eyes, firsts, strict=True)
                ):
                    fitting.append((axis, step))
        assert len(fitting) == 1
        sides.add(fitting[0])
    assert len(sides) == 4


@pytest.mark.parametrize("corruption", ["rain", "voxels:2", "voxels:", "voxels:x", "scan:0.5", ""])
def test_a_corruption_that_is_none_is_refused(corruption):
    if corruption == "voxels:":
        assert corruptions.parse(corruption) == ("voxels", 0.7)
        return
    with pytest.raises(ValueError, match="corruption|hide"):
        corruptions.parse(corruption)
