"""How models are saved and loaded: a preset's `config.json` and `weights.npz`, checked first."""

from __future__ import annotations

import abc
import contextlib
import copy
import hashlib
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self

import keras
import numpy as np

from descnet3d.files import check_folder_writable, check_ordinary, replacing
from descnet3d.models.preset_config import (
    BOUND,
    CLASSES,
    CONFIG,
    FORMAT,
    REQUIRES,
    PresetError,
    as_json,
    class_of,
    folder_shared,
    read_config,
)
from descnet3d.numpy_files import OpenArchive, Wanted, read_arrays

WEIGHTS = "weights.npz"
# Where the parts of networks are; a config from a stranger names no function of another module.
_TRUSTED = (
    r"keras(\.(layers|initializers|activations|regularizers|constraints|models|ops(\.\w+)?"
    r"|src\.models\.\w+|src\.ops\.\w+))?"
)


# Until a preset that is being written anew is looked at again, in seconds.
_PAUSES = (0.1, 0.1, 0.2, 0.4, 0.8)


class _OtherWeightsError(PresetError):
    """The weights are not those of the config: damaged, or of a preset that is written anew."""


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
            weights_dtype: "float16" halves the file, and rounds each weight to 11 bits; by how much
                that changes the weights, `config.json` says under `weights.rounding` (the length
                of the change, relative to theirs). "float32" keeps every bit.
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
        return _of_folder(Path(folder), lambda config: cls._of_config(Path(folder), config))

    @classmethod
    def _of_config(cls, folder: Path, config: dict[str, Any]) -> Self:
        held, own = class_of(config), CLASSES[cls.preset_class]
        if not {*own.parts, *own.settings} <= config["model"].keys():
            raise PresetError(f"{folder} holds a {held.name}, no {own.name}.")
        parts = _read_parts(folder, config, held.parts_in(config["model"]))
        try:
            model = cls.of_parts(parts, config["model"])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            said = _briefly(error)
            raise PresetError(f"{folder / CONFIG} describes no model: {said}.") from None
        if model.grid != tuple(config["size"]):
            raise PresetError(
                f"{folder / CONFIG} is damaged: its size is {config['size']}, and its network's "
                f"{list(model.grid)}."
            )
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
    return _of_folder(folder, lambda config: _of_config(folder, config, find))


def _of_folder(folder: Path, of_config: Callable[[dict[str, Any]], Any]) -> Any:
    """What is made of a preset's config; again, where the preset is written anew meanwhile."""
    for pause in _PAUSES:
        before = _versions(folder)
        try:
            return of_config(read_config(folder))
        except _OtherWeightsError:
            time.sleep(pause)
            if _versions(folder) == before:
                raise
    return of_config(read_config(folder))


def _versions(folder: Path) -> list[tuple[int, int]]:
    """What changes when a file of a preset is replaced."""
    stats = [(folder / name).stat() for name in (CONFIG, WEIGHTS) if (folder / name).exists()]
    return [(each.st_ino, each.st_mtime_ns) for each in stats]


