"""A preset is fine-tuned: from the right one, in the layers that are chosen, to one of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from absl import flags
from every_model import small_conditional

import descnet3d
from descnet3d.commands import cli
from descnet3d.commands import train as train_command
from descnet3d.datasets.archives import read_archive
from descnet3d.energy.settings import Denoising, EquilibriumMatching
from descnet3d.models import networks
from descnet3d.training import finetuning
from descnet3d.training.phases import choose_layers
from descnet3d.training.recipes import RECIPES, flags_of
from descnet3d.training.run import train

SIDE = 8


def boxes(count, seed=0):
    """Boxes of many proportions."""
    rng = np.random.default_rng(seed)
    shapes = np.zeros((count, SIDE, SIDE, SIDE), "float32")
    for shape in shapes:
        low, high = rng.integers(0, 3, 3), rng.integers(5, 9, 3)
        shape[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    return shapes


def tiny_network(seed=0):
    keras.utils.set_random_seed(seed)
    return networks.base(SIDE, width=16, context=8, hidden=16, code=16)


@pytest.fixture
def start(tmp_path):
    """A preset on 8³ grids that has learned nothing."""
    model = descnet3d.DescriptorNet(tiny_network(), voxel_mean=0.5, reference_std=0.5)
    folder = tmp_path / "start"
    recipe = {"reference_std": 0.5, "voxel_mean": 0.5, "sampling_steps": 7, "network": "base"}
    return model.save_preset(folder, weights_dtype="float32", recipe=recipe)


@pytest.fixture
def mine(tmp_path):
    """A folder of a user's grids."""
    folder = tmp_path / "shapes" / "box"
    folder.mkdir(parents=True)
    for index, shape in enumerate(boxes(20)):
        np.save(folder / f"{index:02d}.npy", shape)
    return folder.parent


def finetune(start, mine, out, *more):
    words = [f"--from={start}", f"--data={mine}", f"--out={out}", "--sheet_every=0", *more]
    return cli.main(["finetune", *words])


def test_a_folder_of_shapes_becomes_a_preset_that_is_loaded(start, mine, tmp_path, capsys):
    out = tmp_path / "my_boxes"
    assert finetune(start, mine, out, "--steps=150", "--learning_rate=3e-3") == 0
    assert f"wrote {out}: descnet3d synthesize {out}" in capsys.readouterr().out
    before, after = descnet3d.load(start), descnet3d.load(out)
    assert after.preset["id"] == f"synthesis_box_{SIDE}" and after.preset["category"] == "box"
    assert after.sampling.num_steps == 7
    recipe = after.preset["training"]["recipe"]
    assert recipe["start"] == str(start) and recipe["matching_steps"] == 150
    flags = (out / "recipe.flags").read_text().split()
    assert {"--recipe=base", f"--start={start}", "--matching_steps=150"} <= set(flags)
    # It has learned: new boxes fit it better than they fitted what it began with.
    unseen = boxes(16, seed=1)
    losses = []
    for model in (before, after):
        model.compile(matching=EquilibriumMatching())
        losses.append(model.evaluate(unseen, return_dict=True, verbose=0)["matching_loss"])
    assert losses[1] < 0.8 * losses[0]


def test_a_finished_preset_is_never_overwritten(start, mine, tmp_path, capsys):
    out = tmp_path / "mine"
    assert finetune(start, mine, out, "--steps=2") == 0
    assert finetune(start, mine, out, "--steps=2") == 1
    assert "holds a finished preset" in capsys.readouterr().err


def test_a_killed_run_goes_on(start, mine, tmp_path):
    out = tmp_path / "mine"
    words = ["finetune", f"--from={start}", f"--data={mine}", f"--out={out}", "--sheet_every=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "descnet3d.commands.cli", *words, "--steps=100000"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = out / "training" / "matching.csv"
    deadline = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "training" / "matching.npz").exists()
    with np.load(out / "training" / "matching.npz") as file:
        assert file["progress"][0] >= 1
    # Other settings are refused, so that nothing is mixed.
    assert cli.main([*words, "--steps=3"]) == 1


def test_only_the_chosen_layers_learn(start):
    network = descnet3d.load(start).network
    before = {layer.name: layer.get_weights() for layer in network.layers}
    recipe = RECIPES["base"].changed(
        start=str(start), layers="code_*, refine_2", matching_steps=4, sampling_steps=2
    )
    folder = start.parent / "run"
    run = train(boxes(16), recipe, folder, network=network)
    moved = {
        layer.name
        for layer in run.model.network.layers
        if any(
            not np.array_equal(old, new)
            for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        )
    }
    assert moved == {"code_1", "code_2", "code_spread", "code_responses", "refine_2"}
    assert all(layer.trainable for layer in run.model.network.layers)


