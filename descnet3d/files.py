"""Files that are either complete or not there at all.

Everything the package writes goes through `replacing`: an interrupted run leaves the file of
before, never half of a new one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# No space, no quota, a file size that is not allowed, a disk that fails.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class OutputError(ValueError):
    """A file cannot be written where the caller asked for it; the message names the path."""


def check_writable(path: str | os.PathLike) -> Path:
    """Makes sure that a file can be written at `path`, before long work that ends in writing it.

    Args:
        path: where the file is to be; the folders that it lies in need not be there yet. A file
            that is there already may be replaced later; everything is left as it is now.

    Returns:
        The path of the file, symbolic links followed.

    Raises:
        OutputError: the folder cannot be made or nothing can be created in it, or `path` is a
            folder, a device, or a file that is write-protected.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise OutputError(f"cannot write {path}: it is not an ordinary file; choose another")
        if not os.access(target, os.W_OK):
            raise OutputError(f"cannot write {path}: it is write-protected; choose another name")
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # finds names that are too long
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another name") from error
    check_folder_writable(target.parent)
    return target


def check_folder_writable(path: str | os.PathLike) -> Path:
    """Makes sure that files can be written in a folder, before long work that ends in writing them.

    Args:
        path: the folder. It need not be there yet, nor the folders it lies in; everything is left
            as it is now.

    Returns:
        The path of the folder, symbolic links followed.

    Raises:
        OutputError: `path` is a file, or it cannot be made, or nothing can be created in it.
    """
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isdir(target):
        raise OutputError(f"cannot write into {path}: it is not a folder; choose another name")
    nearest = next(folder for folder in (target, *target.parents) if os.path.exists(folder))
    try:  # trying is the only test that also knows of read-only disks and quotas
        # The missing folders are made in one of our own: other workers make and remove theirs.
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=nearest) as own:
            trial = Path(own) / target.relative_to(nearest)
            trial.mkdir(parents=True, exist_ok=True)
            (trial / "trial").touch()
    except OSError as error:
        raise OutputError(
            f"cannot write into {path}: nothing can be created there ({error.strerror}); choose "
            "another folder"
        ) from error
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Writes a file whole or not at all.

    The block writes to the path it is given, which lies beside `path` and ends the same way, so
    that writers which go by the ending (`.npz`, `.weights.h5`) do the same thing. When the block
    ends, that file takes the place of `path` in one step; when it raises, the file is removed and
    `path` is as it was.

    Args:
        path: where the file is to be.

    Yields:
        The temporary path to write to. No file is there yet.

    Raises:
        OutputError: as in `check_writable`, the disk is full, or the block wrote nothing.
    """
    target = check_writable(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target.parent)
    temporary = _temporary_beside(target)
    try:
        with telling_of_full_disks(path):
            yield temporary
        try:
            os.replace(temporary, target)
        except FileNotFoundError as error:
            raise OutputError(f"cannot write {path}: its writer left no file behind") from error
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def telling_of_full_disks(path: str | os.PathLike) -> Iterator[None]:
    """Raises what a writer says of a full disk as an error that names the file.

    Raises:
        OutputError: there is no room for the file.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            reason = error.strerror
        elif isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
            reason = f"the disk may be full ({error})"  # numpy's have no number
        else:  # TensorFlow has errors of its own
            known = [os.strerror(number) for number in _FULL]
            reason = next((each for each in known if each in str(error)), "")
            if not reason:
                raise
        raise OutputError(
            f"cannot write {path}: {reason}; make room, or choose another place. What was there "
            "before is as it was"
        ) from error


def check_ordinary(path: str | os.PathLike) -> None:
    """Makes sure that reading a file comes to an end: a device or a pipe may never come to one.

    Raises:
        OSError: `path` is there, and is neither a file nor a folder, nor a link to one.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OSError(errno.EINVAL, "it is not an ordinary file", os.fspath(path))


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    check_ordinary(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered(path: str | os.PathLike, count: int) -> tuple[Path, ...]:
    """The names under which `count` files are kept that one path was given for.

    Args:
        path: the path asked for, say `chairs.ply`.
        count: the number of files.

    Returns:
        `path` itself for one file, else `chairs_00.ply`, `chairs_01.ply` and so on, with as many
        digits as the last needs, at least two, so that they sort in their order.
    """
    path = Path(path)
    if count == 1:
        return (path,)
    digits = max(2, len(str(count - 1)))
    return tuple(
        path.with_name(f"{path.stem}_{index:0{digits}d}{path.suffix}") for index in range(count)
    )


def _temporary_beside(target: Path) -> Path:
    # The name's own end is kept, at a length that leaves room for the rest within the 255 bytes
    # that file systems allow.
    return target.with_name(
        f".{_here()}-{os.getpid():x}-{secrets.token_hex(3)}-{target.name[-55:]}"
    )


@functools.cache
def _here() -> str:
    """Six letters for this machine, or this container: where a process's number means something."""
    try:
        numbered_in = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        numbered_in = 0
    return hashlib.sha256(f"{platform.node()} {numbered_in}".encode()).hexdigest()[:6]


@functools.cache
def _clear_leftovers(folder: Path) -> None:
    """Removes, once in a process, the temporary files of writers that were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = re.match(r"\.([0-9a-f]{6})-([0-9a-f]{1,8})-[0-9a-f]{6}-", entry.name)
            if found and not _is_being_written(entry, found[1], int(found[2], 16)):
                os.unlink(entry.path)


def _is_being_written(entry: os.DirEntry, where: str, process: int) -> bool:
    if where != _here():  # nobody can ask; but no file takes a day
        return time.time() - entry.stat().st_mtime < 24 * 3600
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
