"""`descnet3d recover` and `descnet3d upscale`, as a person calls them."""

import keras
import numpy as np
import pytest
from PIL import Image

import descnet3d
from descnet3d.commands import cli, outputs
from descnet3d.datasets.grid_files import read_grids, write_grids
from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.datasets.mesh_writers import save
from descnet3d.energy.settings import LangevinSettings
from descnet3d.energy.tasks import Recovery
from descnet3d.models import networks
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.shapes import blocks

SIZE = 8


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def preset(workplace):
    keras.utils.set_random_seed(0)
    network = networks.paper(SIZE, filters=(4,), kernels=(4,), strides=(2,))
    sampling = LangevinSettings(4, 0.1, 0.0, 0.1)
    DescriptorNet(network, voxel_mean=0.5, sampling=sampling).save_preset(
        "preset", training={"recipe": {"task": "super_resolution", "ratio": 2}}
    )
    return "./preset"


@pytest.fixture
def shapes(workplace):
    shapes = np.random.default_rng(0).random((3, SIZE, SIZE, SIZE)).astype("float32")
    write_grids("shapes.npz", shapes)
    return shapes


@pytest.fixture
def box_mesh(workplace):
    """A box of 2 by 1 by 4 units, far from the origin."""
    import open3d

    box = open3d.geometry.TriangleMesh.create_box(2.0, 1.0, 4.0)
    box.translate((100.0, -50.0, 7.0))
    save(box, "box.ply")
    return "box.ply"


