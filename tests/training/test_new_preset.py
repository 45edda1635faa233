"""From real shapes to a preset: the command line's own path."""

import json

import numpy as np
import pytest
from archive_rows import rows_of
from PIL import Image

from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation.preset import evaluate_preset
from descnet3d.files import OutputError
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.models.preset_config import PresetError
from descnet3d.training.new_preset import train_preset
from descnet3d.training.recipes import RECIPES
from descnet3d.zoo import cards, presets

QUICK = RECIPES["base"].changed(
    matching_steps=4, likelihood_steps=2, langevin_steps=2, sampling_steps=4
)


@pytest.fixture(scope="module")
def trained(modelnet10, tmp_path_factory):
    """A preset of the first sixteen training toilets, hardly trained."""
    folder = tmp_path_factory.mktemp("landing") / "toilets"
    shapes = read_archive(modelnet10, "toilet", "train").occupancy[:16]
    train_preset(shapes, QUICK, folder, category="toilet")
    return folder


@pytest.mark.slow
def test_a_run_leaves_a_preset_that_loads_and_synthesises(trained):
    model = presets.load(trained)
    shapes = model.synthesize(3, seed=0)
    assert shapes.shape == (3, 32, 32, 32)
    assert model.preset["id"] == "synthesis_toilet_32"
    assert Image.open(trained / "sheet.png").size[0] > 400
    assert not list((trained / "training").glob("*.npz"))
    with pytest.raises(OutputError, match="finished preset"):
        train_preset(shapes, QUICK, trained)


@pytest.mark.slow
@pytest.mark.one_backend
def test_the_logs_are_read_by_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for phase, metric in (("matching", "matching_loss"), ("likelihood", "value")):
        (folder,) = (trained / "training" / "tensorboard" / phase).iterdir()
        events = EventAccumulator(str(folder)).Reload()
        assert f"epoch_{metric}" in events.Tags()["tensors"]


@pytest.mark.slow
def test_evaluation_writes_the_figures_that_it_prints(trained, modelnet10):
    archive = read_archive(modelnet10)
    table = evaluate_preset(trained, archive, num=4, write=True).printed
    scores = json.loads((trained / "config.json").read_text())["scores"]
    assert f"{scores['nearest_iou']:.4g}" in table
    card = (trained / "card.md").read_text()
    assert "--num=4 --seed=0" in card and f"{scores['nearest_iou']:.4g}" in card
    # The real test shapes' own figures, as the project's plan states them for this archive.
    assert "0.97" in table and "0.836" in table


@pytest.mark.slow
@pytest.mark.parametrize("task", ["recovery", "super_resolution"])
def test_a_task_is_trained_evaluated_and_told_of_in_the_card(task, modelnet10, tmp_path):
    archive = read_archive(modelnet10, "toilet")
    few = np.flatnonzero(archive.is_test)[:6], np.flatnonzero(~archive.is_test)[:16]
    rows = np.concatenate(few)
    archive = rows_of(archive, rows)
    recipe = RECIPES[task].changed(matching_steps=4, sampling_steps=6)
    folder = tmp_path / "toilets"
    train_preset(archive.occupancy[6:], recipe, folder, category="toilet")
    assert "Not evaluated yet" in (folder / "card.md").read_text()
    table = evaluate_preset(folder, archive, write=True).printed
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == task
    card = (folder / "card.md").read_text()
    for figures in (config["scores"], *config["baselines"].values()):
        assert f"{figures['absolute_error']:.4g}" in table and f"{figures['iou']:.4g}" in card
    assert len(config["baselines"]) == (2 if task == "recovery" else 3)
    # The same problems are posed to a model of another task, and nothing is written then.
    with pytest.raises(ValueError, match="own task"):
        evaluate_preset(folder, archive, task=None, write=True)
    # Fine-tuning goes on with the task.
    model = presets.load(folder)
    model.fit(archive.occupancy[6:], epochs=1, verbose=0)
    assert type(model.task).__name__.lower() == task.replace("_", "")


