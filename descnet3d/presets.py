"""Finding a pretrained model by the name that a person gives it."""

from __future__ import annotations

import difflib
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from descnet3d import files, preset_config

if TYPE_CHECKING:
    from descnet3d.models.classifier import ShapeClassifier
    from descnet3d.models.descriptor import DescriptorNet

INDEX_FORMAT = 1
_DESCRIPTORS = ("DescriptorNet", "CooperativeNet")
# What else does a task, where no preset of a category is trained for it alone: the shapes of a
# generator, revised by the descriptor that has taught it, are synthesised too.
_INSTEAD = {"synthesis": ("cooperative",)}


class PresetNotFoundError(ValueError):
    """No preset answers to a name; the message says what was looked for, and where."""


class Preset(NamedTuple):
    """A pretrained model that can be loaded.

    Attributes:
        id: its name among all presets, `synthesis_toilet_32`.
        task: what it was trained for, `synthesis`.
        category: what it makes, `toilet`.
        size: its grid, `(D, H, W)`.
        parameters: the number of its weights.
        scores: its measured figures by name.
        path: its folder.
        default: whether the category and the task alone name it.
    """

    id: str
    task: str
    category: str
    size: tuple[int, int, int]
    parameters: int
    scores: dict[str, float]
    path: Path
    default: bool = True

    def __repr__(self) -> str:
        """One line without the path, so that a list of presets can be read."""
        scores = "".join(f", {name} {value:.3g}" for name, value in self.scores.items())
        size = "x".join(map(str, self.size))
        return f"<Preset {self.id}: {self.task}, {size}, {self.parameters:,} parameters{scores}>"


