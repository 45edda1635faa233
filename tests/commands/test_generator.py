"""`descnet3d generate`, `interpolate` and `arithmetic`, as a person calls them."""

import os

import keras
import numpy as np
import pytest
from every_model import small_conditional
from PIL import Image

import descnet3d
from descnet3d.commands import cli, outputs
from descnet3d.datasets.grid_files import read_grids, write_grids
from descnet3d.energy.settings import AnnealingSettings, LangevinSettings
from descnet3d.evaluation import shape_distances
from descnet3d.models import generators, networks
from descnet3d.models.annealed import AnnealedDescriptor
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


@pytest.fixture(scope="module")
def annealed(tmp_path_factory):
    network = small_conditional(8, conditions=7, cells=8, voxels=4)
    sampling = AnnealingSettings(num_steps=3, guidance=0.0)
    model = AnnealedDescriptor(network, ["slab"], sampling=sampling)
    return str(model.save_preset(tmp_path_factory.mktemp("presets") / "annealed"))


def test_the_latents_of_an_annealed_descriptor_are_generated_joined_and_summed(annealed):
    assert cli.main(["generate", annealed, "--num=4", "--seed=5", "--out=shapes.npz"]) == 0
    model, shapes = descnet3d.load(annealed), read_grids("shapes.npz")
    np.testing.assert_allclose(shapes, model.generate(4, seed=5), atol=1e-6)
    assert cli.main(["interpolate", annealed, "--num=2", "--steps=3", "--out=paths.npz"]) == 0
    assert len(read_grids("paths.npz")) == 6
    write_grids("three.npz", (shapes[:3] > 0.5).astype(np.float32))
    assert cli.main(["arithmetic", annealed, "--input=three.npz", "--out=sum.npz"]) == 0
    assert read_grids("sum.npz").shape == (4, 8, 8, 8)


def test_what_is_generated_is_what_the_model_generates(preset, capsys):
    assert cli.main(["generate", preset, "--num=3", "--seed=5", "--out=shapes.npz"]) == 0
    assert "wrote shapes.npz: 3 shapes in" in capsys.readouterr().out
    model = descnet3d.load(preset)
    np.testing.assert_allclose(read_grids("shapes.npz"), model.generate(3, seed=5), atol=1e-6)
    assert cli.main(["generate", preset, "--num=3", "--seed=5", "--revise", "--out=b.npz"]) == 0
    np.testing.assert_allclose(read_grids("b.npz"), model.synthesize(3, seed=5), atol=1e-6)
    assert cli.main(["synthesize", preset, "--num=3", "--seed=5", "--out=c.npz"]) == 0
    np.testing.assert_allclose(read_grids("c.npz"), read_grids("b.npz"), atol=1e-6)


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_many_shapes_stream_into_their_file(preset, ending, monkeypatch):
    monkeypatch.setattr(outputs, "AT_A_TIME", 16)
    monkeypatch.setattr(outputs, "TRIAL", 4)
    out = f"many{ending}"
    assert cli.main(["generate", preset, "--num=50", "--seed=5", f"--out={out}"]) == 0
    made = read_grids(out)
    assert made.shape == (50, SIZE, SIZE, SIZE) and made.dtype == np.float32
    model = descnet3d.load(preset)
    np.testing.assert_allclose(made[:4], model.generate(4, seed=5), atol=1e-6)
    assert len(np.unique(made.reshape(50, -1), axis=0)) == 50  # every batch has its own seed
    assert cli.main(["generate", preset, "--num=50", "--seed=5", f"--out=again{ending}"]) == 0
    np.testing.assert_array_equal(made, read_grids(f"again{ending}"))


def test_a_sheet_that_nobody_could_look_at_is_refused_before_the_work(preset, capsys):
    assert cli.main(["generate", preset, "--num=1000", "--out=a.png"]) == 2
    assert "a sheet shows 256 at most" in capsys.readouterr().err


def test_long_work_says_first_how_long_it_will_take(monkeypatch, capsys):
    def make(rows, seed, progress):
        now[0] += 60 * (rows.stop - rows.start)  # a minute a shape
        return np.arange(rows.start, rows.stop)

    now = [0.0]
    monkeypatch.setattr(outputs.time, "perf_counter", lambda: now[0])
    made = list(outputs.in_batches(1000, 0, make))
    assert np.concatenate(made).tolist() == list(range(1000))
    assert max(map(len, made)) == 160
    assert "1000 shapes will take about 17 hours; Ctrl-C stops" in capsys.readouterr().err


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


@pytest.mark.parametrize("at_a_time", [160, 4])
def test_arithmetic_adds_the_latents_of_given_shapes(preset, at_a_time, monkeypatch):
    monkeypatch.setattr(outputs, "AT_A_TIME", at_a_time)
    model = descnet3d.load(preset)
    shapes = model.generate(6, seed=1)
    write_grids("six.npz", shapes)
    assert cli.main(["arithmetic", preset, "--input=six.npz", "--out=sums.npz"]) == 0
    rows = read_grids("sums.npz").reshape(2, 4, SIZE, SIZE, SIZE)
    latents = model.encode(shapes)
    for row, (a, b, c) in zip(rows, (latents[:3], latents[3:]), strict=True):
        np.testing.assert_allclose(row[3], model.arithmetic(a, b, c), atol=1e-3)


def test_more_paths_than_fit_a_batch_are_walked_in_several(preset, monkeypatch, capsys):
    monkeypatch.setattr(outputs, "AT_A_TIME", 8)
    assert cli.main(["interpolate", preset, "--num=5", "--steps=3", "--out=paths.npz"]) == 0
    shapes = read_grids("paths.npz").reshape(5, 3, SIZE, SIZE, SIZE)
    assert len(np.unique(shapes.reshape(15, -1), axis=0)) == 15
    assert capsys.readouterr().out.splitlines()[-1].count(", ") == 4


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["generate", "PRESET"], 2, "--out missing"),
        (["generate", "unicorn", "--out=a.png"], 1, "no synthesis preset 'unicorn'"),
        (["generate", "PRESET", "--num=0", "--out=a.png"], 2, "num"),
        (["generate", "PRESET", "--out=a.txt"], 2, "ends in none of"),
        (["interpolate", "PRESET", "--steps=1", "--out=a.png"], 2, "steps"),
        (["interpolate", "PRESET", "--path=round", "--out=a.png"], 2, "path"),
        (["arithmetic", "PRESET", "--input=two.npz", "--out=a.png"], 1, "3 shapes for each row"),
        (["arithmetic", "PRESET", "--input=none.npz", "--out=a.png"], 1, "none.npz"),
        (["generate", "langevin_toilet_32", "--out=a.png"], 1, "have no latents"),
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