def test_layers_that_are_not_there_are_named(start):
    network = descnet3d.load(start).network
    with pytest.raises(ValueError, match="layers='conv' is none of this network's, .*code_1"):
        choose_layers(network, "code_1,conv")
    with pytest.raises(ValueError, match="no start is given"):
        RECIPES["base"].changed(layers="code_1")


@pytest.mark.parametrize(
    ("name", "task", "base", "started", "own"),
    [
        ("toilet", None, "annealed", "synthesis_toilet_32", "synthesis"),
        ("langevin_toilet_32", None, "base", "langevin_toilet_32", "synthesis"),
        ("cooperative_modelnet10_32", None, "base", "cooperative_modelnet10_32", "synthesis"),
        ("bed", "cooperative", "cooperative", "cooperative_modelnet10_32", "cooperative"),
        ("monitor", "recovery", "annealed", "recovery_monitor_32", "recovery"),
        ("recovery_chair_32", None, "annealed", "recovery_chair_32", "recovery"),
        ("synthesis_sofa_32", "recovery", "annealed", "synthesis_sofa_32", "recovery"),
        ("sofa", "super_resolution", "annealed", "superres_sofa_32", "super_resolution"),
        ("superres_bed_64", None, "super_resolution", "superres_bed_64", "super_resolution"),
    ],
)
def test_the_recipe_is_that_of_the_task(name, task, base, started, own):
    found, recipe = finetuning.recipe_from(name, task, 30)
    assert (found, recipe.start, recipe.task) == (base, started, own)
    assert recipe.matching.steps < RECIPES["base"].matching.steps
    # A network that is told what is observed goes on being told, and one that is not begins.
    assert (recipe.denoising.objective.observed > 0) == (base == "annealed" and own != "synthesis")
    assert recipe.generator.latents <= 15 or own != "cooperative"
    # The flags that are kept beside the preset make the very recipe.
    values = flags.FlagValues()
    train_command.COMMAND.define_flags(values)
    values(["train", *flags_of(found, recipe)])
    assert train_command.recipe_of(values) == recipe


def test_a_classifier_is_not_fine_tuned():
    with pytest.raises(ValueError, match="is for classification, and synthesis, .* can be"):
        finetuning.recipe_from("classifier_modelnet10_32")


def test_grids_without_a_preset_are_told():
    with pytest.raises(ValueError, match="no preset here synthesises on 8x8x8 grids"):
        finetuning.nearest_presets(boxes(4))


@pytest.mark.slow
@pytest.mark.one_backend
def test_the_nearest_preset_is_of_the_right_category(modelnet10):
    archive = read_archive(modelnet10, "bed", "train")
    found = finetuning.nearest_presets(archive.occupancy[:24], without=("chair", "modelnet10"))
    losses = [candidate.loss for candidate in found]
    assert losses == sorted(losses) and len(found) == 9
    # After its own what is built like a bed is nearer than what is not.
    nearest = [candidate.preset.category for candidate in found]
    assert nearest[0] == "bed" and nearest[1] in ("sofa", "table", "bathtub")
    assert "chair" not in nearest


def test_auto_begins_with_the_nearest_and_remembers_it(tmp_path, monkeypatch, capsys):
    shapes = {name: np.zeros((8, 16, 16, 16), np.float32) for name in ("slab", "post")}
    shapes["slab"][:, 2:14, 2:14, 2:5] = 1
    shapes["post"][:, 6:10, 6:10, 2:14] = 1
    keras.utils.set_random_seed(0)
    model = descnet3d.AnnealedDescriptor(small_conditional(16), list(shapes), seed=5)
    model.compile(keras.optimizers.Adam(5e-3), denoising=Denoising("odds"))
    both, labels = np.concatenate(list(shapes.values())), np.repeat([0, 1], 8)
    model.fit(both, labels, batch_size=8, epochs=20, verbose=0)
    zoo = tmp_path / "zoo"
    for name in shapes:
        folder = zoo / f"synthesis_{name}_16"
        told = {"id": folder.name, "task": "synthesis", "category": name, "scores": {}}
        model.bound_to(name).save_preset(folder, **told)
    assert cli.main(["presets", "publish", str(zoo), "--shapes=0"]) == 0
    monkeypatch.setenv("DESCNET3D_ZOO", str(zoo))
    mine = tmp_path / "shapes" / "pillar"
    mine.mkdir(parents=True)
    for index, shape in enumerate(shapes["post"]):
        np.save(mine / f"{index:02d}.npy", shape)
    out = tmp_path / "pillars"
    assert finetune("auto", mine.parent, out, "--steps=6", "--size=16") == 0
    printed = capsys.readouterr().out
    assert "beginning with synthesis_post_16, which fits best (denoising loss: synth" in printed
    assert (out / "training" / "start.txt").read_text() == "synthesis_post_16\n"
    config = json.loads((out / "config.json").read_text())
    assert config["training"]["recipe"]["start"] == "synthesis_post_16"
    assert descnet3d.load(out).category == "pillar"