def list_presets() -> list[Preset]:
    """The presets that came with the package, ordered by their ids.

    Returns:
        One :class:`Preset` each.

    Raises:
        ValueError: the index of the presets is missing or damaged.
    """
    zoo = _zoo()
    path = zoo / "index.json"
    index = _read_json(path)
    if index.get("format") != INDEX_FORMAT:
        raise ValueError(
            f"{path} has the format {index.get('format')!r}, and this version of descnet3d reads "
            f"{INDEX_FORMAT}; install descnet3d again"
        )
    try:
        return [
            Preset(**{**entry, "size": tuple(entry["size"]), "path": zoo / entry["id"]})
            for entry in index["presets"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); install descnet3d again") from error


def load(name: str | os.PathLike, task: str = "synthesis") -> DescriptorNet:
    """Loads a pretrained model.

    Args:
        name: a category (`"toilet"`), for the best preset of it (where none is trained for
            synthesis alone, the cooperative one synthesises); the id of a preset
            (`"synthesis_toilet_32"`); or a folder that `DescriptorNet.save_preset` wrote. A folder
            that is called like a category or a preset is given as `"./toilet"` or as a `Path`.
        task: what the model is for, where `name` is a category.

    Returns:
        The model, ready to synthesize or to train on: a `DescriptorNet`, or the `CooperativeNet`
        that a cooperative preset is.

    Raises:
        PresetNotFoundError: there is no such preset or folder.
        ValueError: `name` is an address, or the folder's files are damaged.
    """
    folder = find(name, task)
    name, kind = preset_config.class_of(preset_config.read_config(folder))
    return getattr(importlib.import_module(kind.module), name).from_preset(folder)


def load_descriptor(name: str | os.PathLike, task: str = "synthesis") -> DescriptorNet:
    """As `load`, for what only a descriptor can do.

    Raises:
        ValueError: the preset is a classifier; or as in `load`.
    """
    folder = find(name, task)
    if preset_config.class_of(preset_config.read_config(folder))[0] not in _DESCRIPTORS:
        raise ValueError(f"{name} is a classifier, and a descriptor is needed here")
    return load(folder)


def reference_classifier(
    classes: Sequence[str], grid: tuple[int, int, int]
) -> ShapeClassifier | None:
    """The shipped classifier of just these categories on such grids; None where there is none."""
    from descnet3d.models.classifier import ShapeClassifier

    for preset in list_presets():
        if preset.task == "classification" and preset.size == tuple(grid):
            model = ShapeClassifier.from_preset(preset.path)
            if model.classes == tuple(classes):
                return model
    return None


def find(name: str | os.PathLike, task: str = "synthesis") -> Path:
    """The folder of the preset that `load` would read.

    Args:
        name: as in `load`.
        task: as in `load`.

    Returns:
        The folder.

    Raises:
        PresetNotFoundError: as in `load`.
        ValueError: `name` is an address.
    """
    if isinstance(name, str):
        if name.lower().startswith(("https://", "http://", "hf://")):
            raise ValueError(
                f"{name} is an address, and presets are not fetched from addresses yet; fetch the "
                "folder yourself and give its path"
            )
        presets = list_presets()
        for wanted in _that_do(task):
            for preset in presets:
                named = preset.default and (name, wanted) == (preset.category, preset.task)
                if name == preset.id or named:
                    return preset.path
        if not _looks_like_a_path(name):
            raise PresetNotFoundError(_not_found(name, task, presets))
    folder = Path(name)
    if not os.path.isdir(folder):
        raise PresetNotFoundError(f"there is no preset {str(name)!r}: there is no such folder")
    if not (folder / "config.json").is_file():
        raise PresetNotFoundError(
            f"the folder {str(name)!r} is no preset: it has no config.json; "
            "DescriptorNet.save_preset writes a folder that has one"
        )
    return folder


def find_generator(name: str | os.PathLike) -> Path:
    """The folder of a cooperative preset, by category, id or path.

    Raises:
        PresetNotFoundError: as in `load`.
        ValueError: the preset has no generator.
    """
    folder = find(name, "cooperative")
    if "generator" not in preset_config.parts_of(preset_config.read_config(folder)):
        raise ValueError(
            f"{name} has no generator: give a cooperative preset (descnet3d presets lists them)"
        )
    return folder


def build_index(zoo: str | os.PathLike) -> Path:
    """Writes `index.json` from the `config.json` files in a folder of presets.

    The only preset of a category and task is the one that they name; where there are several,
    one of them says `"default": true` in its config.

    Args:
        zoo: the folder that holds one folder a preset, named by its id.

    Returns:
        The path of the index.

    Raises:
        ValueError: a config is damaged or does not belong to its folder, or it is not clear which
            preset a category and task name. The index of before is left as it was.
    """
    zoo = Path(zoo)
    configs = [_read_config(path) for path in sorted(zoo.glob("*/config.json"))]
    entries = []
    for config in configs:
        rivals = [
            other
            for other in configs
            if (other["task"], other["category"]) == (config["task"], config["category"])
        ]
        chosen = [other["id"] for other in rivals if other.get("default")]
        if len(rivals) > 1 and len(chosen) != 1:
            raise ValueError(
                f"{', '.join(other['id'] for other in rivals)} are all {config['task']} presets of "
                f'{config["category"]}; give exactly one of them "default": true in its config.json'
            )
        entry = {key: config[key] for key in _INDEXED}
        entries.append({**entry, "default": len(rivals) == 1 or config["id"] in chosen})
    text = json.dumps({"format": INDEX_FORMAT, "presets": entries}, indent=1) + "\n"
    with files.replacing(zoo / "index.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return zoo / "index.json"


_INDEXED = ("id", "task", "category", "size", "parameters", "scores")


def _zoo() -> Path:
    # In a wheel the presets lie inside the package, in a checkout beside it.
    package = Path(__file__).parent
    inside, beside = package / "zoo", package.parent / "zoo"
    return beside if (beside / "index.json").is_file() and not inside.is_dir() else inside


def _that_do(task: str) -> tuple[str, ...]:
    """The tasks of the presets that do a task, the best first."""
    return (task, *_INSTEAD.get(task, ()))


def _looks_like_a_path(name: str) -> bool:
    # A bare word that is no folder is more likely a misspelt category than a misspelt folder.
    return os.sep in name or name in (os.curdir, os.pardir) or os.path.isdir(name)


def _not_found(name: str, task: str, presets: list[Preset]) -> str:
    wanted = f"there is no {task} preset {name!r}"
    tasks = [preset.task for preset in presets if preset.category == name]
    if tasks:
        return f"{wanted}; for {name} there is one of: {', '.join(sorted(set(tasks)))}"
    of_task = sorted({preset.category for preset in presets if preset.task in _that_do(task)})
    if presets and not of_task:
        known = ", ".join(sorted({preset.task for preset in presets}))
        return f"{wanted}: nothing here is trained for {task!r}; there is: {known}"
    # "Night Stand" and "night-stand" come near "night_stand" once in lower case.
    names = [*of_task, *(preset.id for preset in presets)]
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    have = ", ".join(of_task) or "none"
    return (
        f"{wanted} and no folder of that name.{hint} The categories that come with the package: "
        f"{have}"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path)
    missing = [key for key in _INDEXED if key not in config]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if config["id"] != path.parent.name:
        raise ValueError(
            f"{path} has the id {config['id']!r}, but its folder is called {path.parent.name!r}"
        )
    return config
