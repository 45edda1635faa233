"""The presets that were fetched, kept under names that their contents give them.

A preset comes into the cache whole, by one rename, under a lock that the operating system takes
away from a process that dies. It can be read without the lock, and where nothing can be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from descnet3d import json_files
from descnet3d.files import replacing
from descnet3d.models.preset_config import PresetWarning
from descnet3d.zoo import downloads, preset_files
from descnet3d.zoo.preset_files import FileRecord

VARIABLE = "DESCNET3D_CACHE"


def root() -> Path:
    """The folder of the cache: `DESCNET3D_CACHE`, or where the system keeps such things."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("descnet3d")


def find(preset_id: str, files: Mapping[str, FileRecord]) -> Path | None:
    """The folder of a preset that was fetched before, verified; None where it is not whole."""
    folder = place(preset_id, files)
    return folder if folder.is_dir() and not preset_files.damaged(folder, files) else None


def place(preset_id: str, files: Mapping[str, FileRecord]) -> Path:
    """Where a preset lies in the cache, or would."""
    return root() / "presets" / preset_files.key(preset_id, files)


def fetch(
    preset_id: str,
    files: Mapping[str, FileRecord],
    address_of: Callable[[str], str],
) -> Path:
    """The folder of a preset in the cache, fetched where it is not there.

    Args:
        preset_id: the preset.
        files: what its files must be.
        address_of: the address of a file, by its name.

    Returns:
        The folder; its files are verified.

    Raises:
        DownloadError: it cannot be fetched, or cannot be kept.
    """
    folder = find(preset_id, files)
    if folder is not None:
        return folder
    folder = place(preset_id, files)
    parts = root() / "parts" / folder.name
    with _locked(folder.name):
        found = find(preset_id, files)  # another process may have been quicker
        if found is not None:
            return found
        if folder.exists():
            wrong = ", ".join(preset_files.damaged(folder, files))
            warnings.warn(
                f"{folder} is damaged ({wrong}), and is fetched anew", PresetWarning, stacklevel=2
            )
        with _cache_errors("fetch into"):
            parts.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            downloads.fetch_file(address_of(name), parts / name, file.sha256, file.size)
        with _cache_errors("move into"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            parts.rename(folder)
    return folder


def remove(folder: Path) -> None:
    """Removes a preset from the cache.

    Raises:
        DownloadError: it cannot be removed.
    """
    with _locked(folder.name), _cache_errors("remove from"):
        shutil.rmtree(folder)


def remember(address: str, content: Mapping[str, Any]) -> None:
    """Keeps what was found at an address, for when it cannot be reached; where that is possible."""
    with contextlib.suppress(OSError, ValueError):
        path = _memory(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"address": address, **content}), encoding="utf-8")


def remembered(address: str) -> dict[str, Any] | None:
    """What was kept of an address; None where nothing was, or it is damaged."""
    try:
        content = json_files.read_object(_memory(address))
    except ValueError:
        return None
    return content if content.get("address") == address else None


def warn_of_kept_copy(error: Exception) -> None:
    """Warns that what was fetched earlier is taken, and says why."""
    warnings.warn(
        f"{error}; what was fetched from there last is taken instead", PresetWarning, stacklevel=4
    )


def _memory(address: str) -> Path:
    return root() / "addresses" / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.json"


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Keeps other processes from the same preset."""
    import filelock

    with _cache_errors("lock a file in"):
        folder = root() / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock")
        try:
            lock.acquire()
        except NotImplementedError as error:
            raise OSError(0, "its file system knows no locks") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _cache_errors(deed: str) -> Iterator[None]:
    """Raises what the system refuses as a DownloadError that says where, and what to do."""
    try:
        yield
    except OSError as error:
        raise downloads.DownloadError(
            f"cannot {deed} the cache {root()}: {error.strerror or error}; set {VARIABLE} to a "
            "folder that can be written"
        ) from error
