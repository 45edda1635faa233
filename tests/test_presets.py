"""Presets are found by category, by id and by folder."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import descnet3d
from descnet3d import presets
from descnet3d.presets import PresetNotFoundError

SHIPPED = presets._zoo()


def write_config(zoo, task, category, size, **more):
    name = f"{task}_{category}_{size}"
    config = {
        "format": 1,
        "id": name,
        "task": task,
        "category": category,
        "size": [size] * 3,
        "parameters": 2_900_000,
        "description": "…",
        "scores": {"nearest_iou": 0.8125},
        **more,
    }
    folder = zoo / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Presets of two tasks, without weights, in the place of those that came with the package."""
    zoo = tmp_path / "zoo"
    write_config(zoo, "synthesis", "toilet", 32)
    write_config(zoo, "synthesis", "night_stand", 16)
    write_config(zoo, "synthesis", "night_stand", 32, default=True)
    write_config(zoo, "recovery", "night_stand", 32)
    write_config(zoo, "recovery", "chair", 32)
    write_config(zoo, "cooperative", "toilet", 32)
    write_config(zoo, "cooperative", "bed", 32)
    presets.build_index(zoo)
    monkeypatch.setattr(presets, "_zoo", lambda: zoo)
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    return zoo


@pytest.mark.parametrize(
    ("name", "task", "found"),
    [
        ("toilet", "synthesis", "synthesis_toilet_32"),
        ("bed", "synthesis", "cooperative_bed_32"),
        ("toilet", "cooperative", "cooperative_toilet_32"),
        ("night_stand", "synthesis", "synthesis_night_stand_32"),
        ("night_stand", "recovery", "recovery_night_stand_32"),
        ("chair", "recovery", "recovery_chair_32"),
        ("synthesis_night_stand_16", "synthesis", "synthesis_night_stand_16"),
        ("recovery_chair_32", "synthesis", "recovery_chair_32"),
    ],
)
def test_a_category_and_a_task_or_an_id_name_a_preset(zoo, name, task, found):
    assert presets.find(name, task) == zoo / found


def test_a_folder_names_itself(zoo):
    mine = write_config(Path.cwd(), "synthesis", "lamp", 8)
    for name in (mine, str(mine), mine.name, f"./{mine.name}"):
        assert os.path.samefile(presets.find(name), mine)


def test_a_word_is_a_preset_before_it_is_a_folder(zoo):
    folder = Path("toilet")
    write_config(Path.cwd(), "synthesis", "lamp", 8).rename(folder)
    assert presets.find("toilet") == zoo / "synthesis_toilet_32"
    assert os.path.samefile(presets.find("./toilet"), folder)
    assert presets.find(folder) == folder


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("nightstand", "synthesis", 'no synthesis preset .nightstand.*Did you mean "night_stand"?'),
        ("Night Stand", "synthesis", 'Did you mean "night_stand"?'),
        ("synthesis_toilet_23", "synthesis", 'Did you mean "synthesis_toilet_32"?'),
        (
            "zebra",
            "synthesis",
            "no folder of that name. The categories .*: bed, night_stand, toilet",
        ),
        ("chair", "synthesis", "no synthesis preset 'chair'; for chair there is one of: recovery"),
        (
            "toilet",
            "sythesis",
            "sythesis preset 'toilet'; for toilet there is one of: cooperative, synthesis",
        ),
        (
            "zebra",
            "sythesis",
            "nothing here is trained for 'sythesis'; .*: cooperative, recovery, synthesis",
        ),
        ("./chairs", "synthesis", "there is no such folder"),
        ("", "synthesis", "no synthesis preset ''"),
        (".", "synthesis", "no config.json; DescriptorNet.save_preset writes"),
        ("x" * 5000, "synthesis", "no synthesis preset"),
    ],
)
def test_a_name_that_nothing_answers_to_is_explained(zoo, name, task, message):
    with pytest.raises(PresetNotFoundError, match=message.replace("?", r"\?")) as raised:
        descnet3d.load(name, task=task)
    assert "\n" not in str(raised.value)


def test_no_suggestion_where_nothing_comes_near(zoo):
    with pytest.raises(PresetNotFoundError) as raised:
        presets.find("zebra")
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize("address", ["https://example.org/toilet", "hf://someone/toilet"])
def test_addresses_are_refused_for_now(zoo, address):
    with pytest.raises(ValueError, match="not fetched from addresses yet"):
        descnet3d.load(address)


