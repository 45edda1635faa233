"""The package as it is imported, and as it is built."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import descnet3d
from descnet3d.zoo import presets

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"tensorflow", "torch", "keras", "tensorflow_datasets", "open3d", "sklearn", "skimage"}


def run_python(code, folder, **environment):
    """What a fresh interpreter, started in an empty folder, prints."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", code]
    inherited = {} if "PYTHONPATH" in environment else {"PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(
        command, cwd=folder, env={**inherited, **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What the wheel is built from, without what other builds left behind."""
    copy = tmp_path_factory.mktemp("checkout") / "descnet3d"
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    copy.mkdir()
    for name in ("descnet3d", "zoo"):
        shutil.copytree(ROOT / name, copy / name, ignore=leave_out)
    for name in ("pyproject.toml", "setup.cfg", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "README.md").touch()
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    result = subprocess.run([*command, str(checkout)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    [path] = out.glob("*.whl")
    return path


def embedded_presets():
    """What `load` gives for each category, what is fine-tuned, and what judges shapes."""
    categories = {preset.category for preset in presets.list_presets()}
    named = [presets.named(category) for category in sorted(categories)]
    more = {"classifier_modelnet10_32", "synthesis_modelnet10_32"}
    return {*(preset.id for preset in named), *more}


def test_importing_the_package_and_listing_its_presets_loads_no_framework(tmp_path):
    code = "import sys, descnet3d; descnet3d.list_presets(); print(*sys.modules, sep='\\n')"
    loaded = {name.partition(".")[0] for name in run_python(code, tmp_path).split()}
    assert "descnet3d" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_alone_does_not_even_load_numpy(tmp_path):
    code = "import sys, descnet3d; print(*sys.modules, sep='\\n')"
    loaded = run_python(code, tmp_path).split()
    assert {name for name in loaded if name.startswith("descnet3d")} == {"descnet3d"}
    assert "numpy" not in loaded


def test_public_modules_are_attributes_without_being_imported_first(tmp_path):
    code = "import descnet3d; print(descnet3d.view.__name__, descnet3d.meshes.__name__)"
    assert run_python(code, tmp_path).split() == [
        "descnet3d.shapes.sheets",
        "descnet3d.shapes.surfaces",
    ]


def test_the_public_names_are_those_of_their_modules():
    from descnet3d.models.descriptor import DescriptorNet

    assert descnet3d.load is presets.load
    assert descnet3d.list_presets is presets.list_presets
    assert descnet3d.DescriptorNet is DescriptorNet
    for name in descnet3d.__all__:
        assert getattr(descnet3d, name) is not None
    assert set(dir(descnet3d)) == set(descnet3d.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'descnet3d' has no attribute 'synthesise'"):
        descnet3d.synthesise  # noqa: B018


def test_the_citation_and_the_changelog_are_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == descnet3d.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == descnet3d.__version__


def test_the_wheel_holds_every_module_and_the_presets_that_need_no_network(wheel, checkout):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    modules = {str(path.relative_to(checkout)) for path in checkout.glob("descnet3d/**/*.py")}
    assert modules <= held
    beside = {str(path.relative_to(checkout)) for path in checkout.glob("descnet3d/datasets/*/*.*")}
    assert "descnet3d/datasets/modelnet_voxels/checksums.tsv" in beside and beside <= held
    assert "descnet3d/presets/index.json" in held
    recipes = {f"descnet3d/presets/recipes/{path.name}" for path in checkout.glob("zoo/recipes/*")}
    assert recipes <= held
    embedded = {
        f"descnet3d/presets/{name}/{path.name}"
        for name in embedded_presets()
        for path in (checkout / "zoo" / name).iterdir()
    }
    assert {
        name for name in held if name.startswith("descnet3d/presets/")
    } == embedded | recipes | {"descnet3d/presets/index.json"}
    # It can be uploaded where wheels are, whose limit is 100 MB.
    assert wheel.stat().st_size < 30e6
    # Whatever else is in it describes it: nothing lands beside the package.
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"descnet3d"}


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = f"descnet3d-{descnet3d.__version__}.dist-info"
        metadata = archive.read(f"{name}/METADATA").decode()
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(f"{name}/entry_points.txt").decode())
        assert archive.read(f"{name}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in metadata
    assert set(re.search(r"^Requires-Python: (.+)$", metadata, re.MULTILINE)[1].split(",")) == {
        ">=3.11",
        "<3.14",
    }
    assert dict(entry_points["console_scripts"]) == {"descnet3d": "descnet3d.commands.cli:main"}


@pytest.mark.parametrize("kind", ["checkout", "wheel"])
def test_the_presets_are_found_where_they_lie(kind, checkout, wheel, tmp_path):
    root = checkout
    if kind == "wheel":
        root = tmp_path / "site-packages"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
    zoo = root / "zoo" if kind == "checkout" else root / "descnet3d" / "presets"
    code = (
        "import descnet3d; print(*(preset.path for preset in descnet3d.list_presets()), sep='\\n')"
    )
    found = run_python(
        code, tmp_path / "elsewhere", PYTHONPATH=str(root), DESCNET3D_CACHE=str(tmp_path / "none")
    ).split()
    every = sorted(path.parent.name for path in (checkout / "zoo").glob("*/config.json"))
    here = every if kind == "checkout" else embedded_presets()
    assert found == [str(zoo / name) if name in here else "None" for name in every]


def test_a_wheel_alone_says_where_the_other_presets_are(wheel, tmp_path):
    root = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root)
    code = (
        "from descnet3d.zoo import presets\n"
        "try: presets.find('toilet', 'recovery')\n"
        "except ValueError as error: print(error)\n"
        "print(presets.find('toilet'))"
    )
    cache = str(tmp_path / "none")
    said = run_python(code, tmp_path / "elsewhere", PYTHONPATH=str(root), DESCNET3D_CACHE=cache)
    assert "recovery_toilet_32 did not come with this installation: set DESCNET3D_ZOO" in said
    assert said.splitlines()[-1] == str(root / "descnet3d" / "presets" / "annealed_toilet_32")
    both = {"DESCNET3D_CACHE": cache, "DESCNET3D_ZOO": str(ROOT / "zoo")}
    found = run_python(code, tmp_path / "elsewhere", PYTHONPATH=str(root), **both)
    assert found.splitlines()[0] == str(root / "descnet3d" / "presets" / "annealed_toilet_32")
