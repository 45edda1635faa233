"""Presets on the Hugging Face hub, of which a stand-in speaks the HTTP: published, and loaded."""

import os
import subprocess
import sys

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
from hub import Hub
from tiny_models import tiny_model

import descnet3d
from descnet3d import json_files
from descnet3d.commands import cli
from descnet3d.models.preset_config import PresetError
from descnet3d.zoo import publishing
from descnet3d.zoo.downloads import DownloadError, UnreachableError

SHAPES = np.random.default_rng(0).random((3, 8, 8, 8), dtype="float32")
SCORES = {"shapes": 64, "nearest_iou": 0.8125, "class_probability": float("nan")}

pytestmark = pytest.mark.one_backend


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub, and an empty cache of its client, which reads its variables when it is imported."""
    hub = Hub()
    constants = huggingface_hub.constants
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        hub.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # large files go by plain HTTP
    monkeypatch.setenv("DESCNET3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DESCNET3D_ZOO")
    yield hub
    hub.stop()


@pytest.fixture
def saved(tmp_path):
    return tiny_model().save_preset(
        tmp_path / "my_boxes", id="synthesis_box_8", category="box", scores=SCORES
    )


def publish(folder, repository, *flags):
    told = ["--license=cc-by-4.0", "--dataset=boxes", *flags]
    return cli.main(["presets", "publish", str(folder), f"--hub={repository}", *told])


def test_what_was_published_is_loaded_bit_by_bit_and_without_a_network_too(
    hub, saved, capsys, tmp_path
):
    assert publish(saved, "somebody/boxes") == 0
    assert 'descnet3d.load("hf://somebody/boxes")' in capsys.readouterr().out
    assert hub.tokens == {"Bearer hf_secret"}
    energy = descnet3d.load(saved).energy(SHAPES)
    for _ in range(2):
        np.testing.assert_array_equal(descnet3d.load("hf://somebody/boxes").energy(SHAPES), energy)
    assert sum(path.endswith("weights.npz") for path in hub.gets) == 1
    hub.stop()
    # A process of its own reads the variables as users set them.
    code = "import sys; from descnet3d.zoo import presets; print(presets.find(sys.argv[1]))"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    found = subprocess.run(
        [sys.executable, "-c", code, "hf://somebody/boxes"],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_array_equal(descnet3d.load(found.stdout.strip()).energy(SHAPES), energy)
    np.testing.assert_array_equal(descnet3d.load("hf://somebody/boxes").energy(SHAPES), energy)


def test_the_hub_reads_the_figures_out_of_the_card(hub, saved):
    assert publish(saved, "somebody/boxes", "--private") == 0
    [files] = hub.commits["somebody/boxes"]
    assert set(hub.cards) == {files["README.md"].decode()}
    card = huggingface_hub.ModelCard(hub.cards[0])
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "keras")
    assert card.data.datasets == ["boxes"] and {"descnet3d", "box"} <= set(card.data.tags)
    assert card.data.metrics == ["nearest_iou"]  # how many shapes is no metric, and NaN no figure
    [result] = card.data.eval_results
    assert (result.metric_value, result.dataset_type, result.task_type) == (
        0.8125,
        "boxes",
        "synthesis",
    )
    assert 'descnet3d.load("hf://somebody/boxes")' in card.text and "# synthesis_box_8" in card.text


def test_one_that_shares_the_weights_of_another_needs_no_other_on_the_hub(hub):
    assert publish("sofa", "somebody/sofas") == 0
    shapes = (np.random.default_rng(0).random((1, 32, 32, 32)) < 0.1).astype("float32")
    loaded = descnet3d.load("hf://somebody/sofas")
    assert "shares" not in loaded.preset and loaded.category == "sofa"
    np.testing.assert_array_equal(loaded.energy(shapes), descnet3d.load("sofa").energy(shapes))


def test_a_zoo_may_be_a_repository(hub, saved, tmp_path, monkeypatch):
    zoo = tmp_path / "zoo"
    publishing.add(zoo, saved)
    publishing.publish(zoo)
    files = {
        str(path.relative_to(zoo)): path.read_bytes() for path in zoo.rglob("*") if path.is_file()
    }
    hub.commits["somebody/zoo"] = []
    first = hub.commit("somebody/zoo", files)
    energy = tiny_model().energy(SHAPES)
    for name in ("synthesis_box_8", "my_boxes", f"synthesis_box_8@{first}"):
        loaded = descnet3d.load(f"hf://somebody/zoo/{name}")
        np.testing.assert_allclose(loaded.energy(SHAPES), energy, rtol=1e-2)
    with pytest.raises(PresetError, match=r"is a zoo: .* \(synthesis_box_8\)"):
        descnet3d.load("hf://somebody/zoo")
    monkeypatch.setenv("DESCNET3D_ZOO", "hf://somebody/zoo")
    listed = {preset.id: preset.path for preset in descnet3d.list_presets()}
    assert listed["synthesis_box_8"] is not None  # it was fetched above
    assert descnet3d.load("box").preset["id"] == "synthesis_box_8"
    hub.commit("somebody/zoo", {"synthesis_box_8/weights.npz": b"other ones"})
    with pytest.raises(PresetError, match="holds another weights.npz than the index says"):
        descnet3d.load("box")


def test_what_is_too_large_is_refused_before_a_byte_of_it_comes(hub, monkeypatch):
    content = b" " * (json_files.MAX_BYTES + 1)
    for repository, name in (("somebody/boxes", "config.json"), ("somebody/zoo", "index.json")):
        hub.commits[repository] = []
        hub.commit(repository, {name: content})
    with pytest.raises(DownloadError, match=f"config.json of {len(content)} bytes"):
        descnet3d.load("hf://somebody/boxes")
    for address in ("hf://somebody/zoo", "hf://somebody/zoo/lamp"):
        with pytest.raises(DownloadError, match=f"index.json of {len(content)} bytes"):
            descnet3d.load(address)
    monkeypatch.setenv("DESCNET3D_ZOO", "hf://somebody/zoo")
    with pytest.raises(DownloadError, match="index.json"):
        descnet3d.list_presets()
    assert hub.gets == []


def test_what_is_not_there_is_told(hub, saved, tmp_path, capsys, monkeypatch):
    hub.commits["somebody/nothing"] = []
    hub.commit("somebody/nothing", {"README.md": b"nothing"})
    for address, reason in (
        ("hf://somebody/lamps", "is not there, or not open to you: .* HF_TOKEN"),
        ("hf://somebody/nothing@v9", "no such revision"),
        ("hf://somebody/nothing", "is no preset: it has no config.json"),
        ("hf://somebody/nothing/lamp", "is no preset: it has no config.json"),
    ):
        with pytest.raises(DownloadError, match=reason):
            descnet3d.load(address)
    for wrong in ("hf://somebody", "hf://a/../b", "hf://a/b@"):
        with pytest.raises(ValueError, match="write hf://OWNER/NAME"):
            descnet3d.load(wrong)
    assert cli.main(["presets", "publish", str(saved), "--hub=somebody/boxes"]) == 2
    assert "needs --license" in capsys.readouterr().err
    assert publish(saved, "boxes") == 1
    assert "write hf://OWNER/NAME" in capsys.readouterr().err
    assert cli.main(["presets", "remove", "hf://somebody/boxes"]) == 1
    assert "hf cache rm model/somebody/boxes" in capsys.readouterr().err
    hub.stop()
    with pytest.raises(UnreachableError, match="cannot be reached, and is not in the hub's cache"):
        descnet3d.load("hf://somebody/lamps")
