"""Work on files that are not trusted, in processes that may die of it.

Each task goes to a process of its own kind, which answers one at a time. A task that takes the
process down with it, or takes too long or too much memory, is that task's failure and no other's.
Nothing is forked (TensorFlow's threads do not survive that) and the caller's program is not
imported a second time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from descnet3d.startup import available_cores

MEMORY_BYTES = 2**32
SECONDS = 600.0
_HEADER = struct.Struct("<?Q")


class Failure(NamedTuple):
    """A task that was not done.

    Attributes:
        reason: why, in a few words.
    """

    reason: str


def map_in_processes(
    target: str,
    tasks: Iterable[Any],
    workers: int | None = None,
    *,
    seconds: float = SECONDS,
    memory: int = MEMORY_BYTES,
) -> Iterator[bytes | Failure]:
    """Gives each task to a function that runs in other processes.

    Args:
        target: the function, as "module:name". It takes one task and returns bytes; the message of
            a ValueError that it raises becomes the reason of a failure.
        tasks: what JSON can say. They are taken as they are needed.
        workers: how many processes; as many as this process has cores where None.
        seconds: a task that takes longer fails.
        memory: a task that takes more bytes fails, where the system can tell.

    Returns:
        For each task, in order, what the function returned, or its failure; it comes as soon as it
        is there.

    Raises:
        ValueError: `workers` is not a positive number.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, but it is {workers}.")
    return _map(target, tasks, workers or available_cores(), seconds, memory)


def _map(
    target: str, tasks: Iterable[Any], count: int, seconds: float, memory: int
) -> Iterator[bytes | Failure]:
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    everyone = [Worker(target, seconds, memory) for _ in range(count)]
    for worker in everyone:
        idle.put(worker)

    def ask(task: Any) -> bytes | Failure:
        worker = idle.get()
        try:
            return worker.ask(task)
        finally:
            idle.put(worker)

    pending: deque[Future[bytes | Failure]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for task in tasks:
            pending.append(pool.submit(ask, task))
            if len(pending) >= 4 * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for worker in everyone:
            worker.close()
        pool.shutdown()


class Worker:
    """One process, started when it is first asked, and again after it died.

    Args:
        target: as `map_in_processes` takes it, and so `seconds` and `memory`.
        seconds: see there.
        memory: see there.
    """

    def __init__(self, target: str, seconds: float = SECONDS, memory: int = MEMORY_BYTES):
        self._command = [sys.executable, "-P", "-c", _PROGRAM, target, str(memory)]
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115

    def ask(self, task: Any) -> bytes | Failure:
        """What the function makes of a task, or why it made nothing."""
        with self._lock:
            if self._closed:
                return Failure("was not begun")
            if self._process is None:
                self._process = self._start()
            process = self._process
        overdue = threading.Event()

        def stop():
            overdue.set()
            process.kill()

        timer = threading.Timer(self._seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(task).encode("ascii") + b"\n")
            process.stdin.flush()
            is_done, length = _HEADER.unpack(process.stdout.read(_HEADER.size))
            content = process.stdout.read(length)
            if len(content) == length:
                return content if is_done else Failure(content.decode("utf-8", "replace"))
        except (OSError, ValueError, struct.error):
            pass
        finally:
            timer.cancel()
        try:  # its end explains itself, if it is let come to it
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        with self._lock:
            self._process = None
        if overdue.is_set():
            return Failure(f"took more than {self._seconds:g} seconds")
        return Failure(f"took its process down with it ({self._last_words(status)})")

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        self._errors.close()

    def _start(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).resolve().parents[2])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([package, *filter(None, sys.path)]),
            # The cores are all taken by processes.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )

    def _last_words(self, status: int) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").split("\n")
            spoken = [line.strip() for line in lines if line.strip()]
            if status >= 0 and spoken:
                return spoken[-1]
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"status {status}"


_PROGRAM = (
    "import sys; from descnet3d.datasets.workers import serve; serve(sys.argv[1], int(sys.argv[2]))"
)


def serve(target: str, memory: int) -> None:
    """Answers tasks from standard input until it ends: the main program of such a process.

    Args:
        target: the function, as `map_in_processes` takes it.
        memory: how many bytes this process may come to have.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit_memory(memory)
    module, _, name = target.partition(":")
    function: Callable[[Any], bytes] = getattr(importlib.import_module(module), name)
    for line in sys.stdin.buffer:
        try:
            is_done, content = True, function(json.loads(line))
        except MemoryError:
            is_done, content = False, f"takes more than {memory / 2**30:.3g} GiB of memory".encode()
        except ValueError as error:
            is_done, content = False, str(error).encode("utf-8", "replace")
        except Exception as error:
            is_done, content = False, f"{type(error).__name__}: {error}".encode("utf-8", "replace")
        answers.write(_HEADER.pack(is_done, len(content)) + content)
        answers.flush()


def _limit_memory(memory: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        _, highest = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory, highest))
