"""What a preset says of itself: its `config.json`, read without loading Keras."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import descnet3d

TASKS = ("synthesis", "recovery", "super_resolution", "cooperative", "features", "classification")
FORMAT = 1
CONFIG = "config.json"
# The first version of descnet3d that reads what this one writes.
REQUIRES = "0.1.0"


class ModelClass(NamedTuple):
    """What a preset's config says of a model of a class.

    Attributes:
        module: where the class is.
        name: what it is called there.
        parts: the networks that it is made of, in the order of their weights.
        settings: what it cannot do without, beside them.
        optional: networks that it may have as well, after those.
    """

    module: str
    name: str
    parts: tuple[str, ...]
    settings: tuple[str, ...]
    optional: tuple[str, ...] = ()

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
    ),
    BOUND: ModelClass(
        "descnet3d.models.annealed", "AnnealedDescriptor", (), ("shares", "category")
    ),
    "CooperativeNet": ModelClass(
        "descnet3d.models.cooperative",
        "CooperativeNet",
        ("network", "generator"),
        (*_ENERGY, "revision", "generator_std"),
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


def as_json(config: dict[str, Any]) -> str:
    """The text of a `config.json`; NumPy's numbers are written as numbers."""
    return json.dumps(config, indent=1, default=lambda number: number.item()) + "\n"


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a preset.

    Raises:
        PresetError: when it is missing, damaged, or of a format that this version doesn't know.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
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
    require_version(str(path), config.get("requires", REQUIRES))
    model = config.get("model")
    kind = model.get("class", "DescriptorNet") if isinstance(model, dict) else "DescriptorNet"
    if kind not in list(CLASSES):
        raise PresetError(
            f"{path} describes a {kind!r}, and this version of descnet3d knows "
            f"{', '.join(CLASSES)}: install a newer one."
        )
    parts, settings = CLASSES[kind].parts, CLASSES[kind].settings
    needed = [("model", (*parts, *settings)), ("weights", ("file", "sha256"))]
    for part, keys in needed if parts else needed[:1]:
        value = config.get(part)
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise PresetError(f"{path} is not a whole config: it lacks {part}.{missing[0]}.")
    return config


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
