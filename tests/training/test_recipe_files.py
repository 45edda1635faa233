"""The recipe files that lie in the zoo: one for each preset, and each one a recipe."""

from dataclasses import replace
from pathlib import Path

import pytest
from absl import flags

from descnet3d.commands import train
from descnet3d.training.recipes import RECIPES, described

ROOT = Path(__file__).resolve().parents[2]
IN_PRESETS = sorted((ROOT / "zoo").glob("*/recipe.flags"))
# Of models that others start from, and that are not shipped themselves.
OF_STARTS = sorted((ROOT / "zoo" / "recipes").glob("*.flags"))


@pytest.mark.parametrize("path", [*IN_PRESETS, *OF_STARTS], ids=lambda path: str(path.parent.name))
def test_a_recipe_file_holds_a_recipe(path: Path):
    values = flags.FlagValues()
    train.COMMAND.define_flags(values)
    flags.DEFINE_multi_string("flagfile", [], "", flag_values=values)
    words = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    assert values(["train", *words]) == ["train"]
    changed = {name: values[name].value for name, _, _ in described()}
    given = {name: value for name, value in changed.items() if value is not None}
    assert replace(RECIPES[values.recipe], **given).batch_size > 0


def test_a_preset_has_one_recipe_file():
    assert {path.stem for path in OF_STARTS}.isdisjoint(path.parent.name for path in IN_PRESETS)
