"""The pages: what they link, what they promise, and that the site is built of them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from descnet3d.commands import table

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.one_backend


@pytest.fixture
def preset_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import preset_tables

    return preset_tables


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 9000
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if ":" not in link and not (ROOT / link).exists()] == []


def test_what_is_checked_before_a_commit_is_what_the_test_command_checks():
    hooks = re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = readme.split("<!-- tests -->\n```bash\n")[1].split("\n```")[0]
    checks = [part for part in command.split(" && ") if part.startswith(".venv/bin/")]
    assert [part for part in checks if not re.search("pip|pytest", part)] == hooks


def test_tables_of_presets_say_what_the_configs_say(preset_tables):
    """Row by row, read back off the pages."""
    assert preset_tables.stale_pages() == []
    rows = {}
    for path in (ROOT / "docs").glob("*/*.md"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(
                r"\| \[`(\w+)`\]\(\.\./\.\./zoo/(\w+)/card\.md\) +\| (.+) \|$", line
            ):
                assert match[1] == match[2]
                rows.setdefault(match[1], []).append([cell.strip() for cell in match[3].split("|")])
    assert set(rows) == {path.parent.name for path in (ROOT / "zoo").glob("*/config.json")}
    measured = 0
    for name, cells in rows.items():
        config = json.loads((ROOT / "zoo" / name / "config.json").read_text(encoding="utf-8"))
        task, scores = config["task"], config.get("scores")
        if task == "synthesis" and scores:
            [row] = [row for row in cells if len(row) == 10]
            assert float(row[1].split()[0]) == round(scores["nearest_iou"], 3)
            assert float(row[6].split()[0]) == round(scores["frechet_distance"], 1)
        elif task == "recovery" and scores:
            [row] = [row for row in cells if "IoU" in row[1]]
            assert row[1].startswith(f"{scores['absolute_error']:.4f}"[1:] + ",")
        else:
            continue
        measured += 1
    assert measured


def test_a_figure_that_was_typed_into_a_table_is_put_right(preset_tables):
    page = (
        "Before.\n\n<!-- presets: synthesis -->\n| `toilet` | .999 |\n<!-- end -->\n\nAfter .999.\n"
    )
    config = {
        "id": "synthesis_toilet_8",
        "task": "synthesis",
        "scores": {
            "nearest_iou": 0.5,
            "occupancy_ratio": 1,
            "frechet_distance": 2,
            "coverage": 0.25,
        }
        | {"copies": 0.21875, "empty": 0, "alike": 0},
        "real_scores": {
            "nearest_iou": 1,
            "occupancy_ratio": 1,
            "frechet_distance": 0,
            "coverage": 1,
            "copies": 0.28,
        },
        "training": {"core_minutes": 7.4},
    }
    again = preset_tables.fill_in(page, [config])
    assert again.startswith("Before.\n") and again.endswith("\n\nAfter .999.\n")
    assert ".999 |" not in again and "| .500 (1.000) |" in again
    assert "| .22 (.28); 0, 0 " in again  # a share of copies is no whole number
    with pytest.raises(ValueError, match="no table is called 'sofas'.*there is: every_preset"):
        preset_tables.fill_in("<!-- presets: sofas -->\n<!-- end -->", [config])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    options = ["-d", tmp_path / "doctrees", ".", tmp_path / "site"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    load = (site / "docs/reference/descnet3d/zoo/presets/index.html").read_text(encoding="utf-8")
    assert 'id="descnet3d.zoo.presets.load"' in load
    for notebook in (ROOT / "tutorials").glob("*.ipynb"):  # as executed: with pictures
        page = (site / "tutorials" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert '<img alt="../_images/' in page, notebook.stem
    front = (site / "index.html").read_text(encoding="utf-8")
    assert (site / re.search(r"url=([^\"]+)", front)[1]).is_file()


def commands_of_the_pages():
    """Every `descnet3d ...` that a page shows, with the page."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    pages += sorted((ROOT / "tutorials").glob("0*.py"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"\n# ", "\n", text) if page.suffix == ".py" else text
        shown = re.findall(r"`(descnet3d [^`]+)`", text)
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            shown += re.findall(r"(?:^|/bin/)(descnet3d .+)", "\n".join(lines), re.MULTILINE)
        shown += re.findall(r"^ {4}(descnet3d .+)$", text, re.MULTILINE)
        for command in shown:
            yield page.name, " ".join(command.split())


def test_every_command_of_the_pages_is_understood(monkeypatch):
    """Its name, its arguments and its flags; what they do is tested where they are."""
    monkeypatch.chdir(ROOT)
    understood = 0
    for page, line in commands_of_the_pages():
        words = shlex.split(re.split(r" [&|>#] ?| && ", line)[0])[1:]
        if not words or any(word in ("COMMAND", "…", "...") for word in words):
            continue
        command = next((one for one in table.COMMANDS if one.name == words[0]), None)
        assert command is not None, f"{page}: {line}"
        values = flags.FlagValues()
        command.define_flags(values)
        given = [word for word in words[1:] if word not in ("--help", "…")]
        try:
            left = values([words[0], *given])[1:]
        except flags.Error as error:
            raise AssertionError(f"{page}: {line}: {error}") from error
        assert len(left) <= len(command.arguments) or words[0] == "presets", f"{page}: {line}"
        understood += 1
    assert understood > 50
