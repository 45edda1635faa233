"""The command `descnet3d presets`: what there is, fetched, verified, removed, published."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from descnet3d import files
from descnet3d.commands import outputs, plain_cards
from descnet3d.commands.console import Command, UsageError, plain
from descnet3d.zoo import (
    cache,
    exhibits,
    gallery,
    hub,
    hub_publishing,
    places,
    preset_addresses,
    preset_files,
    presets,
    publishing,
)
from descnet3d.zoo.index import Preset

# Of all scores, those that a list of presets shows.
HEADLINES = (
    "nearest_share",
    "nearest_iou",
    "class_probability",
    "absolute_error",
    "iou",
    "accuracy",
)


def _list(name: str | None, values: flags.FlagValues) -> None:
    rows = [("ID", "CATEGORY", "TASK", "SIZE", "PARAMS", "WHERE", "SCORES")]
    for preset in presets.list_presets():
        if not _is_wanted(preset, values):
            continue
        sides = set(preset.size)
        size = f"{preset.size[0]}³" if len(sides) == 1 else "x".join(map(str, preset.size))
        scores = ", ".join(
            f"{name} {value:.3g}" for name, value in preset.scores.items() if name in HEADLINES
        )
        many = preset.parameters >= 10_000
        count = f"{preset.parameters / 1e6:.1f}M" if many else str(preset.parameters)
        place = _where(preset)
        rows.append((preset.id, preset.category, preset.task, size, count, place, scores))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print(_fitting("  ".join(cells).rstrip()))


def _fitting(line: str) -> str:
    """As many whole scores as stand in a row of the terminal; all of them elsewhere."""
    if not (sys.stdout.isatty() or "COLUMNS" in os.environ):
        return line
    width = shutil.get_terminal_size().columns
    while len(line) > width:
        shorter = line.rpartition(", ")[0] or line.rpartition("  ")[0].rstrip()
        if not shorter:
            break
        line = shorter
    return line


def _show(name: str | None, values: flags.FlagValues) -> None:
    folder = presets.find(str(name), values.task or "synthesis")
    card, sheet = folder / "card.md", folder / "sheet.png"
    told = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    print(plain(plain_cards.rendered(told)) or f"{folder} has no card.")
    if values.out is not None:
        if not sheet.exists():
            raise ValueError(f"{folder} has no picture")
        with files.replacing(values.out) as temporary:
            shutil.copyfile(sheet, temporary)
        sheet = Path(values.out)
    if sheet.exists():
        print(f"The picture: {sheet}")


def _download(name: str | None, values: flags.FlagValues) -> None:
    if values.all:
        chosen = [preset for preset in presets.list_presets() if _is_wanted(preset, values)]
        missing = []
        for preset in chosen:
            try:
                print(presets.fetch(preset))
            except (OSError, ValueError) as error:  # the others come all the same
                missing.append(preset.id)
                print(plain(f"{preset.id}: {error}"), file=sys.stderr)
        print(f"{len(chosen) - len(missing)} presets are at hand", file=sys.stderr)
        if missing:
            raise ValueError(f"{len(missing)} could not be fetched: {', '.join(missing)}")
        return
    print(presets.find(str(name), values.task or "synthesis"))


def _verify(name: str | None, values: flags.FlagValues) -> None:
    if name is None:
        chosen = [preset for preset in presets.list_presets() if _is_wanted(preset, values)]
    else:
        chosen = [_named(name, values)]
    bad = 0
    for preset in chosen:
        folders = [preset.path, cache.place(preset.id, preset.files)]
        for folder in dict.fromkeys(each for each in folders if each is not None and each.is_dir()):
            wrong = preset_files.damaged(folder, preset.files)
            bad += bool(wrong)
            print(f"{preset.id}: {'damaged: ' + ', '.join(wrong) if wrong else 'whole'} ({folder})")
    if bad:
        raise ValueError(
            f"{bad} damaged: descnet3d presets download NAME fetches into the cache anew, and what "
            "came with the package is installed again"
        )


def _remove(name: str | None, values: flags.FlagValues) -> None:
    if values.all:
        kinds = ("presets", "parts")  # the parts are of downloads that nobody went on with
        folders = [path for kind in kinds for path in (cache.root() / kind).glob("*")]
    elif hub.is_address(str(name)):
        raise ValueError(
            f"{name} lies in the cache of the hub's own client: "
            f"`hf cache rm model/{hub.place_of(str(name)).repository}` removes it"
        )
    elif preset_addresses.is_address(str(name)):
        kept = preset_addresses.kept(str(name))
        folders = [] if kept is None else [kept]
    else:
        preset = _named(str(name), values)
        folders = [cache.place(preset.id, preset.files)]
        if not folders[0].is_dir() and preset.path is not None:
            raise ValueError(f"{preset.id} is no copy in the cache: it lies in {preset.path}")
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders and not values.all:
        raise ValueError(f"{name} is not in the cache {cache.root()}")
    for folder in folders:
        cache.remove(folder)
        print(f"removed {folder}")


def _publish(name: str | None, values: flags.FlagValues) -> None:
    if values.hub is None:
        _publish_zoo(str(name), values)
        return
    if values.add:
        raise UsageError("--hub takes one preset, and --add is for a zoo: leave one of them out")
    if values.license is None:
        raise UsageError(
            "--hub needs --license: the terms that others get the weights under, as the hub calls "
            "them (apache-2.0, cc-by-4.0, other, ...)"
        )
    terms = hub_publishing.Terms(values.license, values.dataset)
    folder = presets.find(str(name), values.task or "synthesis")
    page = hub_publishing.publish(
        folder, values.hub, terms, find=presets.find, private=values.private
    )
    print(f'{page}: descnet3d.load("{hub.SCHEME}{values.hub}") loads it')


def _publish_zoo(name: str, values: flags.FlagValues) -> None:
    zoo = files.check_folder_writable(name)
    more = {"category": values.category, "task": values.task}
    named = {key: value for key, value in more.items() if value is not None}
    for folder in values.add:
        added = publishing.add(Path(zoo), presets.find(Path(folder)), **named)
        called = (
            "" if added.name == Path(folder).name else f", by the id in its config, not {folder}"
        )
        print(f"added {Path(name) / added.name}{called}")
    listed = publishing.publish(Path(zoo))
    if values.shapes:  # it is a zoo already, should this be interrupted
        outputs.start_keras()
        for problem in exhibits.make(Path(zoo), listed, values.shapes):
            print(plain(f"no shapes of {problem}"), file=sys.stderr)
        gallery.write(Path(zoo), listed)
    size = sum(file.size or 0 for preset in listed for file in preset.files.values())
    print(
        f"{name}: {len(listed)} preset{'s' * (len(listed) != 1)}, {size / 1e6:.1f} MB. Any static "
        f"file server can serve it (python -m http.server --directory {name}), and "
        f"{places.VARIABLE} takes its address"
    )
    if not gallery.has_viewer():
        print(
            f"{name}/{gallery.PAGE} shows shapes as pictures; with pip install "
            "'descnet3d[gallery]' it shows them in 3D",
            file=sys.stderr,
        )


def _named(name: str, values: flags.FlagValues) -> Preset:
    preset = presets.named(name, values.task or "synthesis")
    if preset is None:
        presets.find(name, values.task or "synthesis")  # says what is near
        raise ValueError(f"{name} is a folder or an address, and no preset of a zoo")
    return preset


def _is_wanted(preset: Preset, values: flags.FlagValues) -> bool:
    return values.task in (None, preset.task) and values.category in (None, preset.category)


def _where(preset: Preset) -> str:
    if preset.path is None:
        return "to get" if places.chosen() is not None else "not here"
    if cache.root() in preset.path.parents:
        return "cache"
    return "package" if places.with_the_package().folder in preset.path.parents else "zoo"


# What each action does, and whether it takes a name: "one", "none", "maybe" or "or --all".
ACTIONS: dict[str, tuple[Callable[[str | None, flags.FlagValues], None], str]] = {
    "list": (_list, "none"),
    "show": (_show, "one"),
    "download": (_download, "or --all"),
    "verify": (_verify, "maybe"),
    "remove": (_remove, "or --all"),
    "publish": (_publish, "one"),
}


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "task",
        None,
        "list, download --all, verify: only presets of this task. Otherwise: the task of the "
        "preset, where NAME is a category.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "category",
        None,
        "list, download --all, verify: only presets of this category. publish: the category of "
        "what is added, where its config has none.",
        flag_values=values,
    )
    flags.DEFINE_boolean("all", False, "download, remove: all presets.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "show: where to write a copy of the picture.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "add",
        [],
        "publish: a preset's folder that is copied into the zoo.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "hub",
        None,
        "publish: OWNER/NAME, the repository on the Hugging Face hub that the preset NAME is "
        "uploaded to; made where it is not there. HF_TOKEN, or a login, says who you are.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "license",
        None,
        "publish --hub: the licence of the weights, as the hub calls it (apache-2.0).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "dataset",
        None,
        "publish --hub: what the preset was trained and measured on, as the hub calls it.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "private",
        False,
        "publish --hub: only you see a repository that is made.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "shapes",
        4,
        "publish: how many shapes of each preset the page shows; 0: those that were made before.",
        lower_bound=0,
        upper_bound=64,
        flag_values=values,
    )


def _run(arguments: Sequence[str], values: flags.FlagValues) -> None:
    action = arguments[0] if arguments else "list"
    name = arguments[1] if len(arguments) > 1 else None
    if action not in ACTIONS:
        raise UsageError(f"there is no action {action!r}; there is: {', '.join(ACTIONS)}")
    act, takes = ACTIONS[action]
    every = takes == "or --all" and values.all
    if name is None and not every and takes in ("one", "or --all"):
        also = " (or --all)" if takes == "or --all" else ""
        raise UsageError(f"{action} needs {'FOLDER' if action == 'publish' else 'NAME'}{also}")
    if name is not None and (every or takes == "none"):
        raise UsageError(f"{name!r} is one argument too many")
    act(name, values)


COMMAND = Command(
    name="presets",
    arguments=("[ACTION]", "[NAME]"),
    summary="list, fetch, verify, remove and publish pretrained models",
    description=(
        "ACTION is one of: list (the default: id, category, task, grid, number of parameters, "
        "where it is, measured scores); show NAME (its card, and where its picture is); download "
        "NAME or --all (fetches what is not at hand from the zoo that DESCNET3D_ZOO names, and "
        "prints the folder); verify (compares what is at hand with the checksums of the index); "
        "remove NAME or --all (from the cache, which DESCNET3D_CACHE names); publish FOLDER (makes "
        "a zoo of the presets in a folder, which any static file server can serve: an index with "
        "checksums, and a page to look at); publish NAME --hub=OWNER/NAME (uploads a preset to the "
        "Hugging Face hub, with a card of its figures). NAME is a category, an id or an address."
    ),
    example="descnet3d presets download toilet --task=recovery",
    define_flags=_flags,
    run=_run,
)
