"""The tutorials: what is committed of them, and that they run."""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import keras
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("[0-9][0-9]_*.py"))
NEED_MODELNET = {"06_features_without_labels"}

every_tutorial = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def build():
    """`tutorials/build.py` as a module."""
    for package in ("jupytext", "nbclient", "nbformat"):
        pytest.importorskip(package, reason=f"needs {package}: pip install '.[test]'")
    spec = importlib.util.spec_from_file_location("tutorials_build", TUTORIALS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(name):
    return json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))


def text_of(notebook):
    return "\n".join(
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )


def links(text):
    return [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]


def test_there_are_nine_in_reading_order():
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(1, 10)]


@every_tutorial
def test_script_and_notebook_hold_the_same_cells(build, name):
    def cells(notebook):
        return [
            (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in notebook["cells"]
        ]

    assert cells(committed(name)) == cells(build.read_script(TUTORIALS / f"{name}.py"))


@every_tutorial
def test_notebook_was_executed_to_its_end_without_errors(name):
    code = [cell for cell in committed(name)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@every_tutorial
def test_notebook_is_small_and_knows_nothing_of_the_machine(build, name):
    path = TUTORIALS / f"{name}.ipynb"
    assert path.stat().st_size < build.MOST_BYTES
    notebook = committed(name)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert not any("execution" in cell["metadata"] for cell in notebook["cells"])
    texts = [
        "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    ]
    assert not [text for text in texts if re.search(r"/(home|work|root|Users|tmp)/", text)]


@every_tutorial
def test_notebook_opens_and_closes_as_all_do(name):
    text = text_of(committed(name))
    position = NAMES.index(name)
    assert text.startswith(f"# {position + 1}. ")
    for wanted in ("At the end you have", "**Time on two cores:**", "**Data:**"):
        assert wanted in text
    assert "## What did not work" in text
    assert {link for link in links(text) if link.startswith("0")} >= {
        f"{NAMES[other]}.ipynb" for other in (position - 1, position + 1) if 0 <= other < len(NAMES)
    }
    assert any("check" in cell["metadata"].get("tags", []) for cell in committed(name)["cells"])


@every_tutorial
def test_notebook_opens_with_a_picture_of_what_it_makes(name):
    cells = committed(name)["cells"]
    assert f"](pictures/{name}.webp)" in "".join(cells[0]["source"])
    [opening] = [cell for cell in cells if "opening" in cell["metadata"].get("tags", [])]
    assert any("image/png" in output.get("data", {}) for output in opening["outputs"])
    with Image.open(TUTORIALS / "pictures" / f"{name}.webp") as picture:
        assert min(picture.size) > 100


def test_links_lead_somewhere():
    texts = [(TUTORIALS / "README.md").read_text(encoding="utf-8")]
    texts += [text_of(committed(name)) for name in NAMES]
    found = [link for text in texts for link in links(text) if "://" not in link and link]
    assert {f"{name}.ipynb" for name in NAMES} <= set(found)
    assert not [link for link in found if not (TUTORIALS / link).exists()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@every_tutorial
def test_tutorial_runs_in_a_kernel(build, name, tmp_path, monkeypatch, request):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the tutorials are written for TensorFlow; one run of them is enough")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"needs {package}: pip install '.[test]'")
    if name in NEED_MODELNET:
        monkeypatch.setenv("DESCNET3D_DATA", str(request.getfixturevalue("modelnet10")))
    monkeypatch.delenv("DESCNET3D_MODELNET_ZIP", raising=False)
    monkeypatch.setenv("DESCNET3D_ZOO", str(ROOT / "zoo"))
    # What runs in the kernel is the package that the tests import.
    folder = Path(importlib.util.find_spec("descnet3d").origin).parents[1]
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    copy = tmp_path / "tutorials"
    shutil.copytree(TUTORIALS, copy, ignore=shutil.ignore_patterns("output", "*.ipynb"))
    notebook = build.read_script(copy / f"{name}.py")
    build.execute(notebook, copy, small=True)  # an assert that fails in it fails here
