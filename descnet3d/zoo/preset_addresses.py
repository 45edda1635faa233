"""Presets that have an address each: on any web server, and on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from descnet3d import json_files
from descnet3d.models.preset_config import CONFIG, PresetError
from descnet3d.zoo import cache, downloads, hub, index, preset_files
from descnet3d.zoo.preset_files import FileRecord


def is_address(name: str) -> bool:
    """Whether a name is an address rather than a path."""
    return name.lower().startswith(("https://", "http://", "hf://"))


def fetch(address: str) -> Path:
    """The folder, in the cache, of the preset at an address.

    Args:
        address: the folder of a preset on a web server, or `hf://owner/name[/folder][@revision]`
            on the Hugging Face hub, whose own client fetches it into its own cache.

    Returns:
        The folder. Where the server cannot be reached, what was there last.

    Raises:
        DownloadError: it cannot be fetched.
        PresetError: what is there is no preset.
    """
    if hub.is_address(address):
        return hub.fetch(address)
    base = address.rstrip("/")
    try:
        text = downloads.fetch_bytes(f"{base}/{CONFIG}", json_files.MAX_BYTES)
        weights = _weights_of(text, address)
    except downloads.UnreachableError as error:
        known = _known(address)
        folder = cache.find(*known) if known else None
        if folder is None:
            raise
        cache.warn_of_kept_copy(error)
        return folder
    except downloads.DownloadError as error:
        return _fetch_from_zoo(base, error)
    files = {
        CONFIG: FileRecord(len(text), hashlib.sha256(text).hexdigest()),
        weights[0]: FileRecord(None, weights[1]),
    }
    name = re.sub(r"[^\w-]", "_", base.rpartition("/")[2])[-60:]
    folder = cache.fetch(name, files, lambda file: f"{base}/{file}")
    entries = {name: file._asdict() for name, file in files.items()}
    cache.remember(address, {"id": name, "files": entries})
    return folder


def _fetch_from_zoo(base: str, error: downloads.DownloadError) -> Path:
    """The preset that a zoo lists under the last name of an address, by whichever of its names.

    Raises:
        PresetError: the address is that of a zoo.
        DownloadError: `error`, where there is no such preset.
    """
    around, _, last = base.rpartition("/")
    for zoo in (base, around):
        try:
            text = downloads.fetch_bytes(f"{zoo}/{index.INDEX}", json_files.MAX_BYTES)
            listed = index.parse(text, f"{zoo}/{index.INDEX}", "tell whoever runs it")
        except (downloads.DownloadError, ValueError):
            continue
        if zoo == base:
            known = ", ".join(preset.id for preset in listed)
            raise PresetError(
                f"{base} is a zoo: put the id of one of its presets behind it ({known})"
            ) from error
        for preset in listed:
            if last in (preset.id, preset.also):
                return cache.fetch(preset.id, preset.files, f"{zoo}/{preset.id}/{{}}".format)
    raise error


def kept(address: str) -> Path | None:
    """Where our cache keeps what was fetched from an address last; None where nothing was."""
    known = _known(address)
    return cache.place(*known) if known else None


def _known(address: str) -> tuple[str, dict[str, FileRecord]] | None:
    known = cache.remembered(address) or {}
    try:
        records = {name: FileRecord(**file) for name, file in known["files"].items()}
        json_files.require({"id": known["id"]}, {"id": json_files.FILE_NAME}, address)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return known["id"], records


def _weights_of(text: bytes, address: str) -> tuple[str, str]:
    """The name and the checksum of the weights that a config promises."""
    promised = {"file": json_files.FILE_NAME, "sha256": json_files.SHA256}
    try:
        config = json_files.parse_object(text, CONFIG)
        json_files.require(config, {"weights": json_files.OBJECT}, CONFIG)
        json_files.require(config["weights"], promised, f"{CONFIG}, weights,")
    except ValueError as error:
        raise PresetError(f"{address} is no preset: {error}") from error
    name = config["weights"]["file"]
    if name not in preset_files.NAMES:
        raise PresetError(f"{address} is no preset: its {CONFIG} names no weights that are known")
    return name, config["weights"]["sha256"]
