"""Settings in nested dataclasses, and the one flat list of them that flags and configs hold.

A setting is declared once, with its name, type, meaning and default:

    num_steps: Annotated[int, "the number of steps, l in the paper"] = 20

A dataclass that holds another gives its settings a prefix:

    sampling: Annotated[LangevinSettings, "Synthesis", Flag("sampling")] = LangevinSettings()

so that the flat list has `sampling_steps`. Fields without a meaning are no settings.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType, NoneType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

_Settings = TypeVar("_Settings")


class Settings:
    """What a frozen dataclass needs for Keras to save it with the model that it is for.

    Attributes:
        kinds: all such dataclasses, by name.
    """

    kinds: ClassVar[dict[str, type[Settings]]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        Settings.kinds[cls.__name__] = cls

    def get_config(self) -> dict[str, Any]:
        """The fields by name, as Keras asks for them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The settings of what `get_config` gave, after Keras has serialised it."""
        import keras  # not before a model is loaded

        return cls(**keras.saving.deserialize_keras_object(config))


class Flag(NamedTuple):
    """What a setting, or the settings of a part, are called in the flat list.

    Attributes:
        name: a setting's whole name; of a part, what the names of its settings begin with, unless
            a part or a setting inside says otherwise.
        without: the settings of a part that have no meaning there.
    """

    name: str | None = None
    without: tuple[str, ...] = ()


class Setting(NamedTuple):
    """A setting in the flat list: the fields that lead to it, its type, and what it means."""

    path: tuple[str, ...]
    kind: type
    optional: bool
    meaning: str
    prefixed: bool  # whether a part that holds it may prefix its name


@functools.cache
def settings_of(whole: type) -> Mapping[str, Setting]:
    """The settings of a dataclass and of its parts, by their names in the flat list."""
    found: dict[str, Setting] = {}
    for field, hint in get_type_hints(whole, include_extras=True).items():
        if get_origin(hint) is Annotated:
            declared, meaning, flag, *_ = *get_args(hint), Flag()
            listed = _of_part if is_dataclass(declared) else _of_field
            found |= listed(field, declared, meaning, flag)
    return MappingProxyType(found)


def _of_field(field: str, kind: Any, meaning: str, flag: Flag) -> dict[str, Setting]:
    kinds = get_args(kind) or (kind,)  # int, or the two of int | None
    name = flag.name or field.removeprefix("num_")
    return {name: Setting((field,), kinds[0], NoneType in kinds, meaning, flag.name is None)}


def _of_part(field: str, part: Any, meaning: str, flag: Flag) -> dict[str, Setting]:
    found = {}
    for name, inner in settings_of(part).items():
        if inner.path[0] in flag.without:
            continue
        if inner.prefixed and flag.name:
            name = f"{flag.name}_{name}"
        own = f"{meaning}: {inner.meaning}" if len(inner.path) == 1 else inner.meaning
        prefixed = inner.prefixed and flag.name is None
        found[name] = inner._replace(path=(field, *inner.path), meaning=own, prefixed=prefixed)
    return found


def flat(whole: Any) -> dict[str, Any]:
    """The values of all settings, by their names in the flat list."""
    return {
        name: functools.reduce(getattr, setting.path, whole)
        for name, setting in settings_of(type(whole)).items()  # type: ignore[arg-type]
    }


def changed(whole: _Settings, changes: Mapping[str, Any]) -> _Settings:
    """The same settings but for some, given by their names in the flat list.

    Raises:
        ValueError: a name is that of no setting, or a value has no meaning.
    """
    known = settings_of(type(whole))  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else "."
            raise ValueError(f"there is no setting {name!r}{hint}")
    return _replaced(whole, {known[name].path: value for name, value in changes.items()})


def _replaced(whole: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    new = {path[0]: value for path, value in values.items() if len(path) == 1}
    for part in {path[0] for path in values if len(path) > 1}:
        inside = {path[1:]: value for path, value in values.items() if path[0] == part}
        try:
            new[part] = _replaced(getattr(whole, part), inside)
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from None
    return replace(whole, **new)
