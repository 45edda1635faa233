"""Files that are either complete or not there at all.

Everything the package writes goes through `replacing`: an interrupted run leaves the file of
before, never half of a new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

# No space, no quota, a file size that is not allowed, a disk that fails.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class OutputError(ValueError):
    """A file cannot be written where the caller asked for it; the message names the path."""


def check_writable(path: str | os.PathLike) -> Path:
    """Makes sure that a file can be written at `path`, before long work that ends in writing it.

    Args:
        path: where the file is to be. A file that is there already may be replaced later; it is
            left as it is now.

    Returns:
        The path of the file, symbolic links followed.

    Raises:
        OutputError: the folder does not exist or nothing can be created in it, or `path` is a
            folder, a device, or a file that is write-protected.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not os.path.isdir(target.parent):
        raise OutputError(
            f"cannot write {path}: the folder {target.parent} does not exist; create it first"
        )
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise OutputError(f"cannot write {path}: it is not an ordinary file; choose another")
        if not os.access(target, os.W_OK):
            raise OutputError(f"cannot write {path}: it is write-protected; choose another name")
    # Trying is the only test that also knows of read-only disks and quotas. Looking for the file
    # itself finds names that are too long.
    trial = _temporary_beside(target)
    try:
        with contextlib.suppress(FileNotFoundError):
            target.lstat()
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: nothing can be created in {target.parent} ({error.strerror}); "
            "choose another folder"
        ) from error
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
    missing = [folder for folder in (target, *target.parents) if not os.path.exists(folder)]
    made = []
    try:  # as in check_writable, trying is the only test
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        trial = _temporary_beside(target / "trial")
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write into {path}: nothing can be created there ({error.strerror}); choose "
            "another folder"
        ) from error
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else has put something into it
                folder.rmdir()
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
    temporary = _temporary_beside(target)
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OutputError(
                f"cannot write {path}: {error.strerror}; what was there before is as it was"
            ) from error
        try:
            os.replace(temporary, target)
        except FileNotFoundError as error:
            raise OutputError(f"cannot write {path}: its writer left no file behind") from error
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    # The name's own end is kept, at a length that leaves room for the token within the 255 bytes
    # that file systems allow.
    return target.with_name(f".{secrets.token_hex(6)}-{target.name[-60:]}")
