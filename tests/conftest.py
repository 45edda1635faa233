"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The folders of the package that ask for no backend, as import-linter sees to.
NO_BACKEND = ("datasets", "shapes")
# A wheel holds some of the presets; the others lie beside the tests.
os.environ["DESCNET3D_ZOO"] = str(ROOT / "zoo")
# As `descnet3d.startup` has it, which tests that import Keras come before.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# What a shell without job control starts in the background ignores Ctrl-C, and so do its children.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Where several processes share the tests out (pytest -n), they share the cores out too.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    threads = str(max(1, (os.cpu_count() or 1) // int(workers)))
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out on PyTorch what TensorFlow's run has looked at already, and says so."""
    import keras  # not before the threads are set

    if keras.backend.backend() == "tensorflow":
        return
    reason = "knows no backend, or what could differ is compared elsewhere"
    for item in items:
        if item.get_closest_marker("one_backend") or item.path.parent.name in NO_BACKEND:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def kept_memory() -> None:
    """As the commands have it: what is freed is kept for what comes next."""
    from descnet3d.commands import outputs

    outputs.keep_freed_memory()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache that nothing was fetched into before."""
    os.environ["DESCNET3D_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real shapes that lies beside the project, or a skip where there is none."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real shapes in shared/data beside the project")
    return folder


@pytest.fixture(scope="session")
def modelnet10(data_folder: Path) -> Path:
    """The archive of all of ModelNet10 on 32³ grids."""
    path = data_folder / "modelnet10_32.npz"
    if not path.is_file():
        pytest.skip("needs modelnet10_32.npz in shared/data beside the project")
    return path
