"""How models are saved and loaded: a preset's `config.json` and `weights.npz`, checked first."""

from __future__ import annotations

import abc
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from descnet3d.files import check_folder_writable, replacing
from descnet3d.models.preset_config import (
    BOUND,
    CLASSES,
    CONFIG,
    FORMAT,
    REQUIRES,
    PresetError,
    as_json,
    class_of,
    read_config,
)

WEIGHTS = "weights.npz"
# Where the parts of networks are; a config from a stranger names no function of another module.
_TRUSTED = (
    r"keras(\.(layers|initializers|activations|regularizers|constraints|models|ops(\.\w+)?"
    r"|src\.models\.\w+|src\.ops\.\w+))?"
)


class SavedModel(abc.ABC):
    """A model that is made of named networks and of settings, and of nothing else.

    Attributes:
        preset_class: what its presets call it, a key of `preset_config.CLASSES`.
        grid: the grid `(D, H, W)`.
        preset: the metadata of the preset that the model was loaded from, if any.
    """

    preset_class: str
    grid: tuple[int, int, int]
    preset: dict[str, Any]

    @property
    @abc.abstractmethod
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""

    @property
    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""

    @classmethod
    @abc.abstractmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of these networks and settings; a seed among them is optional."""

    def save_preset(
        self, folder: str | Path, *, weights_dtype: str = "float16", **metadata: Any
    ) -> Path:
        """Write the model to a folder that `descnet3d.load` reads.

        Args:
            folder: where to; an earlier preset there is replaced.
            weights_dtype: "float16" halves the file; "float32" keeps every bit.
            metadata: what `config.json` says beside the model: id, task, category, description,
                scores.

        Returns:
            The folder.

        Raises:
            OutputError: when the folder can't be written.
        """
        parts = self.parts
        config = {
            **self.preset,
            **metadata,
            "size": list(self.grid),
            "parameters": sum(part.count_params() for part in parts.values()),
            "model": {"class": self.preset_class, **self.settings},
        }
        return _write(Path(folder), config, parts, weights_dtype)

    @classmethod
    def from_preset(cls, folder: str | Path) -> Self:
        """The model of a folder that `save_preset` wrote.

        Raises:
            PresetError: when the folder is not a preset of such a model, is damaged, or is of a
                newer format.
        """
        return cls._of_config(Path(folder), read_config(Path(folder)))

    @classmethod
    def _of_config(cls, folder: Path, config: dict[str, Any]) -> Self:
        held, own = class_of(config), CLASSES[cls.preset_class]
        if not {*own.parts, *own.settings} <= config["model"].keys():
            raise PresetError(f"{folder} holds a {held.name}, no {own.name}.")
        parts = _read_parts(folder, config, held.parts_in(config["model"]))
        try:
            model = cls.of_parts(parts, config["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(f"{folder / CONFIG} describes no model: {error}.") from None
        model.preset = _metadata(config)
        return model


def load(folder: Path, find: Callable[[str], Path] = Path) -> Any:
    """The model of a preset's folder, a `SavedModel` of the class that its config names.

    Args:
        folder: the preset.
        find: the folder of another preset by its id, whose weights this one may share; it is looked
            for beside this one first.

    Raises:
        PresetError: as `SavedModel.from_preset`.
    """
    config = read_config(folder)
    described = config["model"]
    if described.get("class") != BOUND:
        return class_of(config).load()._of_config(folder, config)
    beside = folder.parent / Path(described["shares"]).name
    shared = load(beside if (beside / CONFIG).is_file() else find(described["shares"]))
    if not hasattr(shared, "bound_to"):
        raise PresetError(
            f"{folder / CONFIG} shares the weights of {described['shares']}, which knows no "
            "categories."
        )
    model = shared.bound_to(described["category"])
    model.preset = _metadata(config)
    return model


def _metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says beside the model, with the recipe that it was trained by."""
    recipe = (config.get("training") or config).get("recipe")
    return {**{key: value for key, value in config.items() if key != "model"}, "recipe": recipe}


def _write(
    folder: Path,
    config: dict[str, Any],
    parts: Mapping[str, keras.Model],
    weights_dtype: str,
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


def _read_parts(
    folder: Path, config: dict[str, Any], names: Iterable[str]
) -> dict[str, keras.Model]:
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
    parts = {name: _build(folder, config, name) for name in names}
    _merge(_variables(parts.values()), arrays, str(path))
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


def _merge(variables: list[keras.Variable], arrays: dict[str, np.ndarray], source: str) -> None:
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
