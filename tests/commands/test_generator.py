"""`descnet3d generate`, `interpolate` and `arithmetic`, as a person calls them."""

import os

import keras
import numpy as np
import pytest
from PIL import Image

import descnet3d
from descnet3d.commands import cli
from descnet3d.datasets.grid_files import read_grids, write_grids
from descnet3d.energy.langevin import LangevinSettings
from descnet3d.evaluation import shape_distances
from descnet3d.models import generators, networks
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.descriptor import DescriptorNet

SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = networks.paper(SIZE, filters=(4,), kernels=(4,), strides=(2,))
    descriptor = DescriptorNet(network, voxel_mean=0.5)
    generator = generators.generator(SIZE, latents=3, hidden=8, seed_channels=2, width=4)
    model = CooperativeNet(descriptor, generator, revision=LangevinSettings(2, 0.1, 0.0, 0.0))
    return model.save_preset(tmp_path_factory.mktemp("presets") / "both", task="cooperative")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def preset(folder):
    return str(folder)


def test_what_is_generated_is_what_the_model_generates(preset, capsys):
    assert cli.main(["generate", preset, "--num=3", "--seed=5", "--out=shapes.npz"]) == 0
    assert "wrote shapes.npz: 3 shapes in" in capsys.readouterr().out
    model = descnet3d.load(preset)
    np.testing.assert_allclose(read_grids("shapes.npz"), model.generate(3, seed=5), atol=1e-6)
    assert cli.main(["generate", preset, "--num=3", "--seed=5", "--revise", "--out=b.npz"]) == 0
    np.testing.assert_allclose(read_grids("b.npz"), model.synthesize(3, seed=5), atol=1e-6)
    assert cli.main(["synthesize", preset, "--num=3", "--seed=5", "--out=c.npz"]) == 0
    np.testing.assert_allclose(read_grids("c.npz"), read_grids("b.npz"), atol=1e-6)


def test_a_path_is_drawn_as_a_row_and_its_largest_step_is_told(preset, capsys):
    words = ["interpolate", preset, "--num=2", "--steps=5"]
    assert cli.main([*words, "--out=paths.png"]) == 0
    width, height = Image.open("paths.png").size
    assert width == 5 * 256 and 2 * 256 < height < 3 * 256
    told = capsys.readouterr().out.splitlines()[-1].split(": ")[1]
    assert cli.main([*words, "--out=paths.npz"]) == 0
    shapes = read_grids("paths.npz")
    for row, step in enumerate(told.split(", ")):
        pairs = zip(shapes[5 * row : 5 * row + 4], shapes[5 * row + 1 : 5 * row + 5], strict=True)
        overlaps = [
            shape_distances.intersection_over_union(a[None], b[None])[0, 0] for a, b in pairs
        ]
        assert float(step) == pytest.approx(1 - min(overlaps), abs=1e-3)


def test_arithmetic_adds_the_latents_of_given_shapes(preset):
    model = descnet3d.load(preset)
    shapes = model.generate(6, seed=1)
    write_grids("six.npz", shapes)
    assert cli.main(["arithmetic", preset, "--input=six.npz", "--out=sums.npz"]) == 0
    rows = read_grids("sums.npz").reshape(2, 4, SIZE, SIZE, SIZE)
    a, b, c = model.encode(shapes)[:3]
    np.testing.assert_allclose(rows[0, 3], model.arithmetic(a, b, c), atol=1e-3)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["generate", "PRESET"], 2, "--out missing"),
        (["generate", "unicorn", "--out=a.png"], 1, "no cooperative preset 'unicorn'"),
        (["generate", "PRESET", "--num=0", "--out=a.png"], 2, "num"),
        (["generate", "PRESET", "--out=a.txt"], 2, "ends in none of"),
        (["interpolate", "PRESET", "--steps=1", "--out=a.png"], 2, "steps"),
        (["interpolate", "PRESET", "--path=round", "--out=a.png"], 2, "path"),
        (["arithmetic", "PRESET", "--input=two.npz", "--out=a.png"], 1, "3 shapes for each row"),
        (["arithmetic", "PRESET", "--input=none.npz", "--out=a.png"], 1, "none.npz"),
        (["generate", "synthesis_toilet_32", "--out=a.png"], 1, "has no generator"),
        (["evaluate", "synthesis_toilet_32", "--task=cooperative", "--data=a"], 1, "no generator"),
    ],
)
def test_mistakes_are_one_clear_line_and_leave_nothing(preset, words, status, message, capsys):
    write_grids("two.npz", np.zeros((2, SIZE, SIZE, SIZE), "float32"))
    words = [preset if word == "PRESET" else word for word in words]
    assert cli.main(words) == status
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert os.listdir() == ["two.npz"]
