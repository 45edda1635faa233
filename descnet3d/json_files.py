"""JSON that may come from a stranger: bounded, of the kinds that are expected, or a ValueError."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# A config or an index that is longer is none.
MAX_BYTES = 2**24


class Kind(NamedTuple):
    """What a field may hold.

    Attributes:
        words: what it is called in a message.
        holds: whether a value is of this kind.
    """

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    if isinstance(value, float):  # also NaN, which a figure may be
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= 120


def whole_number(most: int, least: int = 0) -> Kind:
    """Integers from `least` to `most`."""
    return Kind(
        f"a whole number from {least} to {most}",
        lambda value: (
            isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        ),
    )


ANYTHING = Kind("anything", lambda value: True)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
ENTRIES = Kind("a list", lambda value: isinstance(value, list))
LINE = Kind("a line of text", _is_line)
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
NUMBERS = Kind(
    "numbers by name",
    lambda value: (
        isinstance(value, dict)
        and all(map(_is_line, value))
        and all(map(_is_number, value.values()))
    ),
)
SIDES = Kind(
    "three sides from 1 to 1024",
    lambda value: (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(side, int) and 1 <= side <= 1024 for side in value)
    ),
)
# These become names of files here, whoever wrote them.
FILE_NAME = Kind(
    "the name of a file",
    lambda value: isinstance(value, str) and re.fullmatch(r"\w[\w.-]{0,120}", value) is not None,
)
SHA256 = Kind(
    "a SHA-256",
    lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
)


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Args:
        text: it.
        where: where it comes from, for the message.

    Raises:
        ValueError: the text is no JSON, is too long or too deep, or holds something else.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{where} is damaged: it is longer than {MAX_BYTES} bytes")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where} is damaged: it is nested too deeply") from error
    except ValueError as error:  # also text that is no UTF-8, and integers of too many digits
        raise ValueError(f"{where} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} is damaged: it holds no JSON object")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        ValueError: as `parse_object`, or the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return parse_object(text, str(path))


def require(
    content: Mapping[str, Any], kinds: Mapping[str, Kind], where: str, optional: bool = False
) -> None:
    """Raises a ValueError unless each of these fields is there and is of its kind.

    Args:
        content: what was read.
        kinds: the fields. Others may be there as well: later versions add some.
        where: where it comes from, for the message.
        optional: whether a field may be missing, or null.
    """
    for name, kind in kinds.items():
        if optional and content.get(name) is None:
            continue
        if name not in content:
            raise ValueError(f"{where} is not whole: it lacks {name}")
        if not kind.holds(content[name]):
            came = repr(content[name])
            came = came if len(came) <= 60 else came[:57] + "..."
            raise ValueError(f"{where} is damaged: {name} must be {kind.words}, but it is {came}")
