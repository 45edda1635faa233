"""MATLAB's files of version 5 (to 7.2), read with every length and type checked.

Written by hand, since `scipy.io.loadmat` dies of damaged ones. Numbers and words alone are read.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# An array of more elements than this is damaged or hostile.
MAX_ELEMENTS = 2**28
# Deflate packs zeros to a thousandth and no further.
MOST_PACKED = 1100
_HEADER_BYTES = 128
_ORDERS = {b"IM": "<", b"MI": ">"}
_CLASSES = (
    "", "cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8", "int16",
    "uint16", "int32", "uint32", "int64", "uint64", "function", "opaque",
)  # fmt: skip
NUMBERS = {*_CLASSES[6:16], "logical", "char"}
_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2", 18: "u4",
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
# Flags, dimensions and a name of 63 letters take far less.
_DESCRIPTION_BYTES = 2**12


class Variable(NamedTuple):
    """A variable of a file.

    Attributes:
        name: its name.
        shape: as MATLAB has it; `()` where it is of a class without one.
        kind: its class, as MATLAB calls it.
        is_complex: whether there are imaginary numbers.
        order: "<" or ">".
        content: its element in the file, packed or not.
        is_packed: whether it is packed.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    is_complex: bool
    order: str
    content: memoryview
    is_packed: bool

    def read(self) -> np.ndarray:
        """The numbers, of the type that they are kept in; words as text.

        Raises:
            ValueError: they are not all there, or of a type that there is not.
        """
        content = _unpacked(self.content, self.order, None) if self.is_packed else self.content
        elements = _elements(content, self.order)
        for _ in range(3):  # flags, dimensions and name
            next(elements)
        kind, data = next(elements, (0, memoryview(b"")))
        if kind not in _TYPES:
            raise ValueError(f"{self.name} has no numbers of a known type")
        count = math.prod(self.shape)
        dtype = np.dtype(self.order + _TYPES[kind])
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{self.name} claims {count} numbers, and holds {len(data)} bytes")
        values = np.frombuffer(data, dtype).reshape(self.shape, order="F")
        if self.kind == "char":
            return np.array("".join(map(chr, values.ravel().tolist())))
        return values


def is_version_5(content: bytes) -> bool:
    """Whether a file's header is one of version 5."""
    return len(content) >= _HEADER_BYTES and content[126:128] in _ORDERS


def find_variables(content: bytes) -> Iterator[Variable]:
    """The variables of a file, described and not yet read.

    Args:
        content: the whole file, which `is_version_5`.

    Raises:
        ValueError: it is damaged.
    """
    order = _ORDERS[content[126:128]]
    for kind, element in _elements(memoryview(content)[_HEADER_BYTES:], order, is_padded=False):
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"it has an element of the type {kind}")
        is_packed = kind == _COMPRESSED
        start = _unpacked(element, order, _DESCRIPTION_BYTES) if is_packed else element
        found = _described(start, element, order, is_packed)
        if found.name:  # what MATLAB keeps for itself has none
            yield found


def _described(start: memoryview, element: memoryview, order: str, is_packed: bool) -> Variable:
    elements = _elements(start, order)
    kind, flags = next(elements, (0, memoryview(b"")))
    if kind != 6 or len(flags) != 8:
        raise ValueError("a variable does not begin with its flags")
    (bits,) = struct.unpack_from(order + "I", flags)
    if not 0 < bits & 0xFF < len(_CLASSES):
        raise ValueError(f"a variable is of the class {bits & 0xFF}")
    name = _CLASSES[bits & 0xFF]
    shape: tuple[int, ...] = ()
    if name != "opaque":
        kind, sides = next(elements, (0, memoryview(b"")))
        if kind != 5 or len(sides) % 4 or not 8 <= len(sides) <= 128:
            raise ValueError("a variable does not tell its shape")
        shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
    kind, letters = next(elements, (0, memoryview(b"")))
    if kind not in (1, 2):
        raise ValueError("a variable has no name")
    is_logical = bits & 0x200 and name in NUMBERS
    return Variable(
        bytes(letters).decode("ascii", "backslashreplace"),
        shape,
        "logical" if is_logical else name,
        bool(bits & 0x800),
        order,
        element,
        is_packed,
    )


def _elements(
    content: memoryview, order: str, is_padded: bool = True
) -> Iterator[tuple[int, memoryview]]:
    """Type and content of one element after the other."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, place)
        if kind >> 16:  # up to four bytes lie within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"an element of the type {kind} is too long for its tag")
            yield kind, content[place + 4 : place + 4 + size]
            place += 8
            continue
        place += 8
        if size > len(content) - place:
            raise ValueError(f"an element promises {size} bytes, and is cut short")
        yield kind, content[place : place + size]
        place += size + (-size % 8 if is_padded else 0)
    if content[place:].tobytes().strip(b"\0"):
        raise ValueError("it is cut short")


def _unpacked(packed: memoryview, order: str, most: int | None) -> memoryview:
    """The content of the matrix that is packed; its first bytes where `most` is given."""
    stream = zlib.decompressobj()
    try:
        tag = stream.decompress(packed, 8)
        if len(tag) < 8:
            raise ValueError("a packed variable is cut short")
        kind, size = struct.unpack(order + "II", tag)
        bound = min(8 * MAX_ELEMENTS + _DESCRIPTION_BYTES, MOST_PACKED * len(packed) + 1024)
        if kind != _MATRIX or size > bound:
            raise ValueError(f"a packed variable is of the type {kind} and claims {size} bytes")
        wanted = size + 8 if most is None else min(size, most)
        content = stream.decompress(stream.unconsumed_tail, wanted)
    except zlib.error as error:
        raise ValueError(f"a packed variable cannot be unpacked: {error}") from error
    if most is None and not (stream.eof and len(content) == size):
        raise ValueError(f"a packed variable promises {size} bytes, and holds others")
    if len(content) < min(size, wanted):
        raise ValueError("a packed variable is cut short")
    return memoryview(content)
