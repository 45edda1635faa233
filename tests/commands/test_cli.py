"""The command line: what it writes, and how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import descnet3d
from descnet3d.commands import cli, evaluate, synthesize, table, train
from descnet3d.datasets.archives import VoxelArchive, read_archive, write_archive
from descnet3d.datasets.grid_files import read_grids, write_grids
from descnet3d.models.fitting import DivergenceError
from descnet3d.zoo import presets


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder with a model of noisy 8³ grids."""
    keras.utils.set_random_seed(0)
    grid = keras.Input((8, 8, 8, 1))
    responses = keras.layers.Conv3D(2, 3, strides=2, activation="relu")(grid)
    score = keras.layers.Dense(1)(keras.layers.Flatten()(responses))
    model = descnet3d.DescriptorNet(keras.Model(grid, score))
    folder = tmp_path_factory.mktemp("zoo") / "synthesis_noise_8"
    model.save_preset(folder, id=folder.name, task="synthesis", category="noise", scores={})
    return str(folder)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_model(monkeypatch):
    """No model is loaded, or the test fails."""

    def load(*arguments):
        pytest.fail("a model was loaded before the mistake was reported")

    monkeypatch.setattr(presets, "load", load)


@pytest.fixture
def model_that(monkeypatch):
    """Makes every preset a model whose synthesis raises the given exception."""

    def install(exception):
        class Model:
            def synthesize(self, *arguments, **keywords):
                raise exception

        monkeypatch.setattr(presets, "load_descriptor", lambda *arguments: Model())

    return install


def console(*words, **environment):
    """Runs what the installed command `descnet3d` runs, in an interpreter of its own."""
    code = "import sys; from descnet3d.commands.cli import main; sys.exit(main())"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**inherited, "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def archive(workplace):
    """An archive of random 8³ grids: noise of both splits, and a lamp for training alone."""
    path = workplace / "shapes.npz"
    shapes = VoxelArchive(
        np.random.default_rng(0).random((8, 8, 8, 8)) < 0.5,
        np.array([0] * 7 + [1]),
        ("noise", "night_lamp"),
        np.arange(8) < 3,
        tuple("abcdefgh"),
    )
    write_archive(path, shapes)
    return path


@pytest.fixture
def no_training(monkeypatch):
    """Keras is not started, no model is loaded, or the test fails."""

    def start():
        pytest.fail("Keras was started before the mistake was reported")

    for command in (synthesize, train, evaluate):
        monkeypatch.setattr(command, "start_keras", start)


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


# --- synthesize -----------------------------------------------------------------------------------


def test_the_command_makes_shapes_and_says_so_and_nothing_else(preset, workplace):
    result = console("synthesize", preset, "--num=3", "--seed=7", "--out=shapes.npz")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    [line] = result.stdout.splitlines()
    assert line.startswith("wrote shapes.npz: 3 shapes in ") and line.endswith(" s")
    shapes = read_grids("shapes.npz")
    assert shapes.shape == (3, 8, 8, 8)
    assert 0 <= shapes.min() < shapes.max() <= 1
    # They are the shapes that Python gives for this seed.
    expected = descnet3d.load(preset).synthesize(3, seed=7)
    np.testing.assert_allclose(shapes, expected, atol=1e-4)
    assert os.listdir() == ["shapes.npz"]


def test_the_seed_and_the_number_of_steps_reach_the_model(preset):
    made = {}
    for flags in ("", "--seed=1", "--steps=3"):
        words = ["synthesize", preset, "--num=2", "--out=shapes.npy", *flags.split()]
        assert cli.main(words) == 0
        made[flags] = np.load("shapes.npy", allow_pickle=False)
    model = descnet3d.load(preset)
    expected = model.synthesize(2, seed=0, num_steps=3)
    np.testing.assert_allclose(made["--steps=3"], expected, atol=1e-4)
    assert np.abs(made[""] - made["--seed=1"]).max() > 0.1
    assert np.abs(made[""] - made["--steps=3"]).max() > 0.01


