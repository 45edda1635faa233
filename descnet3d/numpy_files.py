"""Numpy's files (`.npy`, `.npz`), read without trusting what they claim.

Headers are checked before memory is set aside, Python objects are never read, and whatever is wrong
with a file is a ValueError that names it.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

# An array that claims more than this is damaged or hostile.
MAX_BYTES = 2**33


def read_bytes(path) -> bytes:
    """The content of a file.

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


class OpenArchive:
    """An `.npz` file whose arrays are looked at before memory is set aside for them.

    Attributes:
        path: where it is.
        keys: the names of its arrays.

    Raises:
        ValueError: the file is missing, damaged, or no archive.
    """

    def __init__(self, path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
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

    def read(self, key: str) -> np.ndarray:
        """The array of one key; a ValueError where it is missing or damaged."""
        if key not in self.keys:
            raise ValueError(
                f"{self.path} has no key {key!r}; it holds: {', '.join(sorted(self.keys)) or '-'}"
            )
        try:
            info = self._zip.getinfo(f"{key}.npy")
            with self._zip.open(info) as stream:
                return parse_npy(stream, info.file_size, f"{self.path}, key {key!r},")
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            KeyError,
            NotImplementedError,
            RuntimeError,  # an encrypted member
        ) as error:
            raise ValueError(
                f"{self.path} is damaged at key {key!r} ({error}); get it again"
            ) from error


def parse_npy(stream, available: int, where: str) -> np.ndarray:
    """The array of an `.npy` stream of `available` bytes, at most 2³³ of them."""
    try:
        version = npy_format.read_magic(stream)
        read_header = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(stream)
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise
    except Exception as error:  # the header is Python text, whose parser raises all kinds
        raise ValueError(f"{where} is not a numpy array, or is cut short") from error
    if dtype.hasobject:
        raise ValueError(f"{where} holds Python objects, which are never read; store numbers")
    if any(side < 0 for side in shape) or dtype.itemsize == 0:
        raise ValueError(f"{where} claims the shape {list(shape)}; the file is damaged")
    count = 1
    for side in shape:  # in Python's integers, which do not wrap round
        count *= side
    needed = count * dtype.itemsize
    if needed > MAX_BYTES or needed > available - stream.tell():
        raise ValueError(
            f"{where} claims the shape {list(shape)} and is too short for it or too large to read"
        )
    content = bytearray(needed)
    filled = 0
    while filled < needed:
        piece = stream.read(min(needed - filled, 2**24))
        if not piece:
            raise ValueError(f"{where} is cut short; get it again")
        content[filled : filled + len(piece)] = piece
        filled += len(piece)
    stream.read()  # at the end of a zip member its checksum is compared
    values = np.frombuffer(content, dtype=dtype, count=count)
    return values.reshape(shape, order="F" if is_fortran else "C")
