"""The index of a zoo: what each of its presets is, and the checksums of its files."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from descnet3d import files, json_files
from descnet3d.models.preset_config import REQUIRES, PresetWarning
from descnet3d.zoo import preset_files
from descnet3d.zoo.preset_files import FileRecord

INDEX = "index.json"
INDEX_FORMAT = 2
_INDEXED = ("id", "task", "category", "size", "parameters", "scores")
_FIELDS = {
    "id": json_files.FILE_NAME,
    "task": json_files.LINE,
    "category": json_files.LINE,
    "size": json_files.SIDES,
    "parameters": json_files.whole_number(2**63),
    "scores": json_files.NUMBERS,
    "files": json_files.OBJECT,
}
_OPTIONAL = {
    "default": json_files.TRUTH,
    "requires": json_files.LINE,
    "also": json_files.LINE,
}
_FILE = {"a file": json_files.FILE_NAME, "its record": json_files.OBJECT}
_SIZE = json_files.whole_number(2**40)


class Preset(NamedTuple):
    """A pretrained model that can be loaded.

    Attributes:
        id: its name among all presets, `synthesis_toilet_32`.
        task: what it was trained for, `synthesis`.
        category: what it makes, `toilet`.
        size: its grid, `(D, H, W)`.
        parameters: the number of its weights.
        scores: its measured figures by name.
        path: its folder; None where it has to be fetched first.
        default: whether the category and the task alone name it.
        files: the size and the SHA-256 of each of its files.
        requires: the first version of descnet3d that can load it.
        also: what else it is called: the folder that it was published from.
    """

    id: str
    task: str
    category: str
    size: tuple[int, int, int]
    parameters: int
    scores: dict[str, float]
    path: Path | None
    default: bool = True
    files: dict[str, FileRecord] = {}
    requires: str = REQUIRES
    also: str = ""

    def __repr__(self) -> str:
        """One line without the path, so that a list of presets can be read."""
        scores = "".join(f", {name} {value:.3g}" for name, value in self.scores.items())
        size = "x".join(map(str, self.size))
        return f"<Preset {self.id}: {self.task}, {size}, {self.parameters:,} parameters{scores}>"


def parse(text: str | bytes, source: str, remedy: str) -> list[Preset]:
    """The presets that an index holds; their paths are not known here.

    Args:
        text: the JSON of an index.
        source: where it comes from, for the message.
        remedy: what to do where it is damaged, likewise.

    Returns:
        The presets, in the order of the index.

    Raises:
        ValueError: the text is no index, or one of another format. An entry that is damaged is
            left out, with a `PresetWarning`.
    """
    try:
        index = json_files.parse_object(text, source)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    if index.get("format") != INDEX_FORMAT:
        raise ValueError(
            f"{source} has the format {index.get('format')!r}, and this version of descnet3d reads "
            f"{INDEX_FORMAT}; {remedy}"
        )
    try:
        json_files.require(index, {"presets": json_files.ENTRIES}, source)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    found = []
    for number, entry in enumerate(index["presets"]):
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{source}, preset {name if json_files.LINE.holds(name) else number},"
        try:
            found.append(_preset(entry, where))
        except ValueError as error:  # it hides no other
            warnings.warn(f"{error}; it is left out: {remedy}", PresetWarning, stacklevel=2)
    return found


def _preset(entry: Any, where: str) -> Preset:
    json_files.require({"it": entry}, {"it": json_files.OBJECT}, where)
    json_files.require(entry, _FIELDS, where)
    json_files.require(entry, _OPTIONAL, where, optional=True)
    records = {}
    for name, file in entry["files"].items():
        json_files.require({"a file": name, "its record": file}, _FILE, where)
        json_files.require(file, {"sha256": json_files.SHA256}, f"{where} {name},")
        json_files.require(file, {"size": _SIZE}, f"{where} {name},", optional=True)
        records[name] = FileRecord(file.get("size"), file["sha256"])
    known = {name: entry[name] for name in (*_FIELDS, *_OPTIONAL) if entry.get(name) is not None}
    return Preset(**{**known, "size": tuple(entry["size"]), "path": None, "files": records})


def read(zoo: Path, remedy: str) -> list[Preset]:
    """The presets of a folder, in the order of its index.

    Args:
        zoo: the folder.
        remedy: what to do where its index is missing or damaged, for the message.

    Returns:
        The presets; those whose folder is there have a path.

    Raises:
        ValueError: the index is missing or damaged.
    """
    path = zoo / INDEX
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{path} cannot be read: {reason}; {remedy}") from error
    found = []
    for preset in parse(text, str(path), remedy):
        folder = zoo / preset.id
        found.append(preset._replace(path=folder if folder.is_dir() else None))
    return found


def build_index(zoo: str | os.PathLike) -> Path:
    """Writes `index.json` from the presets in a folder.

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
        records = preset_files.record(zoo / config["id"])
        entries.append(
            {
                **{key: config[key] for key in _INDEXED},
                "default": len(rivals) == 1 or config["id"] in chosen,
                "requires": config.get("requires", REQUIRES),
                **({"also": config["also"]} if config.get("also") else {}),
                "files": {name: file._asdict() for name, file in records.items()},
            }
        )
    text = json.dumps({"format": INDEX_FORMAT, "presets": entries}, indent=1) + "\n"
    with files.replacing(zoo / INDEX) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return zoo / INDEX


def _read_config(path: Path) -> dict[str, Any]:
    config = json_files.read_object(path)
    missing = [key for key in _INDEXED if key not in config]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if config["id"] != path.parent.name:
        raise ValueError(
            f"{path} has the id {config['id']!r}, but its folder is called {path.parent.name!r}"
        )
    return config
