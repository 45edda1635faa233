"""Where presets are: with the package, in a folder, or at an address.

A zoo lists its presets, and gives the folder of one of them; which file lies where is its own
affair.
"""

from __future__ import annotations

import os
from pathlib import Path

from descnet3d import json_files
from descnet3d.models.preset_config import PresetError
from descnet3d.zoo import cache, downloads, hub, index, preset_addresses, preset_files
from descnet3d.zoo.index import Preset

VARIABLE = "DESCNET3D_ZOO"


class FolderZoo:
    """A folder that `descnet3d presets publish` wrote.

    Args:
        folder: it.
        remedy: what to do where it is damaged.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        self.folder = folder
        self.remedy = remedy

    def __str__(self) -> str:
        return str(self.folder)

    def presets(self) -> list[Preset]:
        """What the folder's index lists."""
        return index.read(self.folder, self.remedy)

    def folder_of(self, preset: Preset) -> Path:
        """The preset's folder.

        Raises:
            PresetError: it is not there, or holds another version of the preset.
        """
        folder = self.folder / preset.id
        wrong = preset_files.damaged(folder, preset.files)
        if wrong:
            what = f"holds another {wrong[0]} than the index says"
            raise PresetError(
                f"{folder} {what if folder.is_dir() else 'is not there'}; {self.remedy}"
            )
        return folder


class AddressZoo:
    """A zoo behind any static file server.

    Args:
        address: where its `index.json` lies, `http://` or `https://`.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def __str__(self) -> str:
        return self.address

    def presets(self) -> list[Preset]:
        """What the index lists; where the server cannot be reached, what it listed last."""
        address = f"{self.address}/{index.INDEX}"
        known = cache.remembered(address)
        try:
            text = downloads.fetch_bytes(
                address,
                json_files.MAX_BYTES,
                patience=downloads.PATIENCE if known is None else downloads.LITTLE,
            ).decode("utf-8", "replace")
        except downloads.UnreachableError as error:
            if known is None:
                raise
            cache.warn_of_kept_copy(error)
            text = str(known.get("index"))
        listed = index.parse(text, address, "tell whoever runs it")
        cache.remember(address, {"index": text})
        return [preset._replace(path=cache.find(preset.id, preset.files)) for preset in listed]

    def folder_of(self, preset: Preset) -> Path:
        """The preset's folder in the cache.

        Raises:
            DownloadError: it cannot be fetched.
        """
        return cache.fetch(
            preset.id, preset.files, lambda name: f"{self.address}/{preset.id}/{name}"
        )


class HubZoo(FolderZoo):
    """A zoo that is a repository on the Hugging Face hub, or a folder of one.

    Args:
        address: where its `index.json` lies, `hf://`.
    """

    def __init__(self, address: str) -> None:
        self._place = hub.place_of(address)
        super().__init__(Path(), "tell whoever published it")

    def __str__(self) -> str:
        return str(self._place)

    def presets(self) -> list[Preset]:
        """What the index lists; those that the hub's cache holds whole have a path."""
        self._fetch(index.INDEX)
        return [
            preset._replace(path=preset.path if self._is_whole(preset) else None)
            for preset in super().presets()
        ]

    def folder_of(self, preset: Preset) -> Path:
        """The preset's folder in the hub's cache.

        Raises:
            DownloadError: it cannot be fetched.
            PresetError: the hub holds another version of it than the index says.
        """
        self._fetch(*(f"{preset.id}/{name}" for name in preset.files))
        return super().folder_of(preset)

    def _fetch(self, *names: str) -> None:
        inside = self._place.inside
        self.folder = hub.fetch_files(self._place, [inside / name for name in names]) / inside

    def _is_whole(self, preset: Preset) -> bool:
        return preset.path is not None and not preset_files.damaged(preset.path, preset.files)


def with_the_package() -> FolderZoo:
    """What came with the package: the index of all presets, and some of them."""
    # In a wheel the presets lie inside the package, in a checkout beside it.
    package = Path(__file__).parents[1]
    inside, beside = package / "presets", package.parent / "zoo"
    here = beside if (beside / index.INDEX).is_file() and not inside.is_dir() else inside
    return FolderZoo(here, "install descnet3d again")


def chosen() -> FolderZoo | AddressZoo | None:
    """What `DESCNET3D_ZOO` names; None where it is not set."""
    where = os.environ.get(VARIABLE, "").strip()
    if not where:
        return None
    if hub.is_address(where):
        return HubZoo(where)
    if preset_addresses.is_address(where):
        return AddressZoo(where)
    return FolderZoo(Path(where).expanduser(), f"{VARIABLE} names it: see that it is a zoo")
