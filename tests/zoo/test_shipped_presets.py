"""The presets that are shipped, held to what their cards say of them."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from descnet3d.datasets.archives import read_archive
from descnet3d.energy.tasks import condition_of, task_of
from descnet3d.evaluation import classification, reconstruction, shape_distances
from descnet3d.evaluation.synthesis import Reference, evaluate_synthesis, score_shapes
from descnet3d.models import preset_config
from descnet3d.zoo import presets

SHIPPED = [preset.id for preset in presets.list_presets()]
TEN, TEN_TOLD = "synthesis_modelnet10_32", "recovery_modelnet10_32"
# What the real test shapes of the archive reach themselves (share and IoU of the nearest training
# shape), and the shares of it that a synthesis preset must reach.
SHARE_FLOOR, IOU_FLOOR = 0.95, 0.75
# What shapes of ten categories must reach together of the IoU on their cards, and their largest
# pieces.
IOU_OF_CARD, PIECE_FLOOR = 0.85, 0.9


def named(*beginnings):
    """The presets of one category whose ids begin so; two of them for the second backend.

    What a preset reaches is in its weights; other tests compare the backends' trajectories.
    """
    found = [name for name in SHIPPED if name.startswith(beginnings) and "modelnet10" not in name]
    return [
        pytest.param(name, marks=[pytest.mark.one_backend] if index > 1 else [])
        for index, name in enumerate(found)
    ]


def test_the_first_presets_are_there():
    assert {"synthesis_toilet_32", "synthesis_sofa_32", "langevin_toilet_32"} <= set(SHIPPED)


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    """A preset, and its model: loaded once for the tests of all presets."""
    [preset] = [preset for preset in presets.list_presets() if preset.id == request.param]
    return preset, presets.load(request.param)


def test_a_preset_is_small_described_and_whole(shipped):
    preset, model = shipped
    assert sum(part.count_params() for part in model.parts.values()) == preset.parameters
    weights = preset.path / "weights.npz"
    if "weights" in model.preset:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert model.preset["weights"]["sha256"] == digest
        # Cooperative and annealed presets hold two networks, features a regression beside theirs.
        larger = {"cooperative": 6_500_000, "features": 6_500_000}
        limit = 10_000_000 if len(model.parts) == 2 else 5_000_000
        assert weights.stat().st_size < larger.get(preset.task, limit)
        assert (preset.path / "recipe.flags").exists()
    else:  # it binds another one's to a category
        assert not weights.exists() and model.category == preset.category
    card = (preset.path / "card.md").read_text()
    for name, value in preset.scores.items():
        assert f"{value:.4g}" in card, name
    assert (preset.path / "sheet.png").exists()


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_preset_has_the_energies_that_it_always_had(shipped):
    """Of two shapes of noise: energies or, of a classifier, probabilities.

    On one machine they are the same bit for bit; another's rounding differs by less than 1e-5, of
    energies relative to them.
    """
    recorded = json.loads((Path(__file__).parent / "shipped_energies.json").read_text())
    assert set(recorded) == set(SHIPPED)
    preset, model = shipped
    noise = np.random.default_rng(zlib.crc32(preset.id.encode()))
    shapes = (noise.random((2, *model.grid)) < 0.1).astype("float32")
    found = model.energy(shapes) if hasattr(model, "energy") else model.probabilities(shapes)
    np.testing.assert_allclose(np.ravel(found), recorded[preset.id], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.parametrize("name", named("langevin_"))
def test_a_synthesis_preset_reaches_its_figures_from_fresh_noise(name, modelnet10):
    model = presets.load(name)
    archive = read_archive(modelnet10)
    # Another seed than the card's: the figures are the model's, not the seed's.
    reference = Reference(archive, model.preset["category"])
    scores, real = evaluate_synthesis(model, reference, num=32, seed=1)
    assert scores.empty == 0 and scores.alike == 0
    assert abs(scores.occupancy_ratio - 1) < 0.15
    assert scores.nearest_share >= SHARE_FLOOR * real.nearest_share
    assert scores.nearest_iou >= IOU_FLOOR * real.nearest_iou
    assert scores.copies <= 0.05


@pytest.mark.slow
@pytest.mark.one_backend
def test_presets_bound_to_a_category_make_shapes_of_it(modelnet10):
    archive, num = read_archive(modelnet10), 2
    hits, shares, ious, pieces = 0, [], [], []
    every = presets.load(TEN)  # whose graphs are traced once: bound to a category it is the same
    for seed, name in enumerate(name for name in SHIPPED if name.startswith("synthesis_")):
        config = preset_config.read_config(presets.find(name))
        category, card = config["category"], config["scores"]
        if name == TEN:
            continue
        bound = {"class": "BoundToCategory", "shares": TEN, "category": category}
        assert config["model"] == bound, name
        shapes = every.synthesize(num, category=category, seed=100 + seed)
        made = score_shapes(shapes, Reference(archive, category))
        assert made.alike == 0, name
        hits += round(num * made.nearest_share)
        shares += [card["nearest_share"]] * num
        ious.append(made.nearest_iou / card["nearest_iou"])
        pieces.append(made.largest_piece)
    # The cards are true of all together, but for the chance of so few shapes.
    chance = np.sqrt(sum(share * (1 - share) for share in shares))
    assert len(ious) == 10
    assert hits >= sum(shares) - 3 * chance
    assert np.mean(ious) > IOU_OF_CARD and np.mean(pieces) > PIECE_FLOOR


@pytest.fixture(scope="module")
def of_ten():
    """The network that presets of tasks bind to a category: its graphs are traced once for all."""
    return presets.load(TEN_TOLD)


@pytest.mark.slow
@pytest.mark.parametrize("name", named("recovery_", "superres_"))
def test_a_preset_of_a_task_is_ahead_of_every_baseline(name, of_ten, data_folder):
    config, told = preset_config.read_config(presets.find(name)), {}
    if "shares" in config["model"]:  # bound to a category it is the same
        bound = {"class": "BoundToCategory", "shares": TEN_TOLD, "category": config["category"]}
        assert config["model"] == bound
        model, told, recipe = of_ten, {"category": config["category"]}, config["recipe"]
    else:
        model = presets.load(name)
        recipe = model.preset["recipe"]
    category, side = config["category"], model.grid[0]
    file = "modelnet10_32.npz" if side == 32 else f"modelnet10_{category}_{side}.npz"
    archive = read_archive(data_folder / file, category)
    # Another seed than the card's, and a part of the test shapes for the time it takes.
    shown = archive.occupancy[archive.is_test][: 8 if side == 32 else 2]
    training = archive.occupancy[~archive.is_test]
    condition = condition_of(recipe)
    problem = condition.pose(shown, seed=1)
    own = reconstruction.score(condition.solve(model, problem, seed=1, **told), problem)
    for name in task_of(condition).baselines:
        other = reconstruction.score(reconstruction.BASELINES[name](problem, training), problem)
        assert own.absolute_error < other.absolute_error and own.iou > other.iou


@pytest.mark.slow
def test_a_cooperative_preset_generates_revises_and_encodes(modelnet10):
    model = presets.load("chair", task="cooperative")
    archive = read_archive(modelnet10)
    reference = Reference(archive, "chair")
    real = reference.test[:8]
    generated, revised = model.generate(20, seed=1), model.synthesize(20, seed=1)
    assert model.energy(revised).mean() < model.energy(generated).mean()
    scores = score_shapes(revised, reference)
    assert scores.nearest_share >= 0.8 * model.preset["real_scores"]["nearest_share"]
    assert scores.empty == 0 and scores.alike == 0 and scores.copies <= 0.05
    # Held-out shapes are found again, and the way between two of them is no leap.
    latents = model.encode(real, num_steps=40)
    overlap = shape_distances.intersection_over_union(model.generate(latents=latents), real)
    others = overlap[~np.eye(len(real), dtype=bool)].mean()
    assert overlap.diagonal().mean() > (1 + others) / 2
    path = model.interpolate(latents[0], latents[1], steps=9)
    steps = shape_distances.intersection_over_union(path, path).diagonal(offset=1)
    assert steps.min() > 0.4 and (path.max(axis=(1, 2, 3)) > 0.5).all()


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.parametrize(
    "name", [name for name in SHIPPED if "modelnet10" in name and "refinement" not in name]
)
def test_a_preset_of_all_categories_is_what_its_card_says(name, modelnet10):
    model = presets.load(name)
    archive = read_archive(modelnet10)
    expected = model.preset["scores"]
    if "accuracy" in expected:
        test = archive.occupancy[archive.is_test], archive.labels[archive.is_test]
        scores = classification.evaluate_classifier(model, archive)
        found = model.probabilities(test[0]).argmax(axis=1)
        assert scores.accuracy == (found == test[1]).mean()
        assert scores.accuracy == pytest.approx(expected["accuracy"], abs=0.004)
        return
    classifier = presets.reference_classifier(archive.classes, model.grid)
    shapes = model.synthesize(8, seed=1)
    # Between categories there may be nothing.
    assert (shapes > 0.5).any(axis=(1, 2, 3)).mean() > 0.8
    # Eight shapes are of several categories.
    assert len(set(classifier.probabilities(shapes).argmax(axis=1))) >= 3


@pytest.mark.slow
@pytest.mark.one_backend
def test_different_seeds_give_different_toilets():
    model = presets.load("toilet")
    first, second = (model.synthesize(1, seed=seed) for seed in (10, 11))
    assert shape_distances.intersection_over_union(first, second).max() < 0.95
    assert np.array_equal(first, model.synthesize(1, seed=10))
