"""Finding a pretrained model by the name that a person gives it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descnet3d import startup
from descnet3d.energy.tasks import TASKS
from descnet3d.models import preset_config
from descnet3d.zoo import cache, places, preset_addresses
from descnet3d.zoo.downloads import DownloadError
from descnet3d.zoo.index import Preset

if TYPE_CHECKING:
    from descnet3d.models.energy_based import EnergyBasedModel
    from descnet3d.models.supervised_classifier import SupervisedClassifier


class PresetNotFoundError(ValueError):
    """No preset answers to a name; the message says what was looked for, and where."""


def list_presets() -> list[Preset]:
    """The presets that can be loaded by name, ordered by their ids.

    Returns:
        One `Preset` each: those of this version of the package, and those of the zoo that
        `DESCNET3D_ZOO` names (a folder, or an `http://`, `https://` or `hf://` address). Those
        that are at hand have a `path`; the others are fetched when they are loaded. What that zoo
        has not, and this installation neither, is left out.

    Raises:
        ValueError: an index of presets is missing or damaged.
        DownloadError: the zoo's index cannot be fetched, and was not fetched before.
    """
    listed: dict[str, Preset] = {}
    had: set[str] = set()
    for presets in _indexes():
        had = {preset.id for preset in presets}
        for preset in presets:
            known = listed.setdefault(preset.id, preset)
            if known.path is None and known.files == preset.files:
                at_hand = preset.path or cache.find(preset.id, preset.files)
                listed[preset.id] = preset._replace(path=at_hand)
    # The last index is that of the zoo, where there is one.
    return sorted(each for each in listed.values() if each.path is not None or each.id in had)


def load(name: str | os.PathLike, task: str = "synthesis") -> EnergyBasedModel:
    """Loads a pretrained model.

    Args:
        name: a category (`"toilet"`), for the best preset of it (where none is trained for
            synthesis alone, the cooperative one synthesises); the id of a preset
            (`"synthesis_toilet_32"`); a folder that `DescriptorNet.save_preset` wrote; or the
            address of one, `http://` or `https://`, or `hf://owner/name[@revision]`. A folder
            that is called like a category or a preset is given as `"./toilet"` or as a `Path`.
            What is not at hand is fetched once, verified, and kept (`DESCNET3D_CACHE` says where).
        task: what the model is for, where `name` is a category.

    Returns:
        The model, ready to synthesize or to train on: a `DescriptorNet`, a `CooperativeNet`, or an
        `AnnealedDescriptor`, which is bound to a category where the preset is.

    Raises:
        PresetNotFoundError: there is no such preset or folder.
        DownloadError: it cannot be fetched.
        ValueError: its files are damaged, or for a later version of the package.
    """
    folder = find(name, task)
    startup.import_keras()  # not before: it takes seconds
    from descnet3d.models import saving

    return saving.load(folder, find)


def load_descriptor(name: str | os.PathLike, task: str = "synthesis") -> EnergyBasedModel:
    """As `load`, for what only a descriptor can do.

    Raises:
        ValueError: the preset is a classifier; or as in `load`.
    """
    from descnet3d.models.energy_based import EnergyBasedModel

    model = load(name, task)
    if not isinstance(model, EnergyBasedModel):
        raise ValueError(f"{name} is a {type(model).__name__}, and a descriptor is needed here")
    return model


def reference_classifier(
    classes: Sequence[str], grid: tuple[int, int, int]
) -> SupervisedClassifier | None:
    """The shipped classifier of just these categories on such grids; None where there is none."""
    from descnet3d.models.supervised_classifier import SupervisedClassifier

    for preset in places.with_the_package().presets():
        if preset.task == "classification" and preset.size == tuple(grid):
            model = SupervisedClassifier.from_preset(fetch(preset))
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
        DownloadError: as in `load`.
    """
    if not isinstance(name, str | os.PathLike):
        raise PresetNotFoundError(
            f"name must be a category, the id of a preset, a folder or an address, but it is "
            f"{name!r}"
        )
    if isinstance(name, str):
        if preset_addresses.is_address(name):
            return preset_addresses.fetch(name)
        preset = _named_at_hand(name, task)
        if preset is not None:
            return fetch(preset)
        if not _looks_like_a_path(name):
            raise PresetNotFoundError(_not_found(name, task))
    folder = Path(name)
    if not os.path.isdir(folder):
        raise PresetNotFoundError(f"there is no preset {str(name)!r}: there is no such folder")
    if not (folder / "config.json").is_file():
        raise PresetNotFoundError(
            f"the folder {str(name)!r} is no preset: it has no config.json; "
            "DescriptorNet.save_preset writes a folder that has one"
        )
    return folder