def _of_config(folder: Path, config: dict[str, Any], find: Callable[[str], Path]) -> Any:
    described = config["model"]
    if described.get("class") != BOUND:
        return class_of(config).load()._of_config(folder, config)
    shared = load(folder_shared(folder, described["shares"], find))
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
    """Write a preset: both files, or neither.

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
    arrays, lost, kept = {}, 0.0, 0.0
    for index, variable in enumerate(_variables(parts.values())):
        array = keras.ops.convert_to_numpy(variable.value)
        if array.dtype == np.float32 and np.abs(array).max(initial=0) <= np.finfo(np.float16).max:
            exact, array = array, array.astype(weights_dtype)
            lost += float(np.square(array - exact).sum(dtype=np.float64))
            kept += float(np.square(exact).sum(dtype=np.float64))
        arrays[f"{index:03d}/{variable.path}"] = array
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    rounding = float(f"{(lost / max(kept, 1e-300)) ** 0.5:.2g}")
    weights = {"file": WEIGHTS, "dtype": weights_dtype, "rounding": rounding, "sha256": digest}
    described = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
    model = {**config.get("model", {}), **described}
    told = {"model": model, "format": FORMAT, "requires": REQUIRES, "weights": weights}
    text = as_json({**config, **told})
    # Nothing of an earlier preset there is touched before all of the new one stands.
    with replacing(folder / WEIGHTS) as weights_path, replacing(folder / CONFIG) as config_path:
        weights_path.write_bytes(file.getvalue())
        config_path.write_text(text, encoding="utf-8")
    return folder


def _read_parts(
    folder: Path, config: dict[str, Any], names: Iterable[str]
) -> dict[str, keras.Model]:
    """The networks of a preset by name, with their weights, verified before they are read.

    Raises:
        PresetError: when the weights are missing, damaged, or those of other networks; before
            memory is taken for more parameters than the config promises.
    """
    path = folder / config["weights"]["file"]
    with contextlib.ExitStack() as stack:
        try:  # opened once: what is verified is what is read
            check_ordinary(path)
            file = stack.enter_context(open(path, "rb"))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PresetError(f"{path} can't be read: {error.strerror}.") from None
        if digest != config["weights"]["sha256"]:
            raise _OtherWeightsError(
                f"{path} is damaged: its sha256 is {digest[:12]}…, and {CONFIG} says "
                f"{config['weights']['sha256'][:12]}…. Fetch or write the preset anew."
            )
        # What is described is built only when it is known how large it is, and that its weights
        # fit.
        with ThreadPoolExecutor(1) as apart:
            wanted = apart.submit(_described, folder, config, tuple(names)).result()
        arrays = _read_weights(path, file, wanted)
    parts = {name: _build(folder, config, name) for name in names}
    for variable, array in zip(_variables(parts.values()), arrays, strict=True):
        variable.assign(array.astype(variable.dtype))
    return parts


def _described(folder: Path, config: dict[str, Any], names: Iterable[str]) -> dict[str, Wanted]:
    """The variables of described networks, by their paths: they take no memory.

    It is called in a thread of its own: Keras would give them values when its next scope ends, but
    forgets them with their thread.

    Raises:
        PresetError: there are more parameters, or fewer, than the config promises.
    """
    with keras.StatelessScope(initialize_variables=False):
        parts = [_build(folder, config, name) for name in names]
        found = sum(part.count_params() for part in parts)
    if found != config["parameters"]:
        raise PresetError(
            f"{folder / CONFIG} is damaged: it promises {config['parameters']:,} parameters, and "
            f"describes {found:,}."
        )
    return {
        f"{index:03d}/{variable.path}": wanted_of(variable)
        for index, variable in enumerate(_variables(parts))
    }


def wanted_of(variable: keras.Variable) -> Wanted:
    """What an array must be that becomes the value of a variable."""
    kind = "f" if "float" in variable.dtype else "b" if variable.dtype == "bool" else "iu"
    return Wanted(tuple(variable.shape), kind)


def _read_weights(path: Path, file: BinaryIO, wanted: Mapping[str, Wanted]) -> list[np.ndarray]:
    """The weights in the order of their variables; their names in the file begin with their number.

    Raises:
        PresetError: they are damaged, or anything is missing, left over or of another kind.
    """
    try:
        with OpenArchive(path, file) as archive:
            names = sorted(archive.keys)
        # Keras may have called a layer otherwise when the weights were written.
        named = dict(zip([*names, *list(wanted)[len(names) :]], wanted.values(), strict=False))
        return list(read_arrays(path, named, file).values())
    except ValueError as error:
        raise PresetError(f"{error}: these are not the weights of the network.") from None


def _build(folder: Path, config: dict[str, Any], name: str) -> keras.Model:
    try:
        named = list(_named_in(config["model"][name]))
    except RecursionError:
        raise PresetError(f"{folder / CONFIG} is damaged: it is nested too deeply.") from None
    for module, kind in named:
        if not (module is None or re.fullmatch(_TRUSTED, str(module))):
            raise PresetError(
                f"{folder / CONFIG} wants {kind!r} of {module!r}, which is no part of a network: "
                "where it is yours, decorate it with keras.saving.register_keras_serializable."
            )
    try:
        described = copy.deepcopy(config["model"][name])  # Keras takes it to pieces
        part = keras.saving.deserialize_keras_object(described, safe_mode=True)
    except Exception as error:  # what a stranger describes can fail anywhere in Keras
        raise PresetError(f"{folder / CONFIG} describes no {name}: {_briefly(error)}.") from None
    if not isinstance(part, keras.Model):
        raise PresetError(f"{folder / CONFIG} describes no {name}, but {str(part)[:60]!r}.")
    return part


def _briefly(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return said if len(said) <= 200 else f"{said[:199]}…"


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
