"""Presets that have an address each: on any web server, and on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.parse
from pathlib import Path

from descnet3d.models.preset_config import CONFIG, PresetError
from descnet3d.zoo import cache, downloads, preset_files
from descnet3d.zoo.preset_files import FileRecord

MOST_JSON = 2**24
_HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?P<inside>(?:/[\w.-]+)*)(?:@(?P<at>[\w./-]+))?")


def is_address(name: str) -> bool:
    """Whether a name is an address rather than a path."""
    return name.lower().startswith(("https://", "http://", "hf://"))


def fetch(address: str) -> Path:
    """The folder, in the cache, of the preset at an address.

    Args:
        address: the folder of a preset on a web server, or `hf://owner/name[/folder][@revision]`
            on the Hugging Face hub (`HF_ENDPOINT` and `HF_TOKEN` are heeded).

    Returns:
        The folder. Where the server cannot be reached, what was there last.

    Raises:
        DownloadError: it cannot be fetched.
        PresetError: what is there is no preset.
    """
    base, headers = base_of(address)
    try:
        text = downloads.fetch_bytes(f"{base}/{CONFIG}", MOST_JSON, headers)
        weights = _weights_of(text, address)
    except downloads.UnreachableError as error:
        known = _known(address)
        folder = cache.find(*known) if known else None
        if folder is None:
            raise
        cache.warn_of_kept_copy(error)
        return folder
    files = {
        CONFIG: FileRecord(len(text), hashlib.sha256(text).hexdigest()),
        weights[0]: FileRecord(None, weights[1]),
    }
    last = address.partition("@")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w-]", "_", last)[-60:]
    folder = cache.fetch(name, files, lambda file: f"{base}/{file}", headers)
    entries = {name: file._asdict() for name, file in files.items()}
    cache.remember(address, {"id": name, "files": entries})
    return folder


def kept(address: str) -> Path | None:
    """Where the cache keeps what was fetched from an address last; None where nothing was."""
    known = _known(address)
    return cache.place(*known) if known else None


def _known(address: str) -> tuple[str, dict[str, FileRecord]] | None:
    known = cache.remembered(address) or {}
    try:
        return known["id"], {name: FileRecord(**file) for name, file in known["files"].items()}
    except (KeyError, TypeError, AttributeError):
        return None


def base_of(address: str) -> tuple[str, dict[str, str]]:
    """Where the files of an address lie, and what is sent along with a request for them."""
    if not address.lower().startswith("hf://"):
        return address.rstrip("/"), {}
    matched = _HUB.fullmatch("hf://" + address[5:].rstrip("/"))
    if matched is None or ".." in address:
        raise ValueError(
            f"{address} is no address on the Hugging Face hub: write hf://OWNER/NAME, "
            "hf://OWNER/NAME/FOLDER or hf://OWNER/NAME@REVISION"
        )
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    revision = urllib.parse.quote(matched["at"] or "main", safe="")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return f"{hub}/{matched['name']}/resolve/{revision}{matched['inside']}", headers


def _weights_of(text: bytes, address: str) -> tuple[str, str]:
    """The name and the checksum of the weights that a config promises."""
    try:
        weights = json.loads(text)["weights"]
        name, sha256 = weights["file"], weights["sha256"]
        known = name in preset_files.NAMES and re.fullmatch(r"[0-9a-f]{64}", sha256)
    except (ValueError, KeyError, TypeError) as error:
        raise PresetError(f"{address} is no preset: its {CONFIG} names no weights") from error
    if not known:
        raise PresetError(f"{address} is no preset: its {CONFIG} names no weights that are known")
    return name, sha256