def test_a_size_is_what_the_shipped_surfaces_refine_to(preset, capsys):
    assert cli.main(["synthesize", preset, "--num=2", "--size=32", "--out=fine.npy"]) == 0
    made = np.load("fine.npy", allow_pickle=False)
    coarse = descnet3d.load(preset).synthesize(2, seed=0)
    surfaces = descnet3d.load("modelnet10", task="refinement")
    np.testing.assert_allclose(made, surfaces.refine(coarse, 32, seed=0), atol=1e-4)
    assert made.shape == (2, 32, 32, 32)
    capsys.readouterr()
    assert cli.main(["synthesize", preset, "--num=2", "--size=24", "--out=bad.npy"]) == 2
    assert "--size must be 16, 32 or another doubling of the shapes' side, 8" in one_line(capsys)
    assert not os.path.exists("bad.npy")


def test_a_sheet_is_a_picture_that_labels_make_taller(preset, capsys):
    assert cli.main(["synthesize", preset, "--num=2", "--steps=2", "--out=plain.png"]) == 0
    assert cli.main(["synthesize", preset, "--num=2", "--steps=2", "--out=s.webp", "--labels"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "wrote plain.png",
        "wrote s.webp",
    ]
    with Image.open("plain.png") as plain, Image.open("s.webp") as labelled:
        assert (plain.format, labelled.format) == ("PNG", "WEBP")
        assert plain.width == labelled.width
        assert plain.height < labelled.height


def test_meshes_are_numbered(preset, workplace, capsys):
    import open3d

    assert cli.main(["synthesize", preset, "--num=2", "--out=shapes.ply"]) == 0
    assert "wrote shapes_00.ply to shapes_01.ply: 2 shapes" in capsys.readouterr().out
    assert sorted(os.listdir()) == ["shapes_00.ply", "shapes_01.ply"]
    for name in os.listdir():
        assert len(open3d.io.read_triangle_mesh(name).triangles) > 0


def test_binvox_files_hold_what_is_above_one_half(preset, capsys):
    words = ["synthesize", preset, "--num=1"]
    assert cli.main([*words, "--out=shape.binvox"]) == 0
    assert cli.main([*words, "--out=shape.npz"]) == 0
    assert "wrote shape.binvox: 1 shape in" in capsys.readouterr().out
    shapes = read_grids("shape.npz")
    assert 0 < (shapes > 0.5).mean() < 1
    np.testing.assert_array_equal(read_grids("shape.binvox").astype(bool), shapes > 0.5)


def test_flags_can_come_from_a_file(preset, workplace):
    (workplace / "recipe.flags").write_text("# two shapes\n--num=2\n--steps=1\n--out=shapes.npz\n")
    assert cli.main(["synthesize", preset, "--flagfile=recipe.flags"]) == 0
    assert len(read_grids("shapes.npz")) == 2
    assert cli.main(["synthesize", "--flagfile=recipe.flags", "--num=1", preset]) == 0
    assert len(read_grids("shapes.npz")) == 1


# --- wrong usage, status 2 ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("synthesise toilet", "no command 'synthesise'; there is: synthesize,"),
        ("synthesize --out=a.png", "NAME missing, as in: descnet3d synthesize toilet"),
        ("synthesize toilet", "--out missing"),
        ("synthesize toilet sofa --out=a.png", "'sofa' is one argument too many"),
        ("synthesize toilet --nmu=3 --out=a.png", "'nmu'. Did you mean: num"),
        ("synthesize toilet --num=0 --out=a.png", "--num=0: 0 is not a positive integer"),
        ("synthesize toilet --num=x --out=a.png", "--num=x"),
        ("synthesize toilet --seed=-1 --out=a.png", "--seed=-1"),
        ("synthesize toilet --steps=0 --out=a.png", "--steps=0"),
        ("synthesize toilet --out", "Missing value for flag --out"),
        ("synthesize toilet --out=a.gif", "--out=a.gif ends in none of .png,"),
        ("synthesize toilet --out=a", "--out=a ends in none of .png,"),
        ("synthesize toilet --out=a.npz --labels", "--labels is for sheets"),
        ("synthesize toilet --flagfile=nowhere", "Unable to open flagfile: .*'nowhere'"),
        ("presets list toilet", "'toilet' is one argument too many"),
        ("presets --num=3", "'num'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(words, message, no_model, capsys):
    assert cli.main(words.split()) == 2
    line = one_line(capsys)
    command = words.split()[0]
    expected = f"descnet3d {command}: " if command in {"synthesize", "presets"} else "descnet3d: "
    assert line.startswith(expected)
    head, _, tail = message.partition(".*")
    assert head in line and tail in line
    assert os.listdir() == []


def test_no_command_at_all_is_wrong_usage(capsys):
    assert cli.main([]) == 2
    assert "usage: descnet3d COMMAND" in capsys.readouterr().err


# --- failures, status 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("synthesize zebra --out=a.npz", "there is no synthesis preset 'zebra'"),
        ("synthesize ./zebras --out=a.npz", "there is no such folder"),
        ("synthesize hf://a --out=a.npz", "write hf://OWNER/NAME"),
        ("synthesize toilet --out=/proc/sys/a.png", "cannot write into /proc/sys: nothing can"),
        ("synthesize toilet --out=folder.npz", "cannot write folder.npz: it is a folder"),
        ("synthesize toilet --num=3 --out=taken.ply", "cannot write taken_02.ply: it is a folder"),
    ],
)
def test_a_failure_is_one_line_and_status_1(words, message, monkeypatch, workplace, capsys):
    for name in ("folder.npz", "taken_02.ply"):
        (workplace / name).mkdir()
    monkeypatch.setattr(descnet3d.DescriptorNet, "from_preset", None)
    assert cli.main(words.split()) == 1
    line = one_line(capsys)
    assert line.startswith("descnet3d synthesize: ") and message in line
    assert sorted(os.listdir()) == ["folder.npz", "taken_02.ply"]


