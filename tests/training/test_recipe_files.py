"""The recipe files that lie in the zoo: one for each preset, and each one a recipe."""

import json
from pathlib import Path

import pytest
from absl import flags

from descnet3d.commands import train
from descnet3d.training.recipes import RECIPES, flags_of

ROOT = Path(__file__).resolve().parents[2]
IN_PRESETS = sorted((ROOT / "zoo").glob("*/recipe.flags"))
# Of models that others start from, and that are not shipped themselves.
OF_STARTS = sorted((ROOT / "zoo" / "recipes").glob("*.flags"))


def recipe_of(words):
    values = flags.FlagValues()
    train.COMMAND.define_flags(values)
    flags.DEFINE_multi_string("flagfile", [], "", flag_values=values)
    assert values(["train", *words]) == ["train"]
    return train.recipe_of(values)


@pytest.mark.parametrize("path", [*IN_PRESETS, *OF_STARTS], ids=lambda path: str(path.parent.name))
def test_a_recipe_file_holds_a_recipe(path: Path):
    words = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    recipe = recipe_of(words).flat()
    if path in OF_STARTS:
        return
    # It is the one that the preset was trained by, but for what earlier versions wrote for none.
    training = json.loads(path.with_name("config.json").read_text())["training"]
    for name, value in training["recipe"].items():
        assert (recipe[name] or 0) == (value or 0), name


def test_a_preset_has_one_recipe_file():
    assert {path.stem for path in OF_STARTS}.isdisjoint(path.parent.name for path in IN_PRESETS)


@pytest.mark.parametrize("name", RECIPES)
def test_flags_make_the_recipe_that_they_were_written_for(name):
    for other in ("base", "paper"):  # the second knows settings that are none
        assert recipe_of(flags_of(other, RECIPES[name])) == RECIPES[name]


def test_the_flags_of_a_setting_are_as_documented():
    words = ["--langevin_step_size=0.05", "--clip_norm=none", "--nocooperation_anchor"]
    recipe = recipe_of([*words, "--voxel_mean=none", "--chains=data", "--step_per_pass"])
    assert recipe.likelihood.objective.langevin.step_size == 0.05
    assert recipe.clip_norm is None is recipe.voxel_mean and not recipe.cooperation.anchor
    assert recipe.likelihood.objective.chains.start == "data" and recipe.likelihood.step_per_pass
