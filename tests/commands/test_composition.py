"""Compositions on the command line."""

import numpy as np
import pytest
from told_odds import SHAPE, told_odds_model

from descnet3d.commands import cli
from descnet3d.datasets.grid_files import read_grids

GRID = SHAPE[:3]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder with a model of two categories."""
    model, _ = told_odds_model(num_steps=3)
    folder = tmp_path_factory.mktemp("zoo") / "both"
    model.save_preset(folder, id="both", task="synthesis", weights_dtype="float32")
    return model, str(folder)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_flags_say_what_arguments_do(preset):
    model, folder = preset
    where = np.random.default_rng(0).integers(-1, 2, (3, *GRID))
    np.save("where.npy", where.astype(np.int8))
    flags = "--category=slab:1.5,post:-0.5 --where=where.npy --strength=2 --guidance=0.6"
    assert cli.main(["synthesize", folder, "--num=3", "--out=made.npy", *flags.split()]) == 0
    asked = {"where": where, "strength": 2.0, "guidance": 0.6}
    expected = model.synthesize(3, category={"slab": 1.5, "post": -0.5}, seed=0, **asked)
    np.testing.assert_allclose(read_grids("made.npy"), expected, atol=1e-5)
    assert cli.main(["synthesize", folder, "--num=2", "--out=made.npy", "--category=post"]) == 0
    expected = model.synthesize(2, category="post", seed=0)
    np.testing.assert_allclose(read_grids("made.npy"), expected, atol=1e-5)


def test_each_of_many_shapes_has_the_grid_that_is_its_own(preset, monkeypatch):
    monkeypatch.setattr("descnet3d.commands.outputs.AT_A_TIME", 3)
    monkeypatch.setattr("descnet3d.commands.outputs.TRIAL", 2)
    where = np.random.default_rng(1).integers(-1, 2, (7, *GRID))
    np.save("where.npy", where)
    words = ["--num=7", "--out=made.npy", "--where=where.npy"]
    assert cli.main(["synthesize", preset[1], *words]) == 0
    made = read_grids("made.npy")
    assert (made[where == 1] == 1).all() and (made[where == -1] == 0).all()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ("--category=slab:much", 2, "give slab a finite weight, as in slab:0.5"),
        ("--category=slab:0.5,post", 2, "give post a finite weight"),
        ("--category=slab:inf", 2, "give slab a finite weight"),
        ("--category=slab:1,slab:2", 2, "names slab twice"),
        ("--category=lamp", 1, "category must be one of slab, post, but it is 'lamp'"),
        ("--category=lamp:2", 1, "category must be one of slab, post, but it is 'lamp'"),
        ("--guidance=-1", 2, "--guidance=-1"),
        ("--strength=1", 2, "--strength is of --where, which is missing"),
        ("--where=where.txt", 2, "--where=where.txt is no .npy file"),
        ("--where=nowhere.npy", 1, "there is no file nowhere.npy"),
        ("--where=large.npy", 1, "where must be one grid [4, 4, 4]"),
    ],
)
def test_what_cannot_be_composed_is_one_line(preset, capsys, flags, status, message):
    np.save("large.npy", np.zeros((5, 5, 5), int))
    words = ["synthesize", preset[1], "--num=1", "--out=made.npz", *flags.split()]
    assert cli.main(words) == status
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err.splitlines()[-1]


def test_models_that_know_no_categories_say_so(tmp_path, capsys):
    from tiny_models import tiny_model

    tiny_model().save_preset(tmp_path / "tiny", id="tiny", task="synthesis")
    words = ["synthesize", str(tmp_path / "tiny"), "--num=1", "--out=made.npz", "--guidance=1"]
    assert cli.main(words) == 2
    assert "--guidance is for models of several categories" in capsys.readouterr().err
