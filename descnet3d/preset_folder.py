"""A preset on disk: `config.json` and `weights.npz`, checked before anything is built from them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from descnet3d.files import replacing

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "weights.npz"


class PresetError(ValueError):
    """A preset's folder that can't be read: it names the file, what is wrong, and what to do."""


def write(
    folder: Path, config: dict[str, Any], network: keras.Model, weights_dtype: str = "float16"
) -> Path:
    """Write a preset, the weights first, each file by an atomic rename.

    Args:
        folder: where to; made where it is missing.
        config: what goes into `config.json`, beside the format and the weights' checksum.
        network: whose weights are written.
        weights_dtype: "float16" or "float32"; a variable that float16 can't hold stays float32.

    Returns:
        The folder.
    """
    if weights_dtype not in ("float16", "float32"):
        raise ValueError(f"weights_dtype must be float16 or float32, but it is {weights_dtype!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for variable in network.variables:
        array = keras.ops.convert_to_numpy(variable.value)
        if array.dtype == np.float32 and np.abs(array).max(initial=0) <= np.finfo(np.float16).max:
            array = array.astype(weights_dtype)
        arrays[variable.path] = array
    with replacing(folder / WEIGHTS) as path:
        np.savez_compressed(path, **arrays)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    weights = {"file": WEIGHTS, "dtype": weights_dtype, "sha256": digest}
    config = {**config, "format": FORMAT, "weights": weights}
    with replacing(folder / CONFIG) as path:
        Path(path).write_text(json.dumps(config, indent=1) + "\n")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a preset.

    Raises:
        PresetError: when it is missing, damaged, or of a format that this version doesn't know.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise PresetError(f"{folder} is not a preset: it has no {CONFIG}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PresetError(f"{path} can't be read as a preset's config: {error}.") from None
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise PresetError(f"{path} is not a preset's config: it has no format number.")
    if config["format"] > FORMAT:
        raise PresetError(
            f"{path} has format {config['format']}, and this version of descnet3d reads up to "
            f"{FORMAT}: install a newer one."
        )
    missing = {"model", "weights"} - set(config)
    if missing:
        raise PresetError(f"{path} lacks {', '.join(sorted(missing))}.")
    return config


def read_network(folder: Path, config: dict[str, Any]) -> keras.Model:
    """The network of a preset, with its weights, whose checksum is verified before they are read.

    Raises:
        PresetError: when the weights are missing, damaged, or those of another network.
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
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PresetError(f"{path} can't be read as weights: {error}.") from None
    network = keras.saving.deserialize_keras_object(config["model"]["network"], safe_mode=True)
    merge(network.variables, arrays, str(path))
    return network


def merge(variables: list[keras.Variable], arrays: dict[str, np.ndarray], source: str) -> None:
    """Give every variable the array of its path; anything missing, left over or misshapen raises.

    Raises:
        PresetError: naming the variable and both shapes.
    """
    paths = {variable.path: variable for variable in variables}
    for path, variable in paths.items():
        if path not in arrays:
            raise PresetError(f"{source} has no weights for {path} {tuple(variable.shape)}.")
        if tuple(variable.shape) != arrays[path].shape:
            raise PresetError(
                f"{source} holds {path} with shape {arrays[path].shape}, but the network has "
                f"{tuple(variable.shape)}."
            )
    left_over = sorted(set(arrays) - set(paths))
    if left_over:
        raise PresetError(f"{source} holds {left_over[0]}, which the network doesn't have.")
    for path, variable in paths.items():
        variable.assign(arrays[path].astype(variable.dtype))
