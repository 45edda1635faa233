"""MATLAB's files of version 5 (`.mat`), read without trusting what they claim.

Only numbers and words are read, of variables that are asked for; nothing is ever called.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from descnet3d.numpy_files import read_bytes

# An array of more elements than this is damaged or hostile.
MAX_ELEMENTS = 2**28
_CLASSES = {
    "double", "single", "logical", "char",
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
}  # fmt: skip


def read_variables(
    path: str | os.PathLike, names: Sequence[str], optional: bool = False
) -> dict[str, np.ndarray]:
    """Variables of a file.

    Args:
        path: the file, of version 5 or 4.
        names: the variables.
        optional: leaves out those that the file does not have, instead of raising an error.

    Returns:
        Name to array, in the shape that MATLAB gives it: a number is `[1, 1]`.

    Raises:
        ValueError: the file is missing, damaged, of another kind or version, lacks a variable, or
            one is too large or no array of numbers or words.
    """
    from scipy import io as scipy_io

    content = read_bytes(path)
    if content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise ValueError(
            f"{path} is a MATLAB file of version 7.3, which is not read; in MATLAB, save it again "
            "with: save('name.mat', 'instance', '-v7')"
        )
    try:
        found = {
            name: (shape, kind)
            for name, shape, kind in scipy_io.whosmat(io.BytesIO(content), appendmat=False)
        }
    except Exception as error:  # its parser raises all kinds
        raise ValueError(
            f"{path} is not a MATLAB file of version 5, or is damaged ({error})"
        ) from error
    for name in names:
        if name not in found:
            if optional:
                continue
            raise ValueError(
                f"{path} has no variable {name!r}; it holds: {', '.join(sorted(found)) or '-'}"
            )
        shape, kind = found[name]
        if kind not in _CLASSES:
            raise ValueError(f"{path}: {name} is of the class {kind}, and must be numbers")
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(f"{path}: {name} claims the shape {list(shape)}, too large to read")
    wanted = [name for name in names if name in found]
    if not wanted:
        return {}
    try:
        # Without its checks a damaged file could name a place in memory that is none.
        read = scipy_io.loadmat(
            io.BytesIO(content),
            appendmat=False,
            variable_names=wanted,
            verify_compressed_data_integrity=True,
        )
        arrays = {name: np.asarray(read[name]) for name in wanted}
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}); get it again") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biufU":
            raise ValueError(f"{path}: {name} is {array.dtype}, and must be numbers")
    return arrays


def write_variables(path: str | os.PathLike, variables: Mapping[str, np.ndarray]) -> None:
    """Writes variables to a file of version 5, compressed.

    Args:
        path: where to, ending in `.mat`.
        variables: name to array.
    """
    from scipy import io as scipy_io

    scipy_io.savemat(path, dict(variables), appendmat=False, do_compression=True)
