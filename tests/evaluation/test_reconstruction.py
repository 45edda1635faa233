"""Recovery and super-resolution: the same dynamics under a projection, trained and measured."""

from dataclasses import dataclass
from typing import Annotated

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage
from told_odds import told_odds_model

from descnet3d.datasets.archives import VoxelArchive
from descnet3d.energy.constraints import VisibleVoxels
from descnet3d.energy.settings import EquilibriumMatching, LangevinSettings, MaximumLikelihood
from descnet3d.energy.tasks import (
    TASKS,
    Condition,
    Problem,
    Recovery,
    SuperResolution,
    Task,
    condition_of,
)
from descnet3d.evaluation import reconstruction
from descnet3d.models import networks
from descnet3d.models.batches import VoxelBatches
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.shapes import blocks

SIZE = 8
CONDITIONS = [Recovery("voxels:0.7"), SuperResolution(2)]


def boxes(count, seed=0):
    """Boxes of different heights standing on the floor of a grid."""
    generator = np.random.default_rng(seed)
    shapes = np.zeros((count, SIZE, SIZE, SIZE), np.float32)
    for shape, height in zip(shapes, generator.integers(2, 7, count), strict=True):
        shape[2:6, 2:6, :height] = 1
    return shapes


def small_model(**arguments):
    keras.utils.set_random_seed(0)
    network = networks.base(SIZE, patch=4, width=16, context=8, hidden=16, channels=4, code=16)
    sampling = LangevinSettings(30, 0.0866, 0.0, 0.0, 1)
    return DescriptorNet(network, **{"voxel_mean": 0.5, "sampling": sampling, **arguments})


@pytest.mark.parametrize("task", CONDITIONS)
def test_a_descriptor_learns_to_find_what_is_hidden(task):
    model = small_model()
    problem = task.pose(boxes(16, seed=9), seed=1)
    untrained = reconstruction.score(reconstruction.solve(model, task, problem), problem)
    optimizer = keras.optimizers.Adam(3e-3, global_clipnorm=2.0)
    model.compile(optimizer, matching=EquilibriumMatching(least_noise=0.5), task=task)
    model.fit(boxes(48), epochs=30, verbose=0)
    trained = reconstruction.score(reconstruction.solve(model, task, problem), problem)
    assert trained.absolute_error < 0.2 * untrained.absolute_error
    assert trained.iou > max(untrained.iou, 0.8)


@pytest.mark.parametrize("task", CONDITIONS)
def test_maximum_likelihood_trains_a_task_with_the_same_trainer(task):
    model = small_model()
    likelihood = MaximumLikelihood(0.1, LangevinSettings(5, 0.0866, 0.0, 0.0))
    optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, global_clipnorm=1.0)
    model.compile(optimizer, likelihood=likelihood, task=task)
    history = model.fit(boxes(16), epochs=15, verbose=0).history
    assert model.chains is None  # they start from what is known of each batch
    assert history["reconstruction_error"][-1] < history["reconstruction_error"][0]


def test_what_is_known_comes_back_untouched():
    model = small_model(sampling=LangevinSettings(12, 0.2, 1.0, 0.5, 3))
    shapes = np.random.default_rng(0).random((5, SIZE, SIZE, SIZE)).astype("float32")
    visible = np.random.default_rng(1).random(shapes.shape) < 0.3
    found = model.recover(shapes, visible, seed=0, batch_size=2)
    assert np.array_equal(found[visible], shapes[visible])
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(found, model.recover(shapes, visible, seed=0, batch_size=2))
    # What hidden voxels hold doesn't matter.
    np.testing.assert_array_equal(
        found, model.recover(np.where(visible, shapes, 1.0), visible, seed=0, batch_size=2)
    )

    coarse = blocks.average(shapes, 2)
    fine = model.super_resolve(coarse, seed=0, batch_size=2)
    np.testing.assert_allclose(blocks.average(fine, 2), coarse, atol=1e-6)
    assert fine.min() >= 0 and fine.max() <= 1 and not np.array_equal(fine, shapes)


@pytest.mark.parametrize(
    ("visible", "complaint"),
    [
        (np.ones((2, SIZE, SIZE), bool), "visible must have the shape"),
        (np.full((2, SIZE, SIZE, SIZE), 0.5), "True or False"),
        (np.full((2, SIZE, SIZE, SIZE), "x"), "True or False"),
    ],
)
def test_a_mask_that_is_none_is_refused(visible, complaint):
    with pytest.raises(ValueError, match=complaint):
        small_model().recover(boxes(2), visible)


