"""Where presets are: with the package, in a folder, or at an address.

A zoo lists its presets, and gives the folder of one of them; which file lies where is its own
affair.
"""

from __future__ import annotations

import os
from pathlib import Path

from descnet3d.models.preset_config import PresetError
from descnet3d.zoo import cache, downloads, index, preset_addresses, preset_files
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
        address: where its `index.json` lies, `http://`, `https://` or `hf://`.
    """

    def __init__(self, address: str) -> None:
        self.address, self._headers = preset_addresses.base_of(address)

    def __str__(self) -> str:
        return self.address

    def presets(self) -> list[Preset]:
        """What the index lists; where the server cannot be reached, what it listed last."""
        address = f"{self.address}/{index.INDEX}"
        try:
            text = downloads.fetch_bytes(address, preset_addresses.MOST_JSON, self._headers).decode(
                "utf-8", "replace"
            )
        except downloads.UnreachableError as error:
            known = cache.remembered(address)
            if known is None:
                raise
            cache.warn_of_kept_copy(error)
            text = known["index"]
        listed = index.parse(text, address, "tell whoever runs it")
        cache.remember(address, {"index": text})
        return [preset._replace(path=cache.find(preset.id, preset.files)) for preset in listed]

    def folder_of(self, preset: Preset) -> Path:
        """The preset's folder in the cache.

        Raises:
            DownloadError: it cannot be fetched.
        """
        return cache.fetch(
            preset.id,
            preset.files,
            lambda name: f"{self.address}/{preset.id}/{name}",
            self._headers,
        )


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
    if preset_addresses.is_address(where):
        return AddressZoo(where)
    return FolderZoo(Path(where).expanduser(), f"{VARIABLE} names it: see that it is a zoo")
