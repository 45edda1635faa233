"""Files from web servers: resumed, retried, and verified before anybody reads them."""

from __future__ import annotations

import contextlib
import email.utils
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from descnet3d import progress
from descnet3d.files import sha256_of

if TYPE_CHECKING:
    import requests

_CHUNK = 2**16
# What weights of which nothing else is known may have.
MOST_BYTES = 2**30


class DownloadError(OSError):
    """Something cannot be fetched; the message names the address and says what came instead."""


class UnreachableError(DownloadError):
    """A server does not answer, or breaks off again and again: later it may."""


class Patience(NamedTuple):
    """How long a server is waited for.

    Attributes:
        attempts: how often it may fail in a row, without sending anything of worth in between.
        silence: seconds that a connection, or what comes over it, may take.
        stall: the bytes that count as something of worth; as many have to come in each `silence`.
        first_pause: seconds before the second attempt; they double from one to the next.
        longest_pause: what no pause exceeds, whatever the server asks for.
    """

    attempts: int = 5
    silence: float = 20.0
    stall: int = 4096
    first_pause: float = 0.5
    longest_pause: float = 30.0


PATIENCE = Patience()
# For what can be done without: somebody waits.
LITTLE = Patience(attempts=1, silence=3.0)


class _BrokenError(Exception):
    """An attempt failed in a way that another one may not.

    Args:
        reason: what happened.
        pause: the seconds that the server asks to be left alone, if it does.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _StaleError(Exception):
    """What a server has is not what was asked for.

    Args:
        resumed: whether a part of it was there already.
        reason: what is the matter.
    """

    def __init__(self, resumed: bool, reason: str) -> None:
        super().__init__(reason)
        self.resumed = resumed


def fetch_file(
    address: str,
    path: Path,
    sha256: str,
    size: int | None = None,
    *,
    most: int = MOST_BYTES,
) -> Path:
    """Fetches one file, or goes on where an earlier call was interrupted.

    Args:
        address: where it is, `http://` or `https://`.
        path: where to, in a folder that is there. What has come so far lies beside it, with `.part`
            at its end. A bar on terminals, a line a minute elsewhere, tells how far it is.
        sha256: what it must be.
        size: its bytes; unknown where None.
        most: the most bytes that are taken where `size` is unknown.

    Returns:
        `path`, where the verified file now is.

    Raises:
        UnreachableError: the server does not answer, or breaks off again and again.
        DownloadError: there is no such file, what comes is another one, or it cannot be kept.
    """
    if path.is_file() and sha256_of(path) == sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    # What does not fit may be the fault of a part of an older file: the second time has none.
    for _ in range(2):
        try:
            _complete(address, part, size, most)
            came = sha256_of(part)
            if came == sha256:
                os.replace(part, path)
                return path
            part.unlink()
        except DownloadError:
            raise
        except OSError as error:
            with contextlib.suppress(OSError):  # on a full disk it is in the way
                part.unlink()
            raise DownloadError(
                f"{address} cannot be kept in {path.parent}: {error.strerror or error}; make room, "
                "or set DESCNET3D_CACHE to another folder"
            ) from error
    raise DownloadError(
        f"{address} is not the file that was expected: its sha256 is {came[:12]}…, not "
        f"{sha256[:12]}…; nothing of it was kept"
    )


def fetch_bytes(
    address: str,
    most: int,
    patience: Patience | None = None,
) -> bytes:
    """Fetches a short document.

    Args:
        address: where it is.
        most: the most bytes that it may have.
        patience: how long the server is waited for; `PATIENCE` where None.

    Returns:
        Its content.

    Raises:
        UnreachableError: the server does not answer, or breaks off again and again.
        DownloadError: there is no such document, or it is too long.
    """
    patience = patience or PATIENCE
    for failures in range(1, patience.attempts + 1):
        try:
            with _answer(address, 0, patience) as response:
                content = bytearray()
                for chunk in _chunks(response, patience):
                    content += chunk
                    _refuse_excess(address, len(content), most)
            expected = response.headers.get("Content-Length", "")
            if expected.isdigit() and len(content) < int(expected):
                raise _BrokenError(f"it broke off after {len(content)} of {expected} bytes")
            return bytes(content)
        except _BrokenError as error:
            _pause_or_give_up(address, error, failures, patience)
    raise AssertionError("unreachable")


def _complete(address: str, part: Path, size: int | None, most: int) -> None:
    """Appends to a part until the file is whole."""
    failures = 0
    title = "/".join(address.split("/")[-2:])
    with progress.bar(size, "B", title=title, unit_scale=True) as bar:
        while True:
            have = part.stat().st_size if part.exists() else 0
            if size is not None and have > size:
                part.unlink()
                have = 0
            bar.update(have - bar.n)
            if have == size:
                part.touch()
                return
            came = 0
            try:
                with _answer(address, have, PATIENCE) as response:
                    resumed = response.status_code == 206
                    have = have if resumed else 0
                    whole = _length(response, have)
                    if size is not None and whole not in (None, size):
                        raise _StaleError(resumed, f"has {whole} bytes, and should have {size}")
                    bar.total = whole = size if whole is None else whole
                    with open(part, "ab" if resumed else "wb", buffering=0) as file:
                        for chunk in _chunks(response, PATIENCE):
                            came += len(chunk)
                            _refuse_excess(address, have + came, most if whole is None else whole)
                            file.write(chunk)
                            bar.update(len(chunk))
                if whole is None or have + came == whole:
                    return
                raise _BrokenError(f"it broke off after {have + came} of {whole} bytes")
            except _StaleError as error:
                if not error.resumed:
                    raise DownloadError(f"{address} is not what was expected: it {error}") from None
                part.unlink()  # it belongs to another version of the file
            except _BrokenError as error:
                failures = 1 if came >= PATIENCE.stall else failures + 1
                _pause_or_give_up(address, error, failures, PATIENCE)


@contextlib.contextmanager
def _answer(address: str, start: int, patience: Patience) -> Iterator[requests.Response]:
    """A server's answer, from a byte on; the failures that may pass are told from the others."""
    import requests
    import urllib3

    wanted = {"Accept-Encoding": "identity"}
    if start:
        wanted["Range"] = f"bytes={start}-"
    try:
        with requests.get(
            address, headers=wanted, stream=True, timeout=(patience.silence, patience.silence)
        ) as response:
            _refuse_failure(address, response, start)
            yield response
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise DownloadError(f"{address} is no address that can be fetched: {error}") from error
    except requests.exceptions.TooManyRedirects as error:
        raise DownloadError(f"{address} leads from one redirect to the next") from error
    except requests.exceptions.SSLError as error:
        raise DownloadError(f"{address}: its certificate is not trusted: {error}") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenError(_plainly(error)) from error