@pytest.mark.parametrize("grid", [(3, 3, 3), (4, 4, 2), (16, 16, 16)])
def test_coarse_shapes_that_do_not_divide_the_grid_are_refused(grid):
    with pytest.raises(ValueError, match="coarse must have grids"):
        small_model().super_resolve(np.zeros((1, *grid)))


def test_recovery_is_trained_on_batches_that_say_what_is_visible():
    model = small_model()
    model.compile(matching=EquilibriumMatching(), task=Recovery("half"))
    batches = VoxelBatches(boxes(8), 4, corruption="half")
    first, again = batches[0], batches[0]
    assert np.array_equal(first["visible"], again["visible"])
    batches.epoch = 1
    assert not np.array_equal(first["visible"], batches[0]["visible"])
    model.fit(batches, verbose=0)
    with pytest.raises(ValueError, match="which voxels are visible"):
        model.fit(VoxelBatches(boxes(8), 4), verbose=0)


def test_shapes_may_come_with_labels_or_by_name():
    model = small_model()
    model.compile(matching=EquilibriumMatching())

    class Labelled(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            shapes = boxes(4).astype(bool)
            return (shapes, np.zeros(4)) if self.by_position else {"occupancy": shapes}

    for by_position in (True, False):
        data = Labelled()
        data.by_position = by_position
        assert np.isfinite(model.fit(data, verbose=0).history["matching_loss"][0])


def test_a_recipe_names_its_task():
    assert condition_of({"task": "recovery", "corruption": "block"}) == Recovery("block")
    assert condition_of({"task": "super_resolution", "ratio": 8}) == SuperResolution(8)
    assert condition_of({"task": "synthesis"}) is None is condition_of({})
    for wrong in (0, 1, 2.0):
        with pytest.raises(ValueError, match="ratio"):
            SuperResolution(wrong)


@dataclass(frozen=True)
class Side(Condition):
    """A task that there is not yet: one side of a shape is known."""

    share: Annotated[float, "how much of the width is known"] = 0.25

    def visible(self, shape):
        return np.arange(SIZE)[:, None, None] < np.full(shape, self.share * SIZE)

    def constraint(self, observed, visible):
        mask = self.visible((SIZE,) * 3)[None, ..., None]
        return VisibleVoxels(observed, ops.logical_and(mask, ops.ones_like(observed, "bool")))

    def pose(self, truth, seed=0):
        visible = self.visible(truth.shape)
        return Problem(truth, np.where(visible, truth, 0.0), ~visible)

    def solve(self, model, problem, **options):
        return model.recover(problem.known, ~problem.hidden, **options)


def test_a_task_is_trained_and_measured_once_it_is_described(monkeypatch):
    baselines = ("mean training shape",)
    task = Task("completion", "completion", "", "", "", condition=Side, baselines=baselines)
    monkeypatch.setitem(TASKS, task.name, task)
    condition = condition_of({"task": "completion", "share": 0.375, "ratio": 4})
    assert condition == Side(0.375)
    model = small_model()
    optimizer = keras.optimizers.Adam(3e-3, global_clipnorm=2.0)
    model.compile(optimizer, matching=EquilibriumMatching(least_noise=0.5), task=condition)
    model.fit(boxes(48), epochs=30, verbose=0)
    is_test = np.arange(64) >= 48
    labels, ids = np.zeros(64, int), tuple(map(str, range(64)))
    archive = VoxelArchive(boxes(64) > 0.5, labels, ("box",), is_test, ids)
    rows = reconstruction.evaluate_reconstruction(model, condition, archive, "box")
    own, mean = rows["this model"], rows["mean training shape"]
    assert list(rows) == ["this model", *baselines] and own.shapes == 16
    assert own.absolute_error < 0.5 * mean.absolute_error


# --- The measurements -----------------------------------------------------------------------------


def test_scores_are_those_of_counting_by_hand():
    truth = np.zeros((1, 2, 2, 2), np.float32)
    truth[0, 0] = 1
    hidden = np.ones(truth.shape, bool)
    hidden[0, 0, 0, 0] = False
    problem = Problem(truth, truth * ~hidden, hidden)
    found = truth.copy()
    found[0, 0, 0, 1], found[0, 1, 0, 0] = 0.2, 0.6
    scores = reconstruction.score(found, problem)
    assert scores.absolute_error == pytest.approx((0.8 + 0.6) / 7)
    assert scores.squared_error == pytest.approx((0.64 + 0.36) / 7)
    assert scores.iou == pytest.approx(2 / 4)


def test_the_nearest_training_shape_is_found_by_comparing_them_all():
    training, test = boxes(12, seed=1), boxes(5, seed=2)
    test += 0.0
    for task in CONDITIONS:
        problem = task.pose(test, seed=3)
        found = reconstruction.nearest_training_shape(problem, training)
        for row in range(5):
            if problem.coarse is None:
                known = ~problem.hidden[row]
                distances = [np.abs(one - test[row])[known].sum() for one in training]
            else:
                coarse = blocks.average(training, 2)
                distances = [((one - problem.coarse[row]) ** 2).sum() for one in coarse]
            best = training[np.argmin(distances)]
            assert np.array_equal(found[row][problem.hidden[row]], best[problem.hidden[row]])


def test_baselines_leave_what_is_known_and_trilinear_is_trilinear():
    training, test = boxes(12, seed=1), boxes(3, seed=2)
    problem = CONDITIONS[0].pose(test)
    mean = reconstruction.mean_shape(problem, training)
    assert np.array_equal(mean[~problem.hidden], test[~problem.hidden])
    np.testing.assert_allclose(mean[0][problem.hidden[0]], training.mean(0)[problem.hidden[0]])

    problem = CONDITIONS[1].pose(test)
    assert problem.coarse is not None
    fine = reconstruction.trilinear_upscaling(problem, training)
    centres = (np.indices((SIZE,) * 3) + 0.5) / 2 - 0.5
    expected = ndimage.map_coordinates(problem.coarse[0], centres, order=1, mode="nearest")
    np.testing.assert_allclose(fine[0], expected, atol=1e-6)
    nearest = reconstruction.nearest_upscaling(problem, training)
    np.testing.assert_allclose(blocks.average(nearest, 2), problem.coarse, atol=1e-6)


def test_the_best_of_several_is_the_one_with_the_highest_iou():
    problem = Recovery("half").pose(boxes(5), seed=2)
    noise = np.random.default_rng(0).random((5, 4, SIZE, SIZE, SIZE)) < 0.2
    samples = np.abs(problem.truth[:, None] - noise).astype(np.float32)
    best = reconstruction.best_of(samples, problem)
    for row in range(5):
        one = Problem(
            problem.truth[row : row + 1],
            problem.known[row : row + 1],
            problem.hidden[row : row + 1],
        )
        ious = [reconstruction.score(samples[row, k][None], one).iou for k in range(4)]
        assert reconstruction.score(best[row : row + 1], one).iou == pytest.approx(max(ious))


def test_a_model_of_several_categories_is_told_each_in_turn():
    model, _ = told_odds_model(observed=True, reconstruction_steps=4)
    generator = np.random.default_rng(0)
    shapes = (generator.random((12, *model.grid)) < 0.4).astype(np.float32)
    is_test, ids = np.tile([True, False, True], 4), tuple("abcdefghijkl")
    archive = VoxelArchive(shapes > 0.5, np.repeat([0, 1], 6), model.classes, is_test, ids)
    condition = Recovery("half")
    whole = reconstruction.evaluate_reconstruction(model, condition, archive, None, seed=3)
    parts = [
        reconstruction.evaluate_reconstruction(
            model.bound_to(name), condition, archive, name, seed=3
        )
        for name in model.classes
    ]
    assert set(whole) == {"this model", "mean training shape", "nearest training shape"}
    for row, scores in whole.items():
        assert scores.shapes == sum(part[row].shapes for part in parts) == 8
        mean = np.mean([part[row].iou for part in parts])  # of as many shapes each
        assert scores.iou == pytest.approx(mean)
    assert parts[0]["this model"] != parts[1]["this model"]


def test_a_model_that_knows_no_categories_is_asked_for_all_as_it_is():
    shapes, is_test = boxes(12), np.tile([True, False, True], 4)
    archive = VoxelArchive(
        shapes > 0.5, np.repeat([0, 1], 6), ("low", "high"), is_test, tuple("abcdefghijkl")
    )
    model = small_model()
    whole = reconstruction.evaluate_reconstruction(model, CONDITIONS[0], archive, None, seed=3)
    parts = [
        reconstruction.evaluate_reconstruction(model, CONDITIONS[0], archive, name, seed=3)
        for name in archive.classes
    ]
    mean = np.mean([part["this model"].iou for part in parts])
    assert whole["this model"].shapes == 8 and whole["this model"].iou == pytest.approx(mean)
