"""A preset on disk: `config.json` and `weights.npz`, checked before anything is built from them."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from descnet3d.files import check_folder_writable, replacing
from descnet3d.models.preset_config import CONFIG, FORMAT, REQUIRES, PresetError, as_json, parts_of

WEIGHTS = "weights.npz"
# Where the parts of networks are; a config from a stranger names no function of another module.
_TRUSTED = (
    r"keras(\.(layers|initializers|activations|regularizers|constraints|models|ops(\.\w+)?"
    r"|src\.models\.\w+|src\.ops\.\w+))?"
)


def write(
    folder: Path,
    config: dict[str, Any],
    parts: Mapping[str, keras.Model],
    weights_dtype: str = "float16",
) -> Path:
    """Write a preset, the weights first, each file by an atomic rename.

    Args:
        folder: where to; made where it is missing.
        config: what goes into `config.json`, beside the format, the networks and the weights'
            checksum.
        parts: the networks of the model, by name, in the order of their weights.
        weights_dtype: "float16" or "float32"; a variable that float16 can't hold stays float32.

    Returns:
        The folder.
    """
    if weights_dtype not in ("float16", "float32"):
        raise ValueError(f"weights_dtype must be float16 or float32, but it is {weights_dtype!r}.")
    check_folder_writable(folder)
    arrays = {}
    for index, variable in enumerate(_variables(parts.values())):
        array = keras.ops.convert_to_numpy(variable.value)
        if array.dtype == np.float32 and np.abs(array).max(initial=0) <= np.finfo(np.float16).max:
            array = array.astype(weights_dtype)
        arrays[f"{index:03d}/{variable.path}"] = array
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    weights = {"file": WEIGHTS, "dtype": weights_dtype, "sha256": digest}
    described = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
    model = {**config.get("model", {}), **described}
    told = {"model": model, "format": FORMAT, "requires": REQUIRES, "weights": weights}
    text = as_json({**config, **told})
    # Nothing of an earlier preset there is touched before all of the new one stands.
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(file.getvalue())
    with replacing(folder / CONFIG) as path:
        path.write_text(text, encoding="utf-8")
    return folder


def read_parts(folder: Path, config: dict[str, Any]) -> dict[str, keras.Model]:
    """The networks of a preset by name, with their weights, verified before they are read.

    Raises:
        PresetError: when the weights are missing, damaged, or those of other networks.
    """
    path = folder / Path(config["weights"]["file"]).name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PresetError(f"{path} can't be read: {error.strerror}.") from None
    if digest != config["weights"]["sha256"]:
        raise PresetError(
            f"{path} is damaged: its sha256 is {digest[:12]}…, and {CONFIG} says "
            f"{config['weights']['sha256'][:12]}…. Fetch or write the preset anew."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise PresetError(f"{path} can't be read as weights: {error}.") from None
    parts = {name: _build(folder, config, name) for name in parts_of(config)}
    merge(_variables(parts.values()), arrays, str(path))
    return parts


def _build(folder: Path, config: dict[str, Any], name: str) -> keras.Model:
    for module, kind in _named_in(config["model"].get(name)):
        if not (module is None or re.fullmatch(_TRUSTED, module)):
            raise PresetError(
                f"{folder / CONFIG} wants {kind!r} of {module!r}, which is no part of a network: "
                "where it is yours, decorate it with keras.saving.register_keras_serializable."
            )
    try:
        part = keras.saving.deserialize_keras_object(config["model"][name], safe_mode=True)
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"{folder / CONFIG} describes no {name}: {error}.") from None
    if not isinstance(part, keras.Model):
        raise PresetError(f"{folder / CONFIG} describes no {name}, but {str(part)[:60]!r}.")
    return part


def _named_in(described: Any) -> Iterator[tuple[str | None, str]]:
    """The modules and names of all that a described network is to be made of."""
    if isinstance(described, dict):
        registered = described.get("registered_name")
        own = registered and keras.saving.get_registered_object(registered) is not None
        if "class_name" in described and not own:
            yield described.get("module"), str(described["class_name"])
        described = list(described.values())
    if isinstance(described, list):
        for part in described:
            yield from _named_in(part)


def _variables(parts: Iterable[keras.Model]) -> list[keras.Variable]:
    return [variable for part in parts for variable in part.variables]


def merge(variables: list[keras.Variable], arrays: dict[str, np.ndarray], source: str) -> None:
    """Give every variable its array, in order; anything missing, left over or misshapen raises.

    Args:
        variables: those of networks, in their order.
        arrays: by names that begin with their number in that order.
        source: where they come from, for the message.

    Raises:
        PresetError: naming the variable and both shapes.
    """
    names = sorted(arrays)
    for variable, name in zip(variables, names, strict=False):
        if tuple(variable.shape) != arrays[name].shape:
            raise PresetError(
                f"{source} holds {name} with shape {arrays[name].shape}, but the network's "
                f"{variable.path} has {tuple(variable.shape)}."
            )
    if len(names) < len(variables):
        path = variables[len(names)].path
        raise PresetError(f"{source} has no weights for {path}.")
    if len(names) > len(variables):
        raise PresetError(f"{source} holds {names[len(variables)]}, which the network hasn't.")
    for variable, name in zip(variables, names, strict=True):
        variable.assign(arrays[name].astype(variable.dtype))
