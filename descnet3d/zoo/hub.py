"""Presets and zoos on the Hugging Face hub, fetched by its own client into its own cache.

The client heeds `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE` and a login, and takes what
it fetched last where the hub cannot be reached.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from descnet3d import json_files
from descnet3d.models import preset_config
from descnet3d.models.preset_config import CONFIG, PresetError
from descnet3d.zoo import downloads, index, preset_files
from descnet3d.zoo.downloads import DownloadError, UnreachableError

SCHEME = "hf://"
_ADDRESS = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?P<inside>(?:/[\w.-]+)*)(?:@(?P<revision>[\w./-]+))?"
)


class Place(NamedTuple):
    """Where something lies on the hub.

    Attributes:
        repository: `owner/name`.
        inside: a folder in it, `.` for the repository itself.
        revision: a branch, a tag or a commit.
    """

    repository: str
    inside: PurePosixPath
    revision: str

    def __str__(self) -> str:
        inside = "" if self.inside == PurePosixPath() else f"/{self.inside}"
        return f"{SCHEME}{self.repository}{inside}@{self.revision}"


def is_address(name: str) -> bool:
    """Whether a name is an address on the hub."""
    return name.lower().startswith(SCHEME)


def place_of(address: str) -> Place:
    """What `hf://owner/name[/folder][@revision]` says.

    Raises:
        ValueError: it is no such address.
    """
    matched = _ADDRESS.fullmatch(SCHEME + address[len(SCHEME) :].rstrip("/"))
    if matched is None or ".." in address:
        raise ValueError(
            f"{address} is no address on the Hugging Face hub: write hf://OWNER/NAME, "
            "hf://OWNER/NAME/FOLDER or hf://OWNER/NAME@REVISION"
        )
    inside = PurePosixPath(matched["inside"].lstrip("/"))
    return Place(matched["repository"], inside, matched["revision"] or "main")


def fetch(address: str) -> Path:
    """The folder, in the client's cache, of the preset at an address.

    Args:
        address: `hf://owner/name[/folder][@revision]`; the folder may be a preset of a zoo, by its
            id or by the name that it was published from.

    Returns:
        The folder. What the preset shares with another one of its zoo lies beside it.

    Raises:
        DownloadError: it cannot be fetched.
        PresetError: what is there is no preset.
    """
    place = place_of(address)
    around = place.inside.parent
    zoos = {each / index.INDEX for each in (place.inside, around)}
    root = fetch_files(place, [*_files_of(place.inside), *zoos])
    same = place._replace(revision=root.name)  # a snapshot is called by its commit
    folder = root / place.inside
    if not (folder / CONFIG).is_file():
        inside = around / _in_zoo(address, root, place.inside)
        fetch_files(same, _files_of(inside))
        folder = root / inside
    shared = preset_config.read_config(folder)["model"].get("shares")
    if shared and place.inside != PurePosixPath():
        fetch_files(same, _files_of(around / Path(str(shared)).name))
    return folder


def fetch_files(place: Place, names: Iterable[PurePosixPath | str]) -> Path:
    """Fetches files of a repository, those of them that there are.

    Args:
        place: the repository and its revision.
        names: the files, as they are called in the repository.

    Returns:
        The folder in the client's cache that stands for the repository.

    Raises:
        DownloadError: the repository cannot be fetched, or a file of it is too large.
    """
    import huggingface_hub

    wanted = [*map(str, names)]
    _refuse_large(place, wanted)
    with errors_told(str(place)):
        return Path(
            huggingface_hub.snapshot_download(
                place.repository, revision=place.revision, allow_patterns=wanted
            )
        )


def _refuse_large(place: Place, wanted: list[str]) -> None:
    """Raises a DownloadError where the hub says that a file is larger than any of its kind."""
    import huggingface_hub
    from huggingface_hub import errors, utils

    try:
        listed = huggingface_hub.HfApi().model_info(
            place.repository, revision=place.revision, files_metadata=True
        )
    except (OSError, errors.HTTPError):
        return  # nothing new will come: the client takes what it has, or tells why there is nothing
    files = {each.rfilename: each.size or 0 for each in listed.siblings or ()}
    for name in utils.filter_repo_objects(files, allow_patterns=wanted):
        most = json_files.MAX_BYTES if name.endswith(".json") else downloads.MOST_BYTES
        if files[name] > most:
            raise DownloadError(
                f"{place} is not fetched: its {name} of {files[name]} bytes is longer than {most}"
            )


@contextlib.contextmanager
def errors_told(what: str) -> Iterator[None]:
    """Raises what the client raises as a DownloadError that says of what, and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{what} is not there: the repository has no such revision") from None
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{what} is not there, or not open to you: where it is private, set HF_TOKEN or log in "
            "by `hf auth login`"
        ) from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{what}: the hub answers {_first_line(error)}") from error
    except (errors.LocalEntryNotFoundError, ConnectionError, errors.HTTPError) as error:
        raise UnreachableError(
            f"{what} cannot be reached, and is not in the hub's cache here ({_first_line(error)})"
        ) from error
    except OSError as error:
        raise DownloadError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _files_of(folder: PurePosixPath) -> list[PurePosixPath]:
    return [folder / name for name in preset_files.NAMES]


def _in_zoo(address: str, root: Path, inside: PurePosixPath) -> str:
    """The id of the preset that a zoo lists under the last name of an address.

    Raises:
        PresetError: the address is that of a zoo.
        DownloadError: there is neither a preset nor a zoo that has one of this name.
    """
    remedy = "tell whoever published it"
    if (root / inside / index.INDEX).is_file():
        known = ", ".join(preset.id for preset in index.read(root / inside, remedy))
        raise PresetError(
            f"{address} is a zoo: put the id of one of its presets behind it ({known})"
        )
    if inside != PurePosixPath() and (root / inside.parent / index.INDEX).is_file():
        for preset in index.read(root / inside.parent, remedy):
            if inside.name in (preset.id, preset.also):
                return preset.id
    raise DownloadError(f"{address} is no preset: it has no {CONFIG}")