@pytest.mark.slow
@pytest.mark.one_backend
def test_surfaces_are_trained_evaluated_and_gone_on_with(modelnet10, tmp_path):
    archive = read_archive(modelnet10, "toilet")
    few = np.flatnonzero(archive.is_test)[:2], np.flatnonzero(~archive.is_test)[:8]
    archive = rows_of(archive, np.concatenate(few))
    archive = archive._replace(occupancy=archive.occupancy[:, ::2, ::2, ::2])
    recipe = RECIPES["surfaces"].changed(denoising_steps=2, annealing_reconstruction_steps=2)
    first, second = tmp_path / "first", tmp_path / "second"
    train_preset(archive.occupancy[2:], recipe, first, category="toilet")
    table = evaluate_preset(first, archive, write=True).printed
    scores = json.loads((first / "config.json").read_text())["scores"]
    assert f"{scores['iou']:.4g}" in table and "twice as fine" in (first / "card.md").read_text()
    with pytest.raises(ValueError, match="cannot be asked for synthesis"):
        evaluate_preset(first, archive, task=None)
    # A run without iterations to speak of begins with what the other one has learned.
    still = recipe.changed(start=str(first), denoising_steps=1, denoising_learning_rate=1e-12)
    train_preset(archive.occupancy[2:], still, second, category="toilet")
    coarse = archive.occupancy[:2, ::2, ::2, ::2]
    found = [presets.load(folder).refine(coarse, seed=0) for folder in (first, second)]
    np.testing.assert_allclose(*found, atol=2e-2)  # float16 weights, rounded twice
    with pytest.raises(ValueError, match="surfaces begin with an annealed descriptor"):
        train_preset(
            archive.occupancy[2:], still.changed(start="classifier_modelnet10_32"), tmp_path / "no"
        )


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_generator_is_taught_evaluated_and_told_of_in_the_card(modelnet10, tmp_path):
    recipe = RECIPES["cooperative"].changed(
        start="langevin_toilet_32",
        generator_latents=5,
        generator_steps=4,
        cooperation_steps=2,
        batch_size=4,
        chains_per_step=2,
        langevin_steps=2,
        sampling_steps=2,
    )
    shapes = read_archive(modelnet10, "toilet", "train").occupancy[:8]
    folder = tmp_path / "toilets"
    train_preset(shapes, recipe, folder, category="toilet")
    archive = read_archive(modelnet10)
    own = archive.labels == archive.classes.index("toilet")
    few = [np.flatnonzero(own & archive.is_test)[:8], np.flatnonzero(~archive.is_test)[::20]]
    archive = rows_of(archive, np.concatenate(few))
    table = evaluate_preset(folder, archive, num=4, write=True).printed
    config = json.loads((folder / "config.json").read_text())
    assert config["id"] == "cooperative_toilet_32" and config["model"]["class"] == "CooperativeNet"
    assert len(list((folder / "training" / "tensorboard").iterdir())) == 2
    card = (folder / "card.md").read_text()
    for scores in ("scores", "generator_scores", "real_scores"):
        assert f"{config[scores]['nearest_iou']:.4g}" in table
        assert f"{config[scores]['nearest_iou']:.4g}" in card
    assert f"{config['latent_scores']['encoded_iou']:.4g}" in table and "latents" in card
    assert Image.open(folder / "sheet.png").size[0] == 9 * 256
    model = presets.load(folder)
    history = model.fit(shapes, batch_size=4, epochs=1, verbose=0)  # fine-tuning teaches on
    assert "regression_error" in history.history and "matching_loss" in history.history


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_classifier_is_trained_evaluated_and_told_of_in_the_card(modelnet10, tmp_path):
    archive = read_archive(modelnet10)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~archive.is_test))[:64]
    recipe, folder = RECIPES["classifier"].changed(classifier_steps=8), tmp_path / "classifier"
    train_preset(
        archive.occupancy[rows],
        recipe,
        folder,
        name="classifier_modelnet10_32",
        labels=archive.labels[rows],
        classes=archive.classes,
    )
    model = presets.load(folder)
    assert model.classes == archive.classes and model.preset["category"] == "modelnet10"
    archive = rows_of(archive, np.arange(0, len(archive.labels), 8))
    table = evaluate_preset(folder, archive, write=True).printed
    scores = json.loads((folder / "config.json").read_text())["scores"]
    test = archive.occupancy[archive.is_test], archive.labels[archive.is_test]
    assert scores["accuracy"] == model.accuracy(*test)
    assert f"{scores['accuracy']:.4g}" in table
    assert f"{scores['accuracy']:.4g}" in (folder / "card.md").read_text()
    assert Image.open(folder / "sheet.png").size[0] > 400
    with pytest.raises(ValueError, match="descriptor is needed"):
        presets.load_descriptor(folder)
    with pytest.raises(ValueError, match="cannot be asked"):
        evaluate_preset(folder, archive, task=None)


@pytest.mark.slow
@pytest.mark.one_backend
def test_features_are_judged_by_a_regression_and_told_of_in_the_card(modelnet10, tmp_path):
    archive = read_archive(modelnet10)
    few = rows_of(archive, np.random.default_rng(0).permutation(len(archive.labels))[:120])
    recipe = RECIPES["features"].changed(start="langevin_toilet_32", denoising_steps=0)
    trained, folder = ~few.is_test, tmp_path / "features"
    with pytest.raises(ValueError, match="labels of at least two categories"):
        train_preset(few.occupancy, recipe, folder)
    train_preset(
        few.occupancy[trained],
        recipe,
        folder,
        name="features_modelnet10_32",
        labels=few.labels[trained],
        classes=few.classes,
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == "features" and config["category"] == "modelnet10"
    assert all(0 < accuracy < 1 for accuracy in config["validation"].values())
    found = evaluate_preset(folder, few, write=True)
    # The network is the one that it started from: so are its responses, and the figures follow.
    start = FeatureClassifier(presets.load("langevin_toilet_32"))
    start.fit(few.occupancy[trained], few.labels[trained], few.classes)
    accuracy = start.score(few.occupancy[few.is_test], few.labels[few.is_test])
    assert found.measured["scores"]["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert "in 4³ regions" in (folder / "card.md").read_text()


def test_a_card_needs_a_preset(tmp_path):
    with pytest.raises(PresetError, match="not a preset"):
        cards.write(tmp_path)


def test_grids_that_are_no_cube_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cubic grid"):
        train_preset(np.zeros((2, 8, 8, 16)), QUICK, tmp_path)
