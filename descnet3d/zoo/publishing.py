"""A zoo laid out in a folder, which any static file server can serve."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

from descnet3d.files import replacing
from descnet3d.models import preset_config
from descnet3d.models.preset_config import CONFIG, TASKS, PresetError
from descnet3d.zoo import cards, index, preset_files
from descnet3d.zoo.index import Preset

_STYLE = (
    "body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "img{max-width:100%}h2{margin-top:2em}"
)


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
        PresetError: it is damaged, or its category is not known.
        OutputError: the zoo cannot be written.
    """
    config = preset_config.read_config(folder)
    _require_whole(folder, config["weights"])
    config["id"] = config.get("id") or folder.resolve().name
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
        PresetError: there is none, or one is damaged.
        ValueError: as `zoo_index.build_index`.
    """
    folders = sorted(path.parent for path in zoo.glob(f"*/{CONFIG}"))
    if not folders:
        raise PresetError(f"{zoo} has no presets: give --add=PRESET_FOLDER")
    for folder in folders:
        _require_whole(folder, preset_config.read_config(folder)["weights"])
    index.build_index(zoo)
    listed = index.read(zoo, "publish it again")
    with replacing(zoo / "index.html") as temporary:
        temporary.write_text(_page(zoo, listed), encoding="utf-8")
    return listed


def _require_whole(folder: Path, weights: dict[str, str]) -> None:
    promised = {weights["file"]: preset_files.FileRecord(None, weights["sha256"])}
    if preset_files.damaged(folder, promised):
        raise PresetError(f"{folder / weights['file']} is not what {CONFIG} says; save it again")


def _page(zoo: Path, listed: list[Preset]) -> str:
    parts = [
        "<!doctype html><meta charset=utf-8><title>A zoo of descnet3d</title>",
        f"<style>{_STYLE}</style><h1>A zoo of descnet3d</h1>",
        "<p>Set <code>DESCNET3D_ZOO</code> to this page's address, and "
        "<code>descnet3d.load(ID)</code> fetches a preset.</p>",
    ]
    for preset in listed:
        described = json.loads((zoo / preset.id / CONFIG).read_text(encoding="utf-8"))
        name = html.escape(preset.id)
        parts.append(f"<h2><a href='{name}/card.md'>{name}</a></h2>")
        parts.append(f"<p>{html.escape(described.get('description') or preset.category)}</p>")
        if (zoo / preset.id / "sheet.png").exists():
            parts.append(f"<img src='{name}/sheet.png' alt='{name}' loading=lazy>")
    return "\n".join(parts) + "\n"