def test_the_list_holds_what_the_configs_say(zoo):
    listed = {preset.id: preset for preset in descnet3d.list_presets()}
    assert sorted(listed) == sorted(path.parent.name for path in zoo.glob("*/config.json"))
    toilet = listed["synthesis_toilet_32"]
    assert toilet.path == zoo / "synthesis_toilet_32"
    assert (toilet.task, toilet.category, toilet.size) == ("synthesis", "toilet", (32, 32, 32))
    assert toilet.scores == {"nearest_iou": 0.8125}
    assert repr(toilet) == (
        "<Preset synthesis_toilet_32: synthesis, 32x32x32, 2,900,000 parameters, nearest_iou 0.812>"
    )
    assert [name for name, preset in listed.items() if not preset.default] == [
        "synthesis_night_stand_16"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is damaged"),
        ("[]", "holds no JSON object"),
        ('{"format": 2, "presets": []}', "format 2, and this version .* reads 1"),
        ('{"format": 1}', "is damaged .'presets'"),
        ('{"format": 1, "presets": [{"id": "a", "size": [1, 1, 1]}]}', "is damaged"),
        ('{"format": 1, "presets": [3]}', "is damaged"),
    ],
)
def test_a_broken_index_is_named(zoo, content, message):
    index = zoo / "index.json"
    index.unlink()
    if content is not None:
        index.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        presets.list_presets()
    assert str(index) in str(raised.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"default": True}, "synthesis_night_stand_16, synthesis_night_stand_32 are all synthesis"),
        ({"id": "another"}, "has the id 'another', but its folder is called"),
    ],
)
def test_an_index_that_would_be_wrong_is_not_written(zoo, more, message):
    before = (zoo / "index.json").read_bytes()
    write_config(zoo, "synthesis", "night_stand", 16, **more)
    with pytest.raises(ValueError, match=message):
        presets.build_index(zoo)
    assert (zoo / "index.json").read_bytes() == before


def test_a_config_that_lacks_something_is_named(zoo):
    path = zoo / "recovery_chair_32" / "config.json"
    path.write_text('{"id": "recovery_chair_32", "task": "recovery", "size": [1, 1, 1]}')
    message = f"{re.escape(str(path))} lacks category, parameters, scores"
    with pytest.raises(ValueError, match=message):
        presets.build_index(zoo)


# --- with weights ---------------------------------------------------------------------------------


def tiny_model(seed=0):
    keras.utils.set_random_seed(seed)
    voxels = keras.Input((8, 8, 8, 1))
    responses = keras.layers.Conv3D(3, 3, strides=2, activation="relu")(voxels)
    score = keras.layers.Dense(1)(keras.layers.Flatten()(responses))
    return descnet3d.DescriptorNet(keras.Model(voxels, score), voxel_mean=0.125)


def test_load_gives_back_the_model_that_was_saved(tmp_path):
    model = tiny_model()
    folder = tmp_path / "mine"
    model.save_preset(folder, weights_dtype="float32", id="mine", task="synthesis", category="box")
    shapes = np.random.default_rng(0).random((4, 8, 8, 8), dtype="float32")
    loaded = descnet3d.load(folder)
    np.testing.assert_allclose(loaded.energy(shapes), model.energy(shapes), rtol=1e-6)
    assert not np.allclose(tiny_model(seed=1).energy(shapes), model.energy(shapes), rtol=1e-3)


def test_a_saved_preset_can_be_indexed_and_loaded_by_its_category(zoo):
    folder = zoo / "synthesis_box_8"
    model = tiny_model()
    model.save_preset(folder, id=folder.name, task="synthesis", category="box", scores={})
    presets.build_index(zoo)
    [preset] = [preset for preset in presets.list_presets() if preset.category == "box"]
    # 3 filters of 3³ with biases, on 3³ places, and a dense unit with its bias.
    assert preset.size == (8, 8, 8)
    assert preset.parameters == (3 * 27 + 3) + (3 * 27 + 1)
    assert descnet3d.load("box").grid == (8, 8, 8)


# --- what came with the package -------------------------------------------------------------------


def test_the_shipped_index_is_what_the_folders_say(tmp_path):
    for config in SHIPPED.glob("*/config.json"):
        folder = tmp_path / config.parent.name
        folder.mkdir()
        shutil.copy(config, folder)
    rebuilt = presets.build_index(tmp_path).read_text()
    assert (SHIPPED / "index.json").read_text() == rebuilt


@pytest.mark.parametrize("preset", presets.list_presets(), ids=lambda preset: preset.id)
def test_a_shipped_preset_is_whole(preset):
    config = json.loads((preset.path / "config.json").read_text())
    weights = (preset.path / config["weights"]["file"]).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == config["weights"]["sha256"]
    assert config["description"]
    for name in ("card.md", "recipe.flags", "sheet.png"):
        assert (preset.path / name).stat().st_size > 0, name