def test_a_damaged_preset_is_one_line(preset, workplace, capsys):
    damaged = workplace / "damaged"
    damaged.mkdir()
    for name in ("config.json", "weights.npz"):
        content = (descnet3d.zoo.presets.find(preset) / name).read_bytes()
        (damaged / name).write_bytes(content[:-10] if name == "weights.npz" else content)
    assert cli.main(["synthesize", "./damaged", "--out=a.npz"]) == 1
    assert "weights.npz is damaged" in one_line(capsys)
    assert os.listdir() == ["damaged"]


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("the\nreason"),
        OSError("the reason"),
        ImportError("the reason"),
        DivergenceError("the reason"),
    ],
)
def test_what_can_go_wrong_on_the_way_is_one_line(exception, preset, model_that, capsys):
    model_that(exception)
    assert cli.main(["synthesize", preset, "--out=a.npz"]) == 1
    assert one_line(capsys) == "descnet3d synthesize: the reason\n"
    assert os.listdir() == []
    with pytest.raises(type(exception)):
        cli.main(["synthesize", preset, "--out=a.npz", "--debug"])


def test_our_own_mistakes_keep_their_traceback(preset, model_that):
    model_that(TypeError("a mistake of ours"))
    with pytest.raises(TypeError):
        cli.main(["synthesize", preset, "--out=a.npz"])


def test_an_interrupt_is_one_line_and_status_130(preset, model_that, capsys):
    model_that(KeyboardInterrupt())
    assert cli.main(["synthesize", preset, "--out=a.npz"]) == 130
    assert one_line(capsys) == "descnet3d synthesize: interrupted\n"


def test_when_keras_cannot_start_its_reason_is_the_line(preset):
    result = console("synthesize", preset, "--out=a.npz", KERAS_BACKEND="abacus")
    assert result.returncode == 1
    assert result.stderr == "descnet3d synthesize: Unable to import backend : abacus\n"


