"""Zip files from strangers, whose members are checked before one of them is unpacked.

Nothing is unpacked under a name of the archive's own: a member's content goes to a file that the
caller names, so that nothing can land anywhere else. What an archive claims of its sizes is checked
against the file it came in, and what comes out is counted.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# ModelNet40 is 2 GB packed and 10 GB unpacked, in 12,311 members; its voxels have 148 thousand.
MAX_TOTAL_BYTES = 2**36
MAX_MEMBER_BYTES = 2**30
# Meshes as text shrink to a fifth, at most to a tenth; a bomb to a thousandth.
MAX_RATIO = 200
_FREE_OF_RATIO = 2**20
# The table of contents; one entry takes at least 46 bytes of it, and ten times that in memory.
_MAX_TABLE_BYTES = 2**26
_PIECE = 2**20


class ArchiveError(ValueError):
    """An archive is damaged, or holds what no honest archive holds; the message names it."""


class ZipArchive:
    """A zip file whose members have all been checked.

    Attributes:
        path: where it is.
        names: its files, in its order, as paths inside the archive with `/`; folders are left out.

    Raises:
        ArchiveError: the file is missing, damaged or no zip, or a member points outside, is a
            link or a device, is encrypted, is there twice, or unpacks to more than is believable.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._source: BinaryIO | None = None
        try:
            self._source = _ModestReader(io.FileIO(self.path))
            self._zip = zipfile.ZipFile(self._source)
        except FileNotFoundError as error:
            raise ArchiveError(f"there is no file {path}") from error
        except OSError as error:
            self.close()
            raise ArchiveError(f"{path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            self.close()
            raise ArchiveError(
                f"{path} claims that its names are UTF-8, and {error.object!r} is not; pack it anew"
            ) from error
        # Beside BadZipFile, zipfile lets the errors of its own parsing through.
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            self.close()
            raise ArchiveError(
                f"{path} is not a zip archive, or is cut short ({error}); get it again"
            ) from error
        try:
            self._members = dict(self._checked())
        except BaseException:
            self.close()
            raise
        self.names = tuple(self._members)

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._source is not None:
            self._source.close()

    def unpack(self, name: str, target: str | os.PathLike) -> Path:
        """Writes the content of one member to a file.

        Args:
            name: one of `names`.
            target: the file to write; one that is there is replaced, a link is not followed.

        Returns:
            The path of the file.

        Raises:
            ArchiveError: the member is damaged; no file is left behind.
        """
        target = Path(target)
        target.unlink(missing_ok=True)
        try:
            with open(target, "xb") as file:
                for piece in self._pieces(name):
                    file.write(piece)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return target

    def read(self, name: str) -> bytes:
        """The content of one member, as bytes.

        Raises:
            ArchiveError: the member is damaged.
        """
        return b"".join(self._pieces(name))

    def _pieces(self, name: str) -> Iterator[bytes]:
        info = self._members[name]
        count = 0
        try:
            with self._zip.open(info) as stream:
                while piece := stream.read(_PIECE):
                    count += len(piece)
                    if count > info.file_size:
                        raise ArchiveError(
                            f"{self.path}: {name!r} unpacks to more than the {info.file_size} "
                            "bytes that it claims; the archive is not to be trusted"
                        )
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise ArchiveError(
                f"{self.path} is damaged at {name!r} ({error}); get it again"
            ) from error
        if count != info.file_size:
            raise ArchiveError(f"{self.path} is damaged at {name!r}: it is cut short; get it again")

    def _checked(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        packed = unpacked = 0
        seen = set()
        size = os.path.getsize(self.path)
        for info in self._zip.infolist():
            name = self._check_name(info.filename)
            if name in seen:
                self._refuse(name, "is there twice")
            seen.add(name)
            self._check_kind(name, info)
            packed += info.compress_size
            unpacked += info.file_size
            if packed > size:
                self._refuse(name, f"claims bytes that the file of {size} bytes does not have")
            if info.file_size > MAX_MEMBER_BYTES or unpacked > MAX_TOTAL_BYTES:
                self._refuse(name, f"would unpack to {info.file_size} bytes, {unpacked} in all")
            if info.file_size > max(_FREE_OF_RATIO, MAX_RATIO * info.compress_size):
                self._refuse(
                    name, f"would unpack from {info.compress_size} to {info.file_size} bytes"
                )
            if not info.is_dir() and not info.filename.endswith("\\"):
                yield name, info

    def _check_name(self, name: str) -> str:
        # Some packers of Windows part folders by backslashes, and some of Unix begin with "./".
        parts = name.replace("\\", "/").removesuffix("/").split("/")
        if ".." in parts:
            self._refuse(name, "points outside the archive")
        if name.startswith(("/", "\\")) or name[1:2] == ":":
            self._refuse(name, "is an absolute path")
        while len(parts) > 1 and parts[0] == ".":
            parts = parts[1:]
        if any(part in ("", ".") for part in parts) and name not in (".", "./"):
            self._refuse(name, "is no plain path with / between its parts")
        return "/".join(parts)

    def _check_kind(self, name: str, info: zipfile.ZipInfo) -> None:
        mode = info.external_attr >> 16  # what Unix packers keep of the file; else 0
        if stat.S_ISLNK(mode):
            self._refuse(name, "is a symbolic link")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            self._refuse(name, "is neither a file nor a folder")
        if info.flag_bits & 0x1:
            self._refuse(name, "is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self._refuse(name, "is packed in a way that is not read; pack it by deflate")

    def _refuse(self, name: str, reason: str) -> None:
        raise ArchiveError(f"{self.path} is refused, with nothing unpacked: {name!r} {reason}")


class _ModestReader(io.BufferedReader):
    """Refuses to read in one go what only an absurd table of contents is as long as."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_TABLE_BYTES:
            raise ValueError(f"its table of contents takes {size} bytes")
        return super().read(size)