def _refuse_failure(address: str, response: requests.Response, start: int) -> None:
    status = response.status_code
    if address.startswith("https:") and not response.url.startswith("https:"):
        raise DownloadError(f"{address} redirects to {response.url}, which is not encrypted")
    if start and (status == 416 or (status == 206 and _first_byte(response) != start)):
        raise _StaleError(True, "cannot be resumed")
    if status in (200, 206):
        return
    reason = f"{status} {response.reason}".strip()
    if status in (408, 425, 429) or status >= 500:
        raise _BrokenError(f"the server answers {reason}", _asked_pause(response))
    if status in (401, 403):
        raise DownloadError(f"{address} is not open to you ({reason})")
    if status in (404, 410):
        raise DownloadError(f"{address} is not there ({reason})")
    raise DownloadError(f"{address} cannot be fetched: the server answers {reason}")


def _chunks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """What comes, as it comes; a server that only trickles has broken off."""
    since, came = time.monotonic(), 0
    while chunk := response.raw.read1(_CHUNK):
        yield chunk
        came += len(chunk)
        now = time.monotonic()
        if now - since > patience.silence:
            if came < patience.stall:
                raise _BrokenError(f"only {came} bytes came in {now - since:.0f} seconds")
            since, came = now, 0


def _refuse_excess(address: str, came: int, most: int) -> None:
    if came > most:
        raise DownloadError(f"{address} sends more than the {most} bytes that it should have")


def _pause_or_give_up(address: str, error: _BrokenError, failures: int, patience: Patience) -> None:
    if failures >= patience.attempts:
        raise UnreachableError(
            f"{address} cannot be fetched: {error} ({failures} attempt{'s' * (failures > 1)})"
        )
    pause = patience.first_pause * 2 ** (failures - 1) * random.uniform(0.8, 1.2)
    time.sleep(min(max(pause, error.pause or 0), patience.longest_pause))


def _first_byte(response: requests.Response) -> int | None:
    # Content-Range: bytes 21010-47021/47022
    unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
    first = extent.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _length(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _asked_pause(response: requests.Response) -> float | None:
    asked = response.headers.get("Retry-After", "")
    if asked.isdigit():
        return float(asked)
    with contextlib.suppress(ValueError, TypeError):
        return email.utils.parsedate_to_datetime(asked).timestamp() - time.time()
    return None


def _plainly(error: Exception) -> str:
    """The reason that lies under the wrappings of an exception."""
    seen: BaseException = error
    while True:
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((each for each in seen.args if isinstance(each, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    said = " ".join(str(seen).split()).rpartition(": ")[2]
    return re.sub(r"^\[Errno -?\d+\] ", "", said) or type(seen).__name__