# --- train and evaluate ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train", "--data missing"),
        ("train --out=new", "--data missing"),
        ("train --data=shapes.npz", "--out missing"),
        ("train toilet --data=shapes.npz --out=new", "'toilet' is one argument too many"),
        ("train --data=shapes.npz --out=new --recipe=bsae", "--recipe=bsae: value should be one"),
        ("train --data=shapes.npz --out=new --batch_size=many", "--batch_size=many"),
        ("train --data=shapes.npz --out=new --batch_size=1.5", "--batch_size=1.5"),
        ("train --data=shapes.npz --out=new --clip_norm=x", "--clip_norm=x"),
        ("train --data=shapes.npz --out=new --sheet_every=-1", "--sheet_every=-1"),
        ("train --data=shapes.npz --out=new --bach_size=2", "Did you mean: batch_size"),
        ("evaluate noise", "--data missing"),
        ("evaluate --data=shapes.npz", "0 presets given, and one is needed, as NAME or --preset"),
        ("evaluate noise --preset=noise --data=shapes.npz", "2 presets given, and one is needed"),
        ("evaluate noise --paper --data=shapes.npz", "1 presets given, and --paper takes none"),
        ("evaluate --paper --write --data=shapes.npz", "--write is for a preset, not for --paper"),
        ("evaluate noise --data=shapes.npz --num=1", "--num=1"),
        ("evaluate noise --data=shapes.npz --seed=x", "--seed=x"),
    ],
)
def test_wrong_usage_of_training_and_evaluation(words, message, archive, no_training, capsys):
    assert cli.main(words.split()) == 2
    line = one_line(capsys)
    assert line.startswith(f"descnet3d {words.split()[0]}: ") and message in line
    assert os.listdir() == ["shapes.npz"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data=nowhere.npz --out=new", "there is no file nowhere.npz"),
        ("--data=. --out=new", "no folders of categories with shapes in them; lay it out as"),
        ("--data=./chairs --out=new", "there is no file or folder ./chairs"),
        ("--data=chairs --out=new", "no file or folder chairs, and no tfds data set of that name"),
        ("--data=modelnet_voxels/modelnet11 --out=new", "there is: modelnet10_32, modelnet10_64"),
        ("--data=shapes.npz --out=new --size=32", "grids of (8, 8, 8), and size was given as 32"),
        ("--data=cut.npz --out=new", "cut.npz is not an .npz archive, or is cut short"),
        (
            "--data=shapes.npz --out=new --category=nosie",
            "no category 'nosie'. Did you mean \"noise\"",
        ),
        ("--data=shapes.npz --out=new --category=zebra", "It has: noise, night_lamp"),
        # What cannot be written is reported before any data is read.
        ("--data=nowhere.npz --out=shapes.npz", "cannot write into shapes.npz: it is not a folder"),
        ("--data=nowhere.npz --out=shapes.npz/a", "cannot write into shapes.npz/a: nothing can be"),
        (f"--data=nowhere.npz --out={'a' * 300}", "File name too long"),
    ],
)
def test_training_fails_before_it_begins(flags, message, archive, no_training, capsys):
    Path("cut.npz").write_bytes(archive.read_bytes()[:-30])
    np.savez("grids.npz", occupancy=np.zeros((2, 8, 8, 8)))
    assert cli.main(["train", *flags.split()]) == 1
    line = one_line(capsys)
    assert line.startswith("descnet3d train: ") and message in line
    assert sorted(os.listdir()) == ["cut.npz", "grids.npz", "shapes.npz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("./zebras --data=shapes.npz", "there is no such folder"),
        ("NAME --data=nowhere.npz", "there is no file nowhere.npz"),
        ("NAME --data=shapes.npz --json=/proc/sys/x.json", "nothing can be created"),
        ("NAME --data=shapes.npz --category=nigth_lamp", 'Did you mean "night_lamp"'),
    ],
)
def test_evaluation_fails_before_keras_starts(words, message, preset, archive, no_training, capsys):
    assert cli.main(["evaluate", *words.replace("NAME", preset).split()]) == 1
    line = one_line(capsys)
    assert line.startswith("descnet3d evaluate: ") and message in line


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"classes": ("nose", "lamp")}, "", "no category 'noise'. Did you mean \"nose\""),
        ({}, "--category=night_lamp", "has 0 test shapes of the category 'night_lamp'"),
        ({"occupancy": np.ones((8, 4, 4, 4))}, "", "grids of size (4, 4, 4), and the model makes"),
    ],
)
def test_evaluation_fails_before_it_synthesises(
    changes, flags, message, preset, archive, monkeypatch, capsys
):
    def synthesize(*arguments, **keywords):
        pytest.fail("shapes were made before the mistake was reported")

    monkeypatch.setattr(descnet3d.DescriptorNet, "synthesize", synthesize)
    write_archive(archive, read_archive(archive)._replace(**changes))
    assert cli.main(["evaluate", preset, "--data=shapes.npz", *flags.split()]) == 1
    assert message in one_line(capsys)


