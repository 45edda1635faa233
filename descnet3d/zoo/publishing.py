"""A zoo laid out in a folder, which any static file server can serve."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from descnet3d.energy.tasks import TASKS
from descnet3d.files import replacing
from descnet3d.models import preset_config
from descnet3d.models.preset_config import CONFIG, PresetError
from descnet3d.zoo import cards, gallery, index, preset_files
from descnet3d.zoo.index import Preset


def add(zoo: Path, folder: Path, *, category: str | None = None, task: str | None = None) -> Path:
    """Copies a preset into a zoo.

    Args:
        zoo: the zoo's folder; made where it is missing.
        folder: what `save_preset` or a training run wrote.
        category: what it makes, where its config does not say so.
        task: what it was trained for, likewise; `synthesis` where neither does.

    Returns:
        The preset's folder in the zoo, which is called by its id, or by its old folder's name where
        it has none.

    Raises:
        PresetError: it is damaged, a file of it is a link that leads outside, or its category is
            not known.
        OutputError: the zoo cannot be written.
    """
    config = preset_config.read_config(folder)
    require_whole(folder, config)
    refuse_links(folder, [folder / name for name in preset_files.NAMES])
    config["id"] = config.get("id") or folder.resolve().name
    # People ask for a preset by the name that they know.
    if config["id"] != folder.resolve().name:
        config["also"] = folder.resolve().name
    config["category"] = config.get("category") or category
    config["task"] = config.get("task") or task or "synthesis"
    config.setdefault("scores", {})
    if not config["category"]:
        raise PresetError(f"{folder} does not say what its category is: give --category")
    if config["task"] not in TASKS:
        raise PresetError(
            f"{folder} has the task {config['task']!r}; give --task={'|'.join(TASKS)}"
        )
    if not re.fullmatch(r"\w[\w.-]{0,120}", config["id"]):
        raise PresetError(f"{folder} has the id {config['id']!r}, which can be no folder's name")
    target = zoo / config["id"]
    target.mkdir(parents=True, exist_ok=True)
    # The config comes last: a copy that was interrupted is no preset yet.
    for name in [
        name for name in preset_files.NAMES if name != CONFIG and (folder / name).exists()
    ]:
        with replacing(target / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    with replacing(target / CONFIG) as temporary:
        temporary.write_text(preset_config.as_json(config), encoding="utf-8")
    cards.write(target)
    return target


def publish(zoo: Path) -> list[Preset]:
    """Writes the index of a zoo, and a page to look at.

    Args:
        zoo: a folder of presets, each in a folder that is called by its id.

    Returns:
        The presets in it.

    Raises:
        PresetError: there is none, one is damaged, or a link leads outside the zoo.
        ValueError: as `index.build_index`.
    """
    folders = sorted(path.parent for path in zoo.glob(f"*/{CONFIG}"))
    if not folders:
        raise PresetError(f"{zoo} has no presets: give --add=PRESET_FOLDER")
    for folder in folders:
        require_whole(folder, preset_config.read_config(folder))
    within = os.walk(zoo)
    refuse_links(zoo, [Path(top, name) for top, *names in within for name in chain(*names)])
    index.build_index(zoo)
    listed = index.read(zoo, "publish it again")
    gallery.write(zoo, listed)
    return listed


def require_whole(folder: Path, config: dict[str, Any]) -> None:
    """Raises a PresetError where a preset's weights are not those that its config promises."""
    if "weights" not in config:  # it binds another one's to a category
        return
    weights = config["weights"]
    promised = {weights["file"]: preset_files.FileRecord(None, weights["sha256"])}
    if preset_files.damaged(folder, promised):
        raise PresetError(f"{folder / weights['file']} is not what {CONFIG} says; save it again")


def refuse_links(folder: Path, paths: Iterable[Path]) -> None:
    """Raises a PresetError where one leads outside: whatever a zoo holds, its server gives away."""
    inside = folder.resolve()
    for path in paths:
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise PresetError(
                f"{path} is a link to {path.resolve()}, outside {folder}: put the file itself there"
            )