def test_recover_gives_what_python_gives_and_keeps_what_is_visible(preset, shapes, capsys):
    visible = np.random.default_rng(1).random(shapes.shape) < 0.4
    write_grids("mask.npz", visible)
    words = ["recover", preset, "--input=shapes.npz", "--visible=mask.npz", "--seed=3"]
    assert cli.main([*words, "--out=found.npz", "--sheet=sheet.png"]) == 0
    found = read_grids("found.npz")
    assert np.array_equal(found[visible], shapes[visible])
    expected = descnet3d.load(preset).recover(shapes, visible, seed=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 3 * 256 and sheet.height > 2 * 256  # before and after, no truth
    assert "found.npz, sheet.png: 3 shapes in" in capsys.readouterr().out


def test_several_wholes_are_written_one_after_the_other(preset, shapes, capsys):
    words = ["recover", preset, "--input=shapes.npz", "--corruption=half", "--seed=3"]
    assert cli.main([*words, "--num_samples=2", "--out=found.npz", "--sheet=sheet.png"]) == 0
    visible = ~Recovery("half").pose(shapes, 3).hidden
    expected = descnet3d.load(preset).recover(shapes, visible, num_samples=2, seed=3)
    np.testing.assert_array_equal(read_grids("found.npz"), expected.reshape(-1, SIZE, SIZE, SIZE))
    assert "the best of 2" in capsys.readouterr().out
    with Image.open("sheet.png") as sheet:
        assert sheet.height > 4 * 256  # before, two after, the truth


def test_recover_measures_what_it_hid_itself(preset, shapes, capsys):
    words = ["recover", preset, "--input=shapes.npz", "--corruption=block:0.2"]
    assert cli.main([*words, "--out=sheet.png"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "| absolute_error |" in printed and "| the hidden voxels | 3 |" in printed
    with Image.open("sheet.png") as sheet:
        assert sheet.height > 3 * 256  # and the truth


def test_upscale_keeps_the_block_averages(preset, shapes, capsys):
    coarse = blocks.average(shapes, 2)
    write_grids("coarse.npz", coarse)
    assert cli.main(["upscale", preset, "--input=coarse.npz", "--out=fine.npz"]) == 0
    fine = read_grids("fine.npz")
    np.testing.assert_allclose(blocks.average(fine, 2), coarse, atol=1e-5)

    words = ["upscale", preset, "--input=shapes.npz", "--ratio=2", "--out=again.npz"]
    assert cli.main(words) == 0
    np.testing.assert_allclose(read_grids("again.npz"), fine, atol=1e-5)
    assert "| all voxels | 3 |" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["recover", "upscale"])
def test_meshes_come_out_where_they_went_in(preset, box_mesh, command):
    words = [command, preset, f"--input={box_mesh}", "--out=found.ply"]
    if command == "recover":
        words.append("--visible=occupied")
    assert cli.main(words) == 0
    low, high = (np.array(corner) for corner in ((100.0, -50.0, 7.0), (102.0, -49.0, 11.0)))
    vertices = read_mesh("found.ply").vertices
    # The grid spans a third more than the box's longest side, around the box's middle.
    middle, side = (low + high) / 2, 4.0 / 0.75
    assert (vertices >= middle - side / 2 - 1e-6).all()
    assert (vertices <= middle + side / 2 + 1e-6).all()
    if command == "recover":  # all of the box is there
        assert (vertices.min(0) <= low + 1e-3).all() and (vertices.max(0) >= high - 1e-3).all()


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ("recover NAME --out=a.npz --visible=occupied", 2, "--input missing"),
        ("recover NAME --input=shapes.npz --visible=occupied", 2, "--out missing"),
        ("recover NAME --input=shapes.npz --out=a.npz", 2, "one of --visible and --corruption"),
        ("recover NAME --input=shapes.npz --out=a.npz --corruption=rain", 1, "must be one of"),
        ("recover NAME --input=none.npz --out=a.npz --corruption=half", 1, "none.npz"),
        ("recover NAME --input=shapes.npz --out=a.xyz --corruption=half", 2, "ends in none"),
        (
            "recover NAME --input=shapes.npz --out=shapes.npz/a.npz --corruption=half",
            1,
            "npz: it is not",
        ),
        ("recover NAME --input=small.npz --out=a.npz --corruption=half", 1, "grids of size"),
        ("recover nothing --input=shapes.npz --out=a.npz --corruption=half", 1, "nothing"),
        ("upscale NAME --input=shapes.npz --out=a.npz --ratio=3", 1, "ratio"),
        ("upscale NAME --input=small.npz --out=a.npz", 1, "coarse must have grids"),
        ("upscale NAME --input=small.npz --out=a.npz --sheet=a.txt", 2, "--sheet=a.txt"),
        ("evaluate NAME --data=shapes.npz --corruption=scan", 2, "are for --task"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(preset, shapes, capsys, words, status, complaint):
    write_grids("small.npz", np.zeros((1, 5, 5, 5), bool))
    assert cli.main(words.replace("NAME", preset).split()) == status
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.rstrip().count("\n") <= ("nothing here is trained" in captured.err)
    import os

    assert sorted(os.listdir()) == ["preset", "shapes.npz", "small.npz"]


def test_shapes_that_are_fine_already_are_no_work_but_a_hint(preset, shapes, capsys):
    assert cli.main(["upscale", preset, "--input=shapes.npz", "--out=a.npz"]) == 1
    told = capsys.readouterr().err
    assert "as fine as the model's grid already: give --ratio=2" in told


def test_of_nothing_a_shape_is_invented_only_with_a_word(preset, shapes, capsys):
    shapes[1] = 0
    write_grids("shapes.npz", shapes)
    words = ["recover", preset, "--input=shapes.npz", "--visible=occupied", "--out=new/a.npz"]
    assert cli.main(words) == 0
    assert "of shapes [1] nothing is to be seen: they are invented" in capsys.readouterr().err
    assert read_grids("new/a.npz").shape == shapes.shape  # in a folder that was made for it


@pytest.mark.parametrize(
    ("command", "more"),
    [("recover", "--corruption=voxels:0.5"), ("recover", "--visible=mask.npy"), ("upscale", "")],
)
def test_no_more_than_a_batch_of_many_shapes_is_in_memory(
    preset, capsys, monkeypatch, command, more
):
    count, largest = 100, []
    monkeypatch.setattr(outputs, "AT_A_TIME", 32)
    monkeypatch.setattr(outputs, "TRIAL", 4)
    many = np.random.default_rng(0).random((count, SIZE, SIZE, SIZE), dtype="float32")
    write_grids("mask.npy", many > 0.4)
    many = blocks.average(many, 2) if command == "upscale" else many
    write_grids("many.npz", many)
    made = {"recover": "recover", "upscale": "super_resolve"}[command]
    whole = getattr(DescriptorNet, made)

    def some(model, shapes, *rest, **named):
        largest.append(len(shapes))
        return whole(model, shapes, *rest, **named)

    monkeypatch.setattr(DescriptorNet, made, some)
    words = [command, preset, "--input=many.npz", *more.split(), "--out=found.npz"]
    assert cli.main([*words, "--sheet=sheet.png"]) == 0
    assert max(largest) == 32 and sum(largest) == count
    assert "the sheet shows the first 8 of 100" in capsys.readouterr().err
    found = read_grids("found.npz")
    if command == "upscale":
        np.testing.assert_allclose(blocks.average(found, 2), many, atol=1e-5)
    elif "visible" in more:
        visible = read_grids("mask.npy")
        assert np.array_equal(found[visible], many[visible])
    else:  # half of the voxels of each are as they were, of the last too
        kept = (found == many).mean(axis=(1, 2, 3))
        assert (kept > 0.4).all() and (kept < 0.6).all()


def test_what_is_wrong_with_the_last_of_many_shapes_is_told_before_the_work(preset, capsys):
    many = np.full((400, SIZE, SIZE, SIZE), 0.5, "float32")
    many[399, 0, 0, 0] = np.nan
    np.save("many.npy", many)
    words = ["recover", preset, "--input=many.npy", "--visible=occupied", "--out=a.npz"]
    assert cli.main(words) == 1
    assert "many.npy holds 1 values that are NaN" in capsys.readouterr().err
