"""What a damaged or hostile preset costs: one line, and no memory to speak of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_presets import KINDS

pytestmark = pytest.mark.one_backend
STAND_INS = Path(__file__).resolve().parents[1] / "stand_ins"
# In a process of its own, whose memory nobody else has used before.
CAMPAIGN = """
import json, resource, shutil, sys, time
from pathlib import Path
from hostile_presets import KINDS
from tiny_models import tiny_model
import descnet3d

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

root = Path(sys.argv[1])
whole = tiny_model().save_preset(root / "whole", task="synthesis", category="box")
descnet3d.load(whole)
print(json.dumps(["whole", "", 0, 0]))
for name, damage in KINDS.items():
    folder = root / "damaged"
    shutil.copytree(whole, folder)
    damage(folder)
    before, started, said = peak(), time.perf_counter(), "loaded"
    try:
        descnet3d.load(folder)
    except ValueError as error:
        said = str(error)
    except BaseException as error:
        said = f"{type(error).__name__} came through: {error}"
    print(json.dumps([name, said, peak() - before, time.perf_counter() - started]), flush=True)
    shutil.rmtree(folder)
descnet3d.load(whole)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What is said of each hostile preset, the megabytes and the seconds that it took."""
    root = tmp_path_factory.mktemp("hostile")
    done = subprocess.run(
        [sys.executable, "-c", CAMPAIGN, str(root)],
        env={**os.environ, "PYTHONPATH": str(STAND_INS), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: rest for name, *rest in rows}


def test_there_are_many_kinds():
    assert len(KINDS) >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_preset_is_refused_in_one_line_before_it_takes_memory_or_time(answers, kind):
    said, megabytes, seconds = answers[kind]
    assert "damaged/" in said and "through" not in said
    assert said.isprintable() and len(said) <= 600
    assert megabytes <= 150 and seconds <= 60
