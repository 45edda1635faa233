"""Numpy's files (`.npy`, `.npz`), read without trusting what they claim.

Headers are checked before memory is set aside, Python objects are never read, and whatever is wrong
with a file is a ValueError that names it.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from descnet3d.files import check_ordinary

# An array that claims more than this is damaged or hostile.
MAX_BYTES = 2**33
MAX_HEADER = 10_000


class Wanted(NamedTuple):
    """What an array must be.

    Attributes:
        shape: its shape.
        kinds: the letters that numpy has for its kind of values: "f" for floats, "iu" for integers.
    """

    shape: tuple[int, ...]
    kinds: str

    @property
    def words(self) -> str:
        """Its kind, for a message."""
        return {"f": "floats", "iu": "integers", "b": "booleans"}[self.kinds]


def read_arrays(
    path, wanted: Mapping[str, Wanted], file: BinaryIO | None = None
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file that has to hold just these, of finite numbers.

    Args:
        path: where it is.
        wanted: what each array must be.
        file: the file, where it is open already.

    Raises:
        ValueError: the file is missing or damaged, or an array is missing, left over, of another
            shape or kind, or not finite; no memory is set aside before it is known to fit.
    """
    with OpenArchive(path, file) as archive:
        for key in [*wanted, *sorted(archive.keys)]:
            if key not in archive.keys:
                raise ValueError(f"{path} has no {key}")
            if key not in wanted:
                raise ValueError(f"{path} holds {key}, which is left over")
        arrays = {key: archive.read(key, each) for key, each in wanted.items()}
    for key, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{path}, key {key!r}, holds values that are not finite")
    return arrays


def read_bytes(path) -> bytes:
    """The content of a file.

    Raises:
        ValueError: the file is missing, too large, no ordinary one, or cannot be read.
    """
    try:
        check_ordinary(path)
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(
                f"{path} is longer than the {MAX_BYTES} bytes of the largest file that is read"
            )
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
)


class OpenArchive:
    """An `.npz` file whose arrays are looked at before memory is set aside for them.

    Args:
        path: where it is.
        file: the file, where it is open already; whoever opened it closes it.

    Attributes:
        path: where it is.
        keys: the names of its arrays.

    Raises:
        ValueError: the file is missing, damaged, or no archive.
    """

    def __init__(self, path, file: BinaryIO | None = None):
        self.path = path
        try:
            check_ordinary(path)
            self._zip = zipfile.ZipFile(file or path)
        except FileNotFoundError as error:
            raise ValueError(f"there is no file {path}") from error
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        # Beside BadZipFile, zipfile lets the errors of its own parsing through.
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise ValueError(
                f"{path} is not an .npz archive, or is cut short ({error}); get it again"
            ) from error
        self.keys = {name.removesuffix(".npy") for name in self._zip.namelist()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape that the array of one key claims; None where it claims nothing readable."""
        try:
            with self._zip.open(f"{key}.npy") as stream:
                return _read_header(stream, str(self.path))[0]
        except (ValueError, KeyError, OSError, *_DAMAGES):
            return None

    def read(self, key: str, wanted: Wanted | None = None) -> np.ndarray:
        """The array of one key; a ValueError where it is missing, damaged, or none that is wanted.

        Args:
            key: its name.
            wanted: what it must be, which is compared before memory is set aside.
        """
        if key not in self.keys:
            raise ValueError(
                f"{self.path} has no key {key!r}; it holds: {', '.join(sorted(self.keys)) or '-'}"
            )
        try:
            info = self._zip.getinfo(f"{key}.npy")
            with self._zip.open(info) as stream:
                where = f"{self.path}, key {key!r},"
                values = parse_npy(stream, info.file_size, where, wanted)
                if stream.read(1):  # at the end of a member its checksum is compared
                    raise ValueError(f"{where} holds more than its array; the file is damaged")
                return values
        except (OSError, KeyError, *_DAMAGES) as error:
            raise ValueError(
                f"{self.path} is damaged at key {key!r} ({error}); get it again"
            ) from error


class StreamedArray:
    """An array of an `.npy` file, or of an `.npz` file's member, of which some rows are in memory.

    Args:
        path: the file.
        key: the array of an `.npz` file; None for an `.npy` file.

    Attributes:
        shape: its shape.
        dtype: its type.
        is_in_rows: whether its rows follow each other in the file; else they can't be read.

    Raises:
        ValueError: the file is missing or damaged, or claims more than it has.
    """

    def __init__(self, path, key: str | None = None):
        self._where = str(path) if key is None else f"{path}, key {key!r},"
        with self._damage_told():
            check_ordinary(path)
            if key is None:
                self._stream, size = open(path, "rb"), os.stat(path).st_size  # noqa: SIM115
            else:
                archive = zipfile.ZipFile(path)
                info = archive.getinfo(f"{key}.npy")
                self._stream, size = archive.open(info), info.file_size  # type: ignore[assignment]
            self.shape, is_fortran, self.dtype = _checked_header(self._stream, size, self._where)
            self._begin = self._stream.tell()
        self.is_in_rows = not is_fortran
        self._row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows; those that follow what was read last come fastest."""
        stop = min(stop, self.shape[0])
        with self._damage_told():
            self._stream.seek(self._begin + start * self._row_bytes)
            content = self._stream.read((stop - start) * self._row_bytes)
            if stop == self.shape[0] and self._stream.read(1):  # a member's checksum is compared
                raise ValueError(f"{self._where} holds more than its array; the file is damaged")
        if len(content) < (stop - start) * self._row_bytes:
            raise ValueError(f"{self._where} is cut short; get it again")
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self.shape[1:])

    @contextlib.contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, *_DAMAGES) as error:
            raise ValueError(f"{self._where} cannot be read ({error}); get it again") from error


