"""The descriptor of surfaces: of no place, beside plain up-scaling, and through its command."""

import keras
import numpy as np
import pytest

import descnet3d
from descnet3d.energy.settings import AnnealingSettings, Denoising
from descnet3d.energy.tasks import Refinement
from descnet3d.evaluation.reconstruction import score, solve, trilinear_upscaling
from descnet3d.models import surface_descriptor
from descnet3d.models.conditional_network import conditional, of_no_place, on_grid
from descnet3d.models.surface_descriptor import SurfaceDescriptor


def small_network(size=8, code=0, **options):
    keras.utils.set_random_seed(0)
    sizes = {"conditions": 1, "width": 12, "context": 8, "hidden": 16, "blocks": 1, "told": 8}
    near = {"cells": 8, "cell_blocks": 1, "voxels": 8, "voxel_blocks": 1, "mirrored": False}
    return conditional(size, patch=4, code=code, observed=True, **{**sizes, **near, **options})


def small_model(size=8, **options):
    options = {"sampling": AnnealingSettings(first_level=10.0, reconstruction_steps=4), **options}
    return SurfaceDescriptor(small_network(size), **options)


@pytest.fixture(scope="module")
def surfaces():
    return descnet3d.load("refinement_modelnet10_32")


def blocks_of_two(rng, count=12, side=8):
    """Boxes with even faces, which their coarser shapes leave no doubt of."""
    shapes = np.zeros((count, side, side, side), np.float32)
    for shape in shapes:
        low = 2 * rng.integers(0, side // 4, 3)
        high = low + 2 * rng.integers(1, side // 4 + 1, 3)
        shape[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return shapes


def test_of_many_shapes_a_part_at_a_time_is_refined(monkeypatch):
    """What is told of them all would not fit into the memory, at 128³."""
    model, coarse = small_model(), blocks_of_two(np.random.default_rng(7))[:5, ::2, ::2, ::2]
    together = model.refine(coarse, seed=3)
    monkeypatch.setattr(surface_descriptor, "_MOST_TOLD", 2 * 8**3)
    apart = model.refine(coarse, seed=3)
    # Those of the first part are of the given seed, and the others of others.
    assert apart.shape == together.shape
    np.testing.assert_array_equal(apart[:2], model.refine(coarse[:2], seed=3))
    repeated = model.refine(coarse[[0, 1, 0, 1]], seed=3)
    assert np.abs(repeated[:2] - repeated[2:]).max() > 0


def test_nothing_in_it_belongs_to_a_place():
    network, side = on_grid(small_network(), 48), 48
    odds = keras.Model(network.inputs, network.get_layer("log_odds").output)
    rng = np.random.default_rng(0)
    some = rng.standard_normal((1, 8, 8, 8, 3)).astype(np.float32)

    def drawn(at):
        seen = np.zeros((1, side, side, side, 3), np.float32)
        seen[:, at : at + 8, at : at + 8, at : at + 8] = some
        shape, observation = seen[..., :1], seen[..., 1:]
        told = np.zeros((1, 1), np.float32), np.full((1, 1), 2.0, np.float32)
        found = odds([shape, *told, observation], training=False)
        return keras.ops.convert_to_numpy(found)[:, at : at + 8, at : at + 8, at : at + 8]

    np.testing.assert_allclose(drawn(16), drawn(24), atol=1e-4)  # by whole patches
    assert np.std(drawn(16)) > 1e-3


def test_a_network_with_a_code_belongs_to_its_grid():
    with pytest.raises(ValueError, match="code=0"):
        on_grid(small_network(code=6), 16)


def test_it_can_begin_with_what_is_known_of_no_place():
    """A network whose code and whose places say nothing is the network of no place itself."""
    known = small_network(code=6, conditions=3, mirrored=True)
    for variable in known.get_layer("code_responses").variables:
        variable.assign(keras.ops.zeros_like(variable))
    for name in ("patch_drive", "drawn"):  # the same bias at each place
        bias = known.get_layer(name).bias
        row = keras.random.normal((1, bias.shape[1]), seed=4)
        bias.assign(keras.ops.repeat(row, bias.shape[0], axis=0))
    free = of_no_place(known, 8)
    rng = np.random.default_rng(0)
    shape, told = rng.standard_normal((2, 8, 8, 8, 1)), rng.standard_normal((2, 8, 8, 8, 2))
    level = np.array([[0.5], [4.0]])

    def odds(network, conditions):
        drawn = keras.Model(network.inputs, network.get_layer("log_odds").output)
        inputs = [shape, np.zeros((2, conditions)), level, told]
        found = drawn([each.astype(np.float32) for each in inputs], training=False)
        return keras.ops.convert_to_numpy(found)

    np.testing.assert_allclose(odds(free, 1), odds(known, 3), atol=1e-5)
    assert np.std(odds(free, 1)) > 1e-3


def test_it_learns_that_blocks_are_full():
    """Of boxes with even faces a coarser shape says all: what is learned is to repeat it."""
    rng = np.random.default_rng(1)
    model = small_model()
    shapes = blocks_of_two(rng, 64)
    optimizer = keras.optimizers.Adam(5e-3, global_clipnorm=1.0)
    model.compile(optimizer, denoising=Denoising(level_median=5.0))
    history = model.fit(shapes, epochs=25, verbose=0).history["cross_entropy"]
    assert history[-1] < 0.25 * history[0]
    truth = blocks_of_two(rng)
    # A hole in a full block is unlikely.
    holed = truth.copy()
    for shape in holed:
        shape[tuple(np.argwhere(shape)[0])] = 0
    assert (model.energy(holed) > model.energy(truth)).mean() > 0.8
    found = model.refine(truth[:, ::2, ::2, ::2], seed=0) > 0.5
    both, either = (found & (truth > 0)).sum(), (found | (truth > 0)).sum()
    assert both / either > 0.9
    # The same weights on a grid twice as fine, of which it has seen none.
    twice = model.refine(truth[:, ::2, ::2, ::2], 16, seed=0) > 0.5
    exact = np.repeat(np.repeat(np.repeat(truth, 2, 1), 2, 2), 2, 3) > 0
    assert (twice & exact).sum() / (twice | exact).sum() > 0.8


def test_what_it_learns_is_what_it_refines_by_next():
    model = small_model()
    coarse = blocks_of_two(np.random.default_rng(2))[:2, ::2, ::2, ::2]
    shapes, found = blocks_of_two(np.random.default_rng(3)), [model.refine(coarse, seed=0)]
    for _ in range(2):
        model.fit(shapes, epochs=2, verbose=0)
        found.append(model.refine(coarse, seed=0))
        assert np.abs(found[-1] - found[-2]).max() > 0


def test_the_same_seed_gives_the_same_shapes_and_a_preset_keeps_them(tmp_path):
    model = small_model()
    coarse = blocks_of_two(np.random.default_rng(4))[:3, ::2, ::2, ::2]
    np.testing.assert_array_equal(model.refine(coarse, seed=5), model.refine(coarse, seed=5))
    assert np.abs(model.refine(coarse, seed=5) - model.refine(coarse, seed=6)).max() > 0
    model.save_preset(tmp_path / "own", weights_dtype="float32", category="boxes")
    kept = descnet3d.load(tmp_path / "own")
    assert isinstance(kept, SurfaceDescriptor)
    np.testing.assert_array_equal(kept.refine(coarse, seed=5), model.refine(coarse, seed=5))


@pytest.mark.parametrize(
    ("grid", "asked", "said"),
    [
        ((8, 8, 8), {"size": 24}, "size must be 16, 32 or another doubling"),
        ((8, 8, 8), {"size": 8}, "size must be 16"),
        ((8, 8, 8), {"block_share": 0.0}, "block_share must lie in"),
        ((8, 8, 8), {"batch_size": 0}, "batch_size"),
        ((8, 8, 8), {"strength": -1.0}, "strength must be 0 or more"),
        ((8, 8, 6), {}, "cubic grid"),
        ((5, 5, 5), {}, "multiple of 2"),
    ],
)
def test_refuses_what_it_cannot_refine(grid, asked, said):
    with pytest.raises(ValueError, match=said):
        small_model().refine(np.zeros((1, *grid)), **asked)


def test_told_strongly_enough_a_shape_stays_as_it_is():
    coarse = blocks_of_two(np.random.default_rng(6))[:2, ::2, ::2, ::2]
    found = small_model().refine(coarse, seed=0, strength=40.0) > 0.5
    np.testing.assert_array_equal(found, np.kron(coarse, np.ones((1, 2, 2, 2))) > 0.5)


def test_nothing_floats_where_all_around_is_empty():
    coarse = np.zeros((1, 12, 12, 12), np.float32)
    coarse[:, 1:5, 1:5, 1:5] = 1
    found = small_model().refine(coarse, seed=0, strength=0.0)[0]
    assert found.max() > 0  # an untrained network draws what it likes
    far = np.ones((24,) * 3, bool)
    far[:12, :12, :12] = False  # a block away from what is occupied
    assert found[far].max() == 0
    assert found[4:8, 4:8, 4:8].min() == 1  # the inner blocks


def test_refuses_networks_that_are_told_nothing_or_belong_to_a_grid():
    with pytest.raises(ValueError, match="code=0"):
        SurfaceDescriptor(small_network(code=6))
    with pytest.raises(ValueError, match="observed=True"):
        SurfaceDescriptor(conditional(8, conditions=1, code=0, mirrored=False))
    with pytest.raises(ValueError, match='must be "odds"'):
        small_model().compile(denoising=Denoising(learns="energy"))


@pytest.mark.slow
def test_it_is_nearer_to_the_truth_than_upscaling(surfaces, modelnet10):
    from descnet3d.datasets.archives import read_archive

    archive = read_archive(modelnet10)
    for category, share in (("chair", 0.125), ("table", 0.5)):
        own = archive.is_test & (archive.labels == archive.classes.index(category))
        shapes, condition = archive.occupancy[own][:12], Refinement(share)
        problem = condition.pose(shapes)
        ours = score(solve(surfaces, condition, problem), problem).iou
        assert ours > score(trilinear_upscaling(problem, shapes), problem).iou
