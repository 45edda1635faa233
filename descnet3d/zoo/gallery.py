"""The page of a zoo: its presets, their shapes and figures, and what to type to use them.

A static page that asks no other server for anything. Its shapes are those that `exhibits` made;
they turn as pictures, and as meshes where the package that holds the viewer is installed
(`.[gallery]`).
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from descnet3d import files
from descnet3d.energy.tasks import TASKS
from descnet3d.models import preset_config
from descnet3d.zoo import cards, exhibits
from descnet3d.zoo.index import Preset

PAGE = "index.html"
# Where a package of Python brings `@google/model-viewer` (Apache-2.0) along, and what it is called.
_VIEWER = ("dash_model_viewer", "vendor")
_VIEWER_FILES = ("model-viewer-umd.min.js", "model-viewer-LICENSE")
_THUMBNAIL = 480  # pixels, of a sheet where there is no shape
# The figures that a card shows of each task, and what they are called there.
_HEADLINES = {
    "class_probability": "class probability",
    "one_piece": "in one piece",
    "absolute_error": "absolute error",
    "iou": "IoU of what was found",
    "accuracy": "accuracy",
    "nearest_iou": "IoU to the nearest",
}
_SHOWN = 2


def has_viewer() -> bool:
    """Whether the package that holds the viewer is installed."""
    return all(path.is_file() for path in _viewer_files())


def write(zoo: Path, listed: list[Preset]) -> Path:
    """Writes the page of a zoo, and what it is made of into the folder `gallery` beside it.

    Args:
        zoo: the zoo's folder, whose index is written.
        listed: its presets.

    Returns:
        The page's path.

    Raises:
        PresetError: a preset's config is damaged.
        OutputError: the zoo cannot be written.
    """
    import jinja2

    folder = zoo / exhibits.FOLDER
    folder.mkdir(exist_ok=True)
    source = resources.files("descnet3d.zoo") / "page"
    for name in ("style.css", "gallery.js"):
        with files.replacing(folder / name) as temporary:
            temporary.write_bytes((source / name).read_bytes())
    with_viewer = has_viewer()
    if with_viewer:
        for path in _viewer_files():
            with files.replacing(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)
    shown = sorted((_described(zoo, preset) for preset in listed), key=_order)
    engine = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = engine.from_string((source / "index.html.jinja").read_text("utf-8")).render(
        title="A zoo of shapes",
        presets=shown,
        tasks=[task for task in TASKS if any(preset["task"] == task for preset in shown)],
        categories=sorted({each for preset in shown for each in preset["categories"]}),
        frames=exhibits.FRAMES,
        viewer=f"{exhibits.FOLDER}/{_VIEWER_FILES[0]}" if with_viewer else None,
        viewer_licence=f"{exhibits.FOLDER}/{_VIEWER_FILES[1]}",
    )
    with files.replacing(zoo / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return zoo / PAGE


def _viewer_files() -> list[Path]:
    package, inside = _VIEWER
    found = importlib.util.find_spec(package)  # finds it without importing what it needs
    places = (found.submodule_search_locations or []) if found else []
    return [Path(place) / inside / name for place in places[:1] for name in _VIEWER_FILES] or [
        Path(inside)
    ]


def _order(preset: Mapping[str, Any]) -> tuple[int, str, str]:
    return list(TASKS).index(preset["task"]), preset["name"], preset["id"]


def _described(zoo: Path, preset: Preset) -> dict[str, Any]:
    config = preset_config.read_config(zoo / preset.id)
    shapes = [_with_paths(preset.id, shape) for shape in exhibits.listed(zoo, preset.id)]
    sheet = f"{preset.id}/sheet.png" if (zoo / preset.id / "sheet.png").is_file() else None
    columns = cards.figures(config)
    size = preset.size
    grid = f"{size[0]}³" if len(set(size)) == 1 else "×".join(map(str, size))
    shares = config["model"].get("shares")
    size_of_all = sum(file.size or 0 for file in preset.files.values()) / 1e6
    weights = f"the weights of {shares}" if shares else f"{size_of_all:.1f} MB"
    many = config.get("categories") or config["model"].get("classes") or []
    return {
        "id": preset.id,
        "task": preset.task,
        "name": preset.category.replace("_", " "),
        "categories": list(dict.fromkeys([preset.category, *map(str, many)])),
        "description": config.get("description") or f"A preset of {preset.category}.",
        "facts": [f"grid {grid}", f"{preset.parameters:,} parameters", weights],
        "load": f'descnet3d.load("{preset.id}")',
        "command": "descnet3d " + TASKS[preset.task].command.format(id=preset.id),
        "shapes": shapes,
        "legend": "Shapes of seed 0, none of them chosen"
        if preset.task in ("synthesis", "cooperative")
        else "Found in shapes that the zoo synthesised itself",
        "turn": shapes[0]["turn"] if shapes else None,
        "picture": shapes[0]["picture"] if shapes else _thumbnail(zoo, preset.id),
        "sheet": sheet,
        "sheet_shows": TASKS[preset.task].picture,
        "columns": list(columns),
        "rows": _rows(columns),
        "headlines": _headlines(columns),
        "card": _card(zoo, preset.id),
    }


def _with_paths(preset_id: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    """A shape as it is listed, with its files as the page finds them."""
    names = {name: shape.get(name) for name in ("mesh", "picture", "turn")}
    within = f"{exhibits.FOLDER}/{preset_id}"
    return {**shape, **{key: f"{within}/{name}" if name else None for key, name in names.items()}}


def _rows(columns: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "meaning": cards.MEANINGS.get(name, name.replace("_", " ")),
            # Not `values`, which a template takes for the method of a dictionary.
            "figures": [_figure(scores.get(name)) for scores in columns.values()],
        }
        for name in next(iter(columns.values()), {})
    ]


def _headlines(columns: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    own = next(iter(columns.values()), {})
    beside = columns.get(cards.REAL, {})
    return [
        {
            "label": label,
            "value": _figure(own[name]),
            "beside_label": "real",
            "beside": _figure(beside.get(name)),
        }
        for name, label in _HEADLINES.items()
        if name in own
    ][:_SHOWN]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _card(zoo: Path, preset_id: str) -> Any:
    """A card as HTML, in which nothing is a stranger's: tags are text, pictures lie in the zoo."""
    import markdown_it
    import markupsafe

    path = zoo / preset_id / "card.md"
    if not path.is_file():
        return None
    parser = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(path.read_text(encoding="utf-8", errors="replace"))
    for token in (child for block in tokens for child in block.children or []):
        if token.type == "image":
            token.attrs["src"] = f"{preset_id}/{Path(str(token.attrs['src'])).name}"
            token.attrs["loading"] = "lazy"
        elif token.type == "link_open" and ":" not in str(token.attrs["href"]):
            token.attrs["href"] = f"{preset_id}/{token.attrs['href']}"
    return markupsafe.Markup(parser.renderer.render(tokens, parser.options, {}))


def _thumbnail(zoo: Path, preset_id: str) -> str | None:
    """A small picture of a sheet, where it is all that there is to see."""
    from PIL import Image

    sheet = zoo / preset_id / "sheet.png"
    if not sheet.is_file():
        return None
    name = f"{preset_id}/sheet.webp"
    (zoo / exhibits.FOLDER / preset_id).mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    try:
        with Image.open(sheet) as picture:
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            picture.convert("RGB").save(content, "webp", quality=80)
    except OSError:  # whatever it is, it is no picture
        return None
    with files.replacing(zoo / exhibits.FOLDER / name) as temporary:
        temporary.write_bytes(content.getvalue())
    return f"{exhibits.FOLDER}/{name}"