def named(name: str, task: str = "synthesis") -> Preset | None:
    """The preset that a category and a task, or an id, name; None where there is none.

    What came with the package goes first; the zoo of `DESCNET3D_ZOO` is asked only after it.
    """
    for presets in _indexes():
        for wanted in _that_do(task):
            for preset in presets:
                by_category = preset.default and (name, wanted) == (preset.category, preset.task)
                if by_category or name == preset.id or (name and name == preset.also):
                    return preset
    return None


def _named_at_hand(name: str, task: str) -> Preset | None:
    """As `named`, but a folder needs no zoo that cannot be reached."""
    if os.sep in name:
        return None
    try:
        return named(name, task)
    except DownloadError:
        if os.path.isdir(name):
            return None
        raise


def fetch(preset: Preset) -> Path:
    """The folder of a preset, fetched and verified where it is not at hand.

    Raises:
        PresetNotFoundError: no zoo is known that has it.
        DownloadError: it cannot be fetched.
        PresetError: it is for a later version of the package, or what a zoo has is another one.
    """
    preset_config.require_version(preset.id, preset.requires)
    if preset.path is not None:
        return preset.path
    cached = cache.find(preset.id, preset.files)
    if cached is not None:
        return cached
    zoo = places.chosen()
    if zoo is not None:
        return zoo.folder_of(preset)
    raise PresetNotFoundError(
        f"{preset.id} did not come with this installation: set {places.VARIABLE} to the folder or "
        "the address of a zoo that has it (zoo/ in the source code is one)"
    )


def find_generator(name: str | os.PathLike) -> Path:
    """The folder of a cooperative preset, by category, id or path.

    Raises:
        PresetNotFoundError: as in `load`.
        ValueError: the preset has no generator.
    """
    folder = find(name, "cooperative")
    if "generator" not in preset_config.class_of(preset_config.read_config(folder)).parts:
        raise ValueError(
            f"{name} has no generator: give a cooperative preset (descnet3d presets lists them)"
        )
    return folder


def find_with_latents(name: str | os.PathLike) -> Path:
    """The folder of a preset whose shapes have latents, by category, id or path.

    Raises:
        PresetNotFoundError: as in `load`.
        ValueError: its shapes have none.
    """
    folder = find(name)
    if not preset_config.class_of(preset_config.read_config(folder)).latents:
        raise ValueError(
            f"the shapes of {name} have no latents: give a preset of an AnnealedDescriptor or a "
            "CooperativeNet (descnet3d presets lists them)"
        )
    return folder


def _that_do(task: str) -> tuple[str, ...]:
    """The tasks of the presets that do a task, the best first."""
    return (task, *(TASKS[task].instead if task in TASKS else ()))


def _looks_like_a_path(name: str) -> bool:
    # A bare word that is no folder is more likely a misspelt category than a misspelt folder.
    return os.sep in name or name in (os.curdir, os.pardir) or os.path.isdir(name)


def _indexes() -> Iterator[list[Preset]]:
    """What the places that have presets list, in the order in which they are asked."""
    yield places.with_the_package().presets()
    zoo = places.chosen()
    if zoo is not None:
        yield zoo.presets()


def _not_found(name: str, task: str) -> str:
    presets = list_presets()
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
    where = ", ".join(["those of the package", *filter(None, [str(places.chosen() or "")])])
    return f"{wanted} and no folder of that name.{hint} The categories ({where}): {have}"
