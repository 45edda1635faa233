"""Presets are found by category, by id and by folder."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model

import descnet3d
from descnet3d.models import saving
from descnet3d.models.preset_config import PresetWarning
from descnet3d.zoo import index, places, presets
from descnet3d.zoo.presets import PresetNotFoundError

ROOT = Path(__file__).resolve().parents[2]


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
    index.build_index(zoo)
    monkeypatch.setattr(
        places, "with_the_package", lambda: places.FolderZoo(zoo, "install it again")
    )
    monkeypatch.delenv("DESCNET3D_ZOO", raising=False)
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
            "no folder of that name. .*those of the package.: bed, night_stand, toilet",
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


def test_what_is_no_name_at_all_is_explained(zoo):
    with pytest.raises(PresetNotFoundError, match="name must be a category, .* but it is 3"):
        descnet3d.load(3)


def test_a_model_without_a_generator_says_which_has_one():
    with pytest.raises(AttributeError, match=r'no generator.*load\("chair", task="cooperative"\)'):
        tiny_model().generate(3)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        tiny_model().colour  # noqa: B018


def test_no_suggestion_where_nothing_comes_near(zoo):
    with pytest.raises(PresetNotFoundError) as raised:
        presets.find("zebra")
    assert "Did you mean" not in str(raised.value)


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
        ('{"format": 3, "presets": []}', "format 3, and this version .* reads 2"),
        ('{"format": 2}', "is not whole: it lacks presets"),
        ('{"format": 2, "presets": {}}', "presets must be a list, but it is {}"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"format": 2, "presets": [], "n": 1' + "0" * 9999 + "}", "is damaged"),
        (" " * 2**24 + "{}", "is longer than"),
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
    ("damage", "message"),
    [
        ({"id": "../a"}, "id must be the name of a file, but it is '../a'"),
        ({"id": "a\x1b[2J"}, r"id must be .* it is 'a\\x1b\[2J'"),
        ({"task": 5}, "task must be a line of text, but it is 5"),
        ({"category": "\x1b]0;owned\x07"}, r"category must be .* it is '\\x1b"),
        ({"parameters": None}, "parameters must be a whole number .*, but it is None"),
        ({"parameters": -1}, "parameters must be a whole number"),
        ({"scores": []}, "scores must be numbers by name"),
        ({"scores": {"nearest_iou": "high"}}, "scores must be numbers by name"),
        ({"size": [32, 32]}, "size must be three sides"),
        ({"size": [32, 32, 10**9]}, "size must be three sides"),
        ({"files": [1]}, "files must be an object"),
        ({"files": {"../a": {"sha256": "0" * 64}}}, "must be the name of a file"),
        ({"files": {"config.json": {"sha256": 7}}}, "sha256 must be a SHA-256"),
        ({"files": {"config.json": {"sha256": "0" * 64, "size": -3}}}, "size must be"),
        ({"default": "yes"}, "default must be true or false"),
        (3, "must be an object, but it is 3"),
    ],
)
def test_a_bad_entry_of_an_index_is_named_and_hides_no_other(zoo, damage, message):
    path = zoo / "index.json"
    content = json.loads(path.read_text())
    content["presets"][0] = {**content["presets"][0], **damage} if damage != 3 else 3
    path.write_text(json.dumps(content))
    with pytest.warns(PresetWarning, match=message) as warned:
        listed = presets.list_presets()
    assert len(listed) == len(content["presets"]) - 1
    assert all(str(each.message).isprintable() for each in warned)


def test_what_a_later_version_adds_to_an_index_is_passed_over(zoo):
    before = presets.list_presets()
    path = zoo / "index.json"
    content = json.loads(path.read_text())
    for entry in content["presets"]:
        entry["licence"] = "Apache-2.0"
        for file in entry["files"].values():
            file["blake3"] = "…"
    path.write_text(json.dumps({**content, "mirrors": []}))
    assert presets.list_presets() == before


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
        index.build_index(zoo)
    assert (zoo / "index.json").read_bytes() == before


def test_a_config_that_lacks_something_is_named(zoo):
    path = zoo / "recovery_chair_32" / "config.json"
    path.write_text('{"id": "recovery_chair_32", "task": "recovery", "size": [1, 1, 1]}')
    message = f"{re.escape(str(path))} lacks category, parameters, scores"
    with pytest.raises(ValueError, match=message):
        index.build_index(zoo)


# --- with weights ---------------------------------------------------------------------------------


def test_load_gives_back_the_model_that_was_saved(tmp_path):
    model = tiny_model()
    folder = tmp_path / "mine"
    model.save_preset(folder, weights_dtype="float32", id="mine", task="synthesis", category="box")
    shapes = np.random.default_rng(0).random((4, 8, 8, 8), dtype="float32")
    loaded = descnet3d.load(folder)
    np.testing.assert_allclose(loaded.energy(shapes), model.energy(shapes), rtol=1e-6)
    assert not np.allclose(tiny_model(seed=1).energy(shapes), model.energy(shapes), rtol=1e-3)


def test_a_preset_that_is_written_anew_while_it_is_read_is_the_one_or_the_other(
    tmp_path, monkeypatch
):
    folder = tiny_model(0).save_preset(tmp_path / "mine", weights_dtype="float32")
    new = tiny_model(1)
    read_config = saving.read_config

    def and_then_written(folder):
        config = read_config(folder)
        monkeypatch.undo()
        new.save_preset(folder, weights_dtype="float32")
        return config

    monkeypatch.setattr(saving, "read_config", and_then_written)
    shapes = np.random.default_rng(0).random((3, 8, 8, 8), dtype="float32")
    np.testing.assert_allclose(descnet3d.load(folder).energy(shapes), new.energy(shapes), rtol=1e-5)


def test_a_saved_preset_can_be_indexed_and_loaded_by_its_category(zoo):
    folder = zoo / "synthesis_box_8"
    model = tiny_model()
    model.save_preset(folder, id=folder.name, task="synthesis", category="box", scores={})
    index.build_index(zoo)
    [preset] = [preset for preset in presets.list_presets() if preset.category == "box"]
    # 3 filters of 3³ with biases, on 3³ places, and a dense unit with its bias.
    assert preset.size == (8, 8, 8)
    assert preset.parameters == (3 * 27 + 3) + (3 * 27 + 1)
    assert descnet3d.load("box").grid == (8, 8, 8)


# --- what came with the package -------------------------------------------------------------------


def test_the_index_is_what_the_folders_say(tmp_path):
    for config in (ROOT / "zoo").glob("*/config.json"):
        (tmp_path / config.parent.name).symlink_to(config.parent)
    rebuilt = index.build_index(tmp_path).read_text()
    assert (ROOT / "zoo" / "index.json").read_text() == rebuilt
    assert (places.with_the_package().folder / "index.json").read_text() == rebuilt


def test_the_first_preset_ever_shipped_still_loads(tmp_path):
    """Its config of then, and its weights, which are still those of the toilets."""
    config = json.loads((Path(__file__).parent / "first_preset.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    current = presets.find("langevin_toilet_32")
    shutil.copy(current / "weights.npz", tmp_path)
    then, now = descnet3d.load(tmp_path), descnet3d.load(current)
    shapes = np.random.default_rng(0).random((2, 32, 32, 32), dtype="float32")
    np.testing.assert_allclose(then.energy(shapes), now.energy(shapes), rtol=1e-5)
    assert then.sampling.num_steps == 200 and then.preset["task"] == "synthesis"


def test_a_preset_of_a_later_version_says_so(tmp_path):
    folder = tiny_model().save_preset(tmp_path / "later", task="synthesis", category="box")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "requires": "99.1"}))
    with pytest.raises(ValueError, match=r"needs descnet3d 99\.1, and this is"):
        descnet3d.load(folder)


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("keras.utils", "get_file"), ("builtins", "exec")]
)
def test_a_config_that_names_anything_but_layers_is_refused(tmp_path, module, name):
    folder = tiny_model().save_preset(tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    layer = config["model"]["network"]["config"]["layers"][1]
    layer["config"]["activation"] = {"module": module, "class_name": name, "config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"wants '{name}' of '{module}', which is no part"):
        descnet3d.load(folder)