def test_grids_that_synthesize_wrote_are_evaluated_as_what_the_preset_makes(preset, capsys):
    write_grids("made.npz", np.random.default_rng(0).random((10, 8, 8, 8)) < 0.5)
    assert cli.main(["evaluate", preset, "--data=made.npz", "--num=2"]) == 0
    assert "| shapes | 2 | 2 | |" in " ".join(capsys.readouterr().out.split())


def test_evaluation_prints_a_table_and_leaves_the_preset_alone(preset, archive, capsys):
    before = {path.name: path.read_bytes() for path in presets.find(preset).iterdir()}
    words = f"evaluate --preset={preset} --data=shapes.npz --num=2 --json=scores.json"
    assert cli.main(words.split()) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    written = json.loads(Path("scores.json").read_text())
    assert written["preset"] == preset and written["scores"]["shapes"] == 2
    nearest = [f"{written[scores]['nearest_iou']:.4g}" for scores in ("scores", "real_scores")]
    assert any(line.startswith(f"| nearest_iou | {' | '.join(nearest)} |") for line in lines)
    assert lines[0] == "| | synthesised | real test shapes | ratio |"
    assert "| shapes | 2 | 3 | |" in lines
    assert before == {path.name: path.read_bytes() for path in presets.find(preset).iterdir()}


# --- help -----------------------------------------------------------------------------------------


def test_the_overview_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for command in table.COMMANDS:
        assert f"  {command.name} " in overview and command.summary in overview


def test_the_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"descnet3d {descnet3d.__version__}\n"


@pytest.mark.parametrize("command", table.COMMANDS, ids=lambda command: command.name)
def test_help_shows_an_example_that_its_flags_accept(command, monkeypatch, capsys):
    assert cli.main([command.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert command.example in text
    ran = []
    recorder = command._replace(run=lambda arguments, values: ran.append(arguments))
    monkeypatch.setattr(table, "COMMANDS", (recorder,))
    program, *words = command.example.split()
    assert program == "descnet3d"
    assert cli.main(words) == 0
    assert len(ran) == 1


def test_help_shows_every_flag_with_its_default(capsys):
    assert cli.main(["synthesize", "toilet", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--num=", "--seed=", "--out=", "--steps=", "--[no]labels", "--flagfile="):
        assert flag in text
    assert "How many shapes. (a positive integer; default: 16)" in text


def test_a_reader_that_has_seen_enough_is_no_failure():
    train = f"{sys.executable} -m descnet3d.commands.cli train"
    command = f"{train} --help | head -1; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    first, status = done.stdout.splitlines()
    assert first == "usage: descnet3d train [--flags]"
    assert status == "0" and "Traceback" not in done.stderr
