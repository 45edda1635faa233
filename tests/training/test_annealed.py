"""The recipe of annealed descriptors, from shapes to a preset, and on to a new category."""

import keras
import numpy as np
import pytest
from every_model import small_conditional
from tiny_models import tiny_model

import descnet3d
from descnet3d.shapes.pieces import label_pieces
from descnet3d.training import finetuning
from descnet3d.training.new_preset import train_preset
from descnet3d.training.phases import PiecesWarning
from descnet3d.training.recipes import RECIPES
from descnet3d.training.run import train

CLASSES = ("slab", "post", "lamp")
STEPS = {"denoising_steps": 4, "gradient_steps": 2, "average": 0.5, "seed": 3}


def labelled_shapes(count=8):
    shapes = np.zeros((count, 8, 8, 8), bool)
    shapes[0::2, 1:7, 1:7, 2:4] = True
    shapes[1::2, 3:5, 3:5, 1:7] = True
    return shapes, np.arange(count) % 2


def small():
    """A descriptor whose graphs are quickly traced."""
    keras.utils.set_random_seed(0)
    return descnet3d.AnnealedDescriptor(small_conditional(8), CLASSES[:2], seed=5)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset of slabs and posts, trained for six iterations."""
    folder = tmp_path_factory.mktemp("presets")
    start = small().save_preset(folder / "start", weights_dtype="float32")
    shapes, labels = labelled_shapes()
    return train_preset(
        shapes,
        RECIPES["annealed"].changed(start=str(start), mirror_axes="slab:01,chair:0", **STEPS),
        folder / "synthesis_both_8",
        name="synthesis_both_8",
        labels=labels,
        classes=CLASSES,
        sheet_every=0,
    )


def lamps(shapes, recipe, folder):
    """A preset of another category, by a recipe that goes on from one."""
    return train_preset(
        shapes,
        recipe,
        folder,
        category="lamp",
        labels=np.full(len(shapes), CLASSES.index("lamp")),
        classes=CLASSES,
        sheet_every=0,
    )


def test_a_preset_of_several_categories_is_loaded_and_asked_for_each(preset):
    model = descnet3d.load(preset)
    assert model.classes == ("slab", "post") and model.category is None
    assert model.field is not None
    made = model.synthesize(2, category="post", num_steps=2, seed=0)
    assert made.shape == (2, 8, 8, 8)
    card = (preset / "card.md").read_text()
    assert "annealed Langevin dynamics" in card and "denoising_steps" in card


def test_a_new_category_is_learned_from_it_and_the_old_ones_stay(preset, tmp_path):
    shapes = np.zeros((4, 8, 8, 8), bool)
    shapes[:, 3:5, 3:5, 1:5] = shapes[:, 2:6, 2:6, 5:7] = True
    name, recipe = finetuning.recipe_from(str(preset), matching_steps=2)
    assert (name, recipe.denoising.steps, recipe.denoising.gradient_steps) == ("annealed", 2, 1)
    model = descnet3d.load(lamps(shapes, recipe, tmp_path / "lamps"))
    assert (model.category, model.classes) == ("lamp", ("slab", "post", "lamp"))
    assert model.synthesize(1, num_steps=2, seed=0).shape == (1, 8, 8, 8)


def test_new_shapes_are_held_in_one_piece_where_those_of_training_are(preset, tmp_path):
    model = descnet3d.load(preset)
    assert model.sampling.whole_below == 4.0
    assert (
        "From level 4.0 down new shapes are held in one piece" in (preset / "card.md").read_text()
    )
    made = model.synthesize(4, category="post", num_steps=2, seed=0)
    assert {label_pieces(shape > 0.5)[1] for shape in made} <= {0, 1}
    pairs = np.zeros((4, 8, 8, 8), bool)
    pairs[:, 1:7, 1:7, 1:3] = pairs[:, 1:7, 1:7, 5:7] = True
    _, recipe = finetuning.recipe_from(str(preset), matching_steps=2)
    with pytest.warns(PiecesWarning, match="annealing_whole_below is 0.*only 0% are in one"):
        folder = lamps(pairs, recipe, tmp_path / "pairs")
    assert descnet3d.load(folder).sampling.whole_below == 0.0


def test_before_it_learns_a_new_category_changes_nothing_of_the_others(preset):
    model = descnet3d.load(preset)
    more = model.with_categories(["post", "lamp"])
    assert len(more.trainable_variables) == len(model.network.variables)
    shapes, _ = labelled_shapes(2)
    for category in ("slab", "post"):
        options = {"category": category, "seed": 0, "num_steps": 4}
        np.testing.assert_allclose(
            more.synthesize(2, **options), model.synthesize(2, **options), atol=1e-5
        )


def test_no_label_reaches_the_descriptor_that_features_are_of(tmp_path):
    start = small().save_preset(tmp_path / "start", weights_dtype="float32")
    shapes, labels = labelled_shapes(12)
    shapes |= np.random.default_rng(0).random(shapes.shape) < 0.02  # no two are the same
    found = []
    for name, given, steps in (("a", labels, 3), ("b", 1 - labels, 3), ("untaught", labels, 0)):
        recipe = RECIPES["features"].changed(start=str(start), denoising_steps=steps, average=0.5)
        how = {"labels": given, "classes": CLASSES[:2], "sheet_every": 0}
        found.append(descnet3d.load(train_preset(shapes, recipe, tmp_path / name, **how)))
    one, other, untaught = ([np.array(w) for w in m.descriptor.network.weights] for m in found)
    assert all(map(np.array_equal, one, other))
    assert not all(map(np.array_equal, one, untaught))
    begun = [np.float16(np.array(weights)) for weights in descnet3d.load(start).network.weights]
    assert all(map(np.array_equal, begun, untaught))
    assert [model.score(shapes, labels) for model in found] == [1.0, 0.0, 1.0]


def test_a_plain_descriptor_is_no_start_for_denoising(tmp_path):
    start = tiny_model().save_preset(tmp_path / "start")
    shapes, labels = labelled_shapes()
    how = {"labels": labels, "classes": CLASSES}
    with pytest.raises(ValueError, match="no annealed descriptor.*or denoising_steps=0"):
        train_preset(shapes, RECIPES["features"].changed(start=str(start)), tmp_path / "b", **how)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    shapes, labels = labelled_shapes()
    recipe = RECIPES["annealed"].changed(**STEPS)
    options = {"labels": labels, "classes": CLASSES}
    through = train(shapes, recipe, tmp_path / "a", start=small(), **options).model

    class Killed(Exception):
        pass

    def kill(phase, done, epochs):
        def stop(epoch, logs):
            if phase == "gradient" and done == 0:
                raise Killed

        return [keras.callbacks.LambdaCallback(on_epoch_end=stop)]

    options["checkpoint_every"] = 0.0
    with pytest.raises(Killed):
        train(shapes, recipe, tmp_path / "b", start=small(), callbacks=kill, **options)
    resumed = train(shapes, recipe, tmp_path / "b", start=small(), **options).model
    for part in ("network", "field"):
        pairs = zip(through.parts[part].weights, resumed.parts[part].weights, strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(np.array(one), np.array(other))


@pytest.mark.parametrize("steps", [1, 2, 60, 399, 400, 2000])
def test_however_short_fine_tuning_is_its_weights_come_away_from_the_start(steps, preset):
    """Of averaged weights a share of average ** steps is still that of the start."""
    _, recipe = finetuning.recipe_from(str(preset), matching_steps=steps)
    assert recipe.denoising.steps == steps
    assert recipe.average**steps < 0.14


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"denoising_steps": 5}, "do not fit"),
        ({"network": "conditional"}, "do not fit"),
        ({"mirror_axes": "chair:0"}, "mirror_axes of each category"),
        ({"mirror_axes": "chair:3"}, "made of 0, 1 and 2"),
        ({"denoising_native": "half"}, "one of no, float32, bfloat16"),
        ({"denoising_native": "float32"}, "is for denoising_steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        RECIPES["base"].changed(**changes)


def test_without_labels_there_is_nothing_to_be_conditioned_on(tmp_path):
    shapes, _ = labelled_shapes()
    with pytest.raises(ValueError, match="labels are needed"):
        train(shapes, RECIPES["annealed"], tmp_path)
