"""What a preset says of itself: its `config.json`, read without loading Keras."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import descnet3d
from descnet3d import json_files

FORMAT = 1
CONFIG = "config.json"
# The first version of descnet3d that reads what this one writes.
REQUIRES = "0.1.0"
# A network that a config describes is built only up to this size, 1 GiB of float32.
MAX_PARAMETERS = 2**28
_FIELDS = {
    "size": json_files.SIDES,
    "parameters": json_files.whole_number(MAX_PARAMETERS),
    "model": json_files.OBJECT,
}
_OPTIONAL = {
    **dict.fromkeys(("id", "task", "category", "requires"), json_files.LINE),
    **dict.fromkeys(("scores", "real_scores", "generator_scores"), json_files.NUMBERS),
    **dict.fromkeys(("training", "baselines"), json_files.OBJECT),
}
_RATIO = json_files.whole_number(1024, 1)
_WEIGHTS = {"file": json_files.FILE_NAME, "sha256": json_files.SHA256}


class ModelClass(NamedTuple):
    """What a preset's config says of a model of a class.

    Attributes:
        module: where the class is.
        name: what it is called there.
        parts: the networks that it is made of, in the order of their weights.
        settings: what it cannot do without, beside them.
        optional: networks that it may have as well, after those.
        latents: whether its shapes have latents.
    """

    module: str
    name: str
    parts: tuple[str, ...]
    settings: tuple[str, ...]
    optional: tuple[str, ...] = ()
    latents: bool = False

    def parts_in(self, model: Mapping[str, Any]) -> tuple[str, ...]:
        """The networks that a config's description of a model has."""
        return (*self.parts, *(name for name in self.optional if model.get(name)))

    def load(self) -> Any:
        """The class itself, which loads Keras."""
        return getattr(importlib.import_module(self.module), self.name)


# A preset without weights of its own: another one's, bound to one category.
BOUND = "BoundToCategory"
_ENERGY = ("voxel_mean", "reference_std", "sampling")
# By the names that configs have for them, which stay when a class is called something else.
CLASSES = {
    "DescriptorNet": ModelClass(
        "descnet3d.models.descriptor", "DescriptorNet", ("network",), _ENERGY
    ),
    "AnnealedDescriptor": ModelClass(
        "descnet3d.models.annealed",
        "AnnealedDescriptor",
        ("network",),
        (*_ENERGY, "classes", "category"),
        optional=("field",),
        latents=True,
    ),
    BOUND: ModelClass(
        "descnet3d.models.annealed",
        "AnnealedDescriptor",
        (),
        ("shares", "category"),
        latents=True,
    ),
    "SurfaceDescriptor": ModelClass(
        "descnet3d.models.surface_descriptor", "SurfaceDescriptor", ("network",), _ENERGY
    ),
    "CooperativeNet": ModelClass(
        "descnet3d.models.cooperative",
        "CooperativeNet",
        ("network", "generator"),
        (*_ENERGY, "revision", "generator_std"),
        latents=True,
    ),
    "Autoencoder": ModelClass(
        "descnet3d.models.autoencoder",
        "Autoencoder",
        ("generator", "encoder"),
        ("voxel_mean", "generator_std"),
    ),
    "ShapeClassifier": ModelClass(
        "descnet3d.models.supervised_classifier",
        "SupervisedClassifier",
        ("network",),
        ("classes", "voxel_mean"),
    ),
    "VoxelClassifier": ModelClass(
        "descnet3d.models.feature_classifier",
        "FeatureClassifier",
        ("network", "readout"),
        (*_ENERGY, "classes", "pooling"),
    ),
}


class PresetError(ValueError):
    """A preset's folder that can't be read: it names the file, what is wrong, and what to do."""


class PresetWarning(UserWarning):
    """Something is amiss with presets, and was got round."""


def as_json(config: dict[str, Any]) -> str:
    """The text of a `config.json`; NumPy's numbers are written as numbers."""
    return json.dumps(config, indent=1, default=lambda number: number.item()) + "\n"


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a preset.

    Raises:
        PresetError: when it is missing, damaged, or of a format that this version doesn't know.
    """
    path = folder / CONFIG
    if not path.exists():
        raise PresetError(f"{folder} is not a preset: it has no {CONFIG}.")
    try:
        config = json_files.read_object(path)
    except ValueError as error:
        raise PresetError(f"{error}.") from None
    if not isinstance(config.get("format"), int):
        raise PresetError(f"{path} is not a preset's config: it has no format number.")
    if config["format"] > FORMAT:
        raise PresetError(
            f"{path} has format {config['format']}, and this version of descnet3d reads up to "
            f"{FORMAT}: install a newer one."
        )
    require_version(str(path), config.get("requires", REQUIRES))
    model = config.get("model")
    kind = model.get("class", "DescriptorNet") if isinstance(model, dict) else "DescriptorNet"
    if kind not in list(CLASSES):
        raise PresetError(
            f"{path} describes a {kind!r}, and this version of descnet3d knows "
            f"{', '.join(CLASSES)}: install a newer one."
        )
    try:
        _require_fields(config, CLASSES[kind], str(path))
    except ValueError as error:
        raise PresetError(f"{error}.") from None
    return config


def _require_fields(config: dict[str, Any], described: ModelClass, path: str) -> None:
    json_files.require(config, _FIELDS, path)
    json_files.require(config, _OPTIONAL, path, optional=True)
    training = config.get("training") or {}
    json_files.require(training, {"recipe": json_files.OBJECT}, f"{path}, training,", optional=True)
    json_files.require(
        training.get("recipe") or {}, {"ratio": _RATIO}, f"{path}, recipe,", optional=True
    )
    model = config["model"]
    parts = dict.fromkeys(described.parts_in(model), json_files.OBJECT)
    json_files.require(model, parts, f"{path}, model,")
    json_files.require(
        model, dict.fromkeys(described.settings, json_files.ANYTHING), f"{path}, model,"
    )
    if parts:
        json_files.require(config, {"weights": json_files.OBJECT}, path)
        json_files.require(config["weights"], _WEIGHTS, f"{path}, weights,")


def folder_shared(folder: Path, shares: str, find: Callable[[str], Path]) -> Path:
    """The folder of the preset whose weights another one shares.

    Args:
        folder: that of the other one.
        shares: the id of the preset whose weights they are.
        find: its folder by this id, where it does not lie beside `folder`.
    """
    beside = folder.parent / Path(shares).name
    return beside if (beside / CONFIG).is_file() else find(shares)


def require_version(preset: str, required: str) -> None:
    """Raises a PresetError where a preset is for a later version of the package."""
    from packaging.version import InvalidVersion, Version

    try:
        recent = Version(descnet3d.__version__) >= Version(required)
    except (InvalidVersion, TypeError):
        recent = False
    if not recent:
        raise PresetError(
            f"{preset} needs descnet3d {required}, and this is {descnet3d.__version__}: install a "
            "newer one."
        )


def class_of(config: dict[str, Any]) -> ModelClass:
    """The class of a preset's model, and what it is made of."""
    return CLASSES[config["model"].get("class", "DescriptorNet")]
