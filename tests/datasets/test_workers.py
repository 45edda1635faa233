"""Work in other processes: whatever a task does, the others are done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from descnet3d.datasets.workers import Failure, map_in_processes

PROGRAM = """
import os, time
def work(task):
    kind, value = task
    if kind == "die":
        os._exit(value)
    if kind == "kill":
        os.kill(os.getpid(), value)
    if kind == "sleep":
        time.sleep(value)
    if kind == "refuse":
        raise ValueError(value)
    if kind == "break":
        raise KeyError(value)
    if kind == "take":
        return b"x" * len(bytearray(value))
    if kind == "print":
        print(value, flush=True)
        os.write(1, b"noise")
    return str(value).encode()
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    (tmp_path / "program_of_a_test.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "program_of_a_test:work"


def test_answers_come_in_the_order_of_the_tasks(target):
    tasks = [("sleep", 0.2 if index == 0 else 0.0) for index in range(10)]
    tasks = [
        (kind, value) if value else ("say", index) for index, (kind, value) in enumerate(tasks)
    ]
    found = list(map_in_processes(target, tasks, 2))
    assert found == [b"0.2", *[str(index).encode() for index in range(1, 10)]]


def test_a_task_that_fails_leaves_the_others_alone(target):
    tasks = [("say", 0), ("die", 3), ("refuse", "is empty"), ("kill", 11), ("break", "x")]
    tasks += [("print", "hello"), ("say", "ü")]
    found = list(map_in_processes(target, tasks, 2))
    assert found[0] == b"0" and found[5] == b"hello" and found[6] == "ü".encode()
    assert found[2] == Failure("is empty")
    assert found[1] == Failure("took its process down with it (status 3)")
    assert found[3] == Failure("took its process down with it (SIGSEGV)")
    assert found[4] == Failure("KeyError: 'x'")


def test_time_and_memory_have_limits(target):
    tasks = [("sleep", 60), ("take", 2**34), ("say", 1)]
    started = time.monotonic()
    found = list(map_in_processes(target, tasks, 2, seconds=2.0, memory=2**31))
    assert time.monotonic() - started < 30
    assert found[0] == Failure("took more than 2 seconds")
    assert found[1] == Failure("takes more than 2 GiB of memory")
    assert found[2] == b"1"


def test_a_target_that_cannot_be_imported_is_every_tasks_reason():
    [found] = map_in_processes("descnet3d.none:work", [1], 1)
    assert "No module named 'descnet3d.none'" in found.reason


def test_whoever_stops_asking_leaves_no_process_behind(target):
    tasks = iter([("say", 0), *[("sleep", 60)] * 100])
    found = map_in_processes(target, tasks, 2)
    before = children()
    assert next(found) == b"0"
    assert len(children() - before) == 2
    started = time.monotonic()
    found.close()
    assert time.monotonic() - started < 10
    assert not children() - before


def children() -> set[int]:
    while True:
        lists = list(Path("/proc/self/task").glob("*/children"))  # a list for each thread
        if not lists:
            pytest.skip("needs Linux's lists of child processes")
        try:
            return {int(each) for path in lists for each in path.read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread ended meanwhile, and another has its children now


def test_tasks_are_taken_as_they_are_needed(target):
    taken = []

    def tasks():
        for index in range(1000):
            taken.append(index)
            yield "say", index

    found = map_in_processes(target, tasks(), 1)
    assert next(found) == b"0"
    assert len(taken) < 20
    found.close()
