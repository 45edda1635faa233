"""The command `descnet3d presets`: what there is, fetched, verified, removed, published."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from descnet3d import files
from descnet3d.commands.console import Command, UsageError
from descnet3d.zoo import cache, places, preset_addresses, preset_files, presets, publishing
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
    rows = [("ID", "CATEGORY", "TASK", "SIZE", "PARAMETERS", "WHERE", "SCORES")]
    for preset in presets.list_presets():
        wanted = {"category": preset.category, "task": preset.task}
        if any(values[key].value not in (None, value) for key, value in wanted.items()):
            continue
        size = "x".join(map(str, preset.size))
        scores = ", ".join(
            f"{name} {value:.3g}" for name, value in preset.scores.items() if name in HEADLINES
        )
        count = f"{preset.parameters:,}"
        place = _where(preset)
        rows.append((preset.id, preset.category, preset.task, size, count, place, scores))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show(name: str | None, values: flags.FlagValues) -> None:
    folder = presets.find(str(name), values.task or "synthesis")
    card, sheet = folder / "card.md", folder / "sheet.png"
    print(card.read_text(encoding="utf-8") if card.exists() else f"{folder} has no card.")
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
        for preset in chosen:
            print(presets.fetch(preset))
        print(f"{len(chosen)} presets are at hand", file=sys.stderr)
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
        folders = [path for path in (cache.root() / "presets").glob("*") if path.is_dir()]
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
    zoo = files.check_folder_writable(str(name))
    more = {"category": values.category, "task": values.task}
    named = {key: value for key, value in more.items() if value is not None}
    for folder in values.add:
        print(f"added {publishing.add(Path(zoo), presets.find(Path(folder)), **named)}")
    listed = publishing.publish(Path(zoo))
    size = sum(file.size or 0 for preset in listed for file in preset.files.values())
    print(
        f"{name}: {len(listed)} presets, {size / 1e6:.1f} MB. Any static file server can serve it "
        f"(python -m http.server --directory {name}), and {places.VARIABLE} takes its address"
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
        return "to be fetched" if places.chosen() is not None else "not here"
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
        "publish: a preset's folder that is copied into the zoo; may be repeated.",
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
        "checksums, and a page to look at). NAME is a category, an id or an address."
    ),
    example="descnet3d presets download toilet --task=recovery",
    define_flags=_flags,
    run=_run,
)
