"""The files that a preset is made of, and the checksums that tell it from every other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from descnet3d.files import sha256_of
from descnet3d.models.preset_config import CONFIG

# What travels with a preset, where it is there; the first two are what `load` reads.
NAMES = (CONFIG, "weights.npz", "card.md", "recipe.flags", "sheet.png")


class FileRecord(NamedTuple):
    """What a file must be.

    Attributes:
        size: its bytes; None where nobody has counted them.
        sha256: their checksum.
    """

    size: int | None
    sha256: str


def record(folder: Path) -> dict[str, FileRecord]:
    """What the files of a preset's folder are."""
    return {
        name: FileRecord((folder / name).stat().st_size, sha256_of(folder / name))
        for name in NAMES
        if (folder / name).is_file()
    }


def damaged(folder: Path, files: Mapping[str, FileRecord]) -> list[str]:
    """The names of the files that are missing or are not what they must be."""
    wrong = []
    for name, file in files.items():
        try:
            right = sha256_of(folder / name) == file.sha256
        except OSError:
            right = False
        if not right:
            wrong.append(name)
    return wrong


def key(preset_id: str, files: Mapping[str, FileRecord]) -> str:
    """A folder's name that no other version of a preset has."""
    content = "\n".join(f"{name} {file.sha256}" for name, file in sorted(files.items()))
    return f"{preset_id}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