def parse_npy(stream, available: int, where: str, wanted: Wanted | None = None) -> np.ndarray:
    """The array of an `.npy` stream of `available` bytes, at most 2³³ of them."""
    shape, is_fortran, dtype = _checked_header(stream, available, where, wanted)
    count = math.prod(shape)
    needed = count * dtype.itemsize
    content = bytearray()  # grows with what comes: a zip's own word for it may be a lie too
    while len(content) < needed:
        piece = stream.read(min(needed - len(content), 2**24))
        if not piece:
            raise ValueError(f"{where} is cut short; get it again")
        content += piece
    values = np.frombuffer(content, dtype=dtype, count=count)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _checked_header(
    stream, available: int, where: str, wanted: Wanted | None = None
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """As `_read_header`, of an array that is wanted and for which there are enough bytes."""
    shape, is_fortran, dtype = _read_header(stream, where)
    if dtype.hasobject:
        raise ValueError(f"{where} holds Python objects, which are never read; store numbers")
    if any(side < 0 for side in shape) or dtype.itemsize == 0:
        raise ValueError(f"{where} claims the shape {list(shape)}; the file is damaged")
    if wanted is not None and shape != wanted.shape:
        raise ValueError(f"{where} has the shape {list(shape)}, not {list(wanted.shape)}")
    if wanted is not None and dtype.kind not in wanted.kinds:
        raise ValueError(f"{where} holds values of the type {dtype}, not {wanted.words}")
    needed = math.prod(shape) * dtype.itemsize  # in Python's integers, which do not wrap round
    if needed > MAX_BYTES or needed > available - stream.tell():
        raise ValueError(
            f"{where} claims the shape {list(shape)} and is too short for it or too large to read"
        )
    return shape, is_fortran, dtype


def _read_header(stream, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis runs fastest, and type."""
    try:
        version = npy_format.read_magic(stream)
        length = int.from_bytes(stream.read({(1, 0): 2, (2, 0): 4, (3, 0): 4}[version]), "little")
        if length > MAX_HEADER:  # numpy would read it all before it says so
            raise ValueError
        header = length.to_bytes(2, "little") + stream.read(length)
        return npy_format.read_array_header_1_0(io.BytesIO(header))
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise
    except Exception as error:  # the header is Python text, whose parser raises all kinds
        raise ValueError(f"{where} is not a numpy array, or is cut short") from error
