"""MATLAB's files (`.mat`), read without trusting what they claim.

Only numbers and words are read, of variables that are asked for; nothing is ever called.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from descnet3d.datasets import matlab5
from descnet3d.numpy_files import read_bytes


def list_variables(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """The variables of a file.

    Args:
        path: the file, of version 5 to 7.3; those of version 4 hold tables and no grids.

    Returns:
        Name to shape, as MATLAB has it; `()` for those that hold neither numbers nor words.

    Raises:
        ValueError: the file is missing, damaged or of another kind.
    """
    content = read_bytes(path)
    if _is_hdf(content):
        with _open_hdf(content, path) as file, _damage_named(path):
            return {name: found.shape[::-1] for name, found in _arrays_of(file).items()}
    return {
        name: variable.shape if variable.kind in matlab5.NUMBERS else ()
        for name, variable in _variables(content, path).items()
    }


def read_variables(path: str | os.PathLike, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Variables of a file.

    Args:
        path: the file, of version 5 to 7.3; those of version 4 hold tables and no grids.
        names: the variables.

    Returns:
        Name to array, in the shape that MATLAB gives it: a number is `[1, 1]`.

    Raises:
        ValueError: the file is missing, damaged, of another kind or version, lacks a variable, or
            one is too large or no array of numbers or words.
    """
    content = read_bytes(path)
    if _is_hdf(content):
        return _read_hdf(content, names, path)
    found = _variables(content, path)
    arrays = {}
    for name in names:
        if name not in found:
            raise _missing(path, name, found)
        variable = found[name]
        shape, kind = variable.shape, variable.kind
        if kind not in matlab5.NUMBERS or variable.is_complex:
            kind = f"complex {kind}" if variable.is_complex else kind
            raise ValueError(f"{path}: {name} is of the class {kind}, and must be numbers")
        most = min(matlab5.MAX_ELEMENTS, matlab5.MOST_PACKED * len(content))  # a byte each
        if min(shape) < 0 or math.prod(shape) > most:
            raise ValueError(f"{path}: {name} claims the shape {list(shape)}, too large to read")
        try:
            arrays[name] = variable.read()
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); get it again") from error
    return arrays


def _variables(content: bytes, path) -> dict[str, matlab5.Variable]:
    if not matlab5.is_version_5(content):
        raise ValueError(f"{path} is not a MATLAB file of version 5 to 7.3")
    try:
        return {variable.name: variable for variable in matlab5.find_variables(content)}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); get it again") from error


def _missing(path, name: str, found: Iterable[str]) -> ValueError:
    return ValueError(
        f"{path} has no variable {name!r}; it holds: {', '.join(sorted(found)) or '-'}"
    )


# --- version 7.3, which is HDF5 -------------------------------------------------------------------


def _is_hdf(content: bytes) -> bool:
    return content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n"


def _open_hdf(content: bytes, path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            f"{path} is a MATLAB file of version 7.3, for which h5py is needed: pip install h5py"
        ) from error
    try:
        return h5py.File(io.BytesIO(content), "r")
    except Exception as error:  # its parser raises all kinds
        raise ValueError(f"{path} is damaged: it is no HDF5 file ({error})") from error


@contextlib.contextmanager
def _damage_named(path) -> Iterator[None]:
    """Whatever HDF5 says of a damaged file is a ValueError that names it."""
    try:
        yield
    except Exception as error:  # its parser raises all kinds
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged ({error}); get it again") from error


def _arrays_of(file: Any) -> dict[str, Any]:
    """The numbers of a file, not those that lie in other files."""
    import h5py

    arrays = {}
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            continue
        found = file.get(name)
        if isinstance(found, h5py.Dataset) and found.shape and found.dtype.kind in "biuf":
            arrays[name] = found
    return arrays


def _read_hdf(content: bytes, names: Sequence[str], path) -> dict[str, np.ndarray]:
    with _open_hdf(content, path) as file, _damage_named(path):
        found = _arrays_of(file)
        arrays = {}
        for name in names:
            if name not in found:
                raise _missing(path, name, found)
            data = found[name]
            stored = data.id.get_storage_size()
            if data.external or data.is_virtual:
                raise ValueError(f"{path}: {name} lies in another file, which is not read")
            if data.size > matlab5.MAX_ELEMENTS or data.nbytes > matlab5.MOST_PACKED * stored:
                raise ValueError(
                    f"{path}: {name} claims the shape {list(data.shape[::-1])}, too large to "
                    "read or to be in the file"
                )
            kind = data.attrs.get("MATLAB_class", b"")
            values = data[()].T  # MATLAB's first axis is HDF5's last
            if kind == b"char":
                values = np.array("".join(map(chr, values.ravel().tolist())))
            arrays[name] = values.astype(bool) if kind == b"logical" else values
        return arrays


def write_variables(path: str | os.PathLike, variables: Mapping[str, np.ndarray]) -> None:
    """Writes variables to a file of version 5, compressed.

    Args:
        path: where to, ending in `.mat`.
        variables: name to array.
    """
    from scipy import io as scipy_io

    scipy_io.savemat(path, dict(variables), appendmat=False, do_compression=True)
