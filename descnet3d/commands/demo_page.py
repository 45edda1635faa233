"""The page of `descnet3d demo`: what it does, and how Gradio shows it."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descnet3d.commands import demo_painting
from descnet3d.datasets import mesh_writers
from descnet3d.datasets.folders import SHAPE_ENDINGS
from descnet3d.datasets.mesh_files import is_mesh_file
from descnet3d.datasets.shape_files import load_shape
from descnet3d.evaluation.reconstruction import batch_size
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.shapes import corruptions
from descnet3d.shapes.rendering import render
from descnet3d.zoo import presets
from descnet3d.zoo.downloads import DownloadError

if TYPE_CHECKING:
    import gradio

WALK = 7  # shapes on the way from one to another, both ends included
_SHOWN_EVERY = 4  # steps from picture to picture
_PICTURE = 420  # pixels, the side of a picture
HIDDEN = {
    "nothing: it is damaged, and what is there is believed": None,
    "seventy per cent of its voxels": "voxels:0.7",
    "one half of it": "half:0.5",
    "a block of it": "block:0.3",
    "what a scanner on one side does not see": "scan",
}
# Whether what is painted holds, and the rest is found.
TRUST = {"a sketch: it may change": False, "a part: it stays, and the rest is found": True}
UP = {"as its format says": None, "z": "z", "y": "y"}


class Workshop:
    """What the page does, without the page.

    Args:
        model: what makes the shapes.
        folder: where meshes are written.
    """

    def __init__(self, model: AnnealedDescriptor, folder: Path) -> None:
        self.model = model
        self.categories = [model.category] if model.category else list(model.classes)
        self._folder = folder
        self._numbers = itertools.count()
        self._recovering = functools.cache(self._recovering_model)

    def synthesize(self, category: str, seed: float) -> str:
        """A new shape, as a mesh's path."""
        [shape] = self.model.synthesize(1, category=category, seed=int(seed))
        return self._mesh(shape, f"{category}_{int(seed)}")

    def watch(self, category: str, seed: float) -> Iterator[tuple[np.ndarray, str, str | None]]:
        """Langevin dynamics as it forms a shape: pictures, what they show, and the mesh at last."""
        steps = len(self.model.sampling.levels())
        for step, shape in enumerate(self.model.watch(category=category, seed=int(seed)), 1):
            if step < steps and step % _SHOWN_EVERY != 1:
                continue
            told = f"step {step} of {steps}"
            done = self._mesh(shape, f"{category}_{int(seed)}") if step == steps else None
            yield render(shape, _PICTURE, span=1.0, transparent=True), told, done

    def walk(self, category: str, first: float, last: float) -> list[str]:
        """Shapes on the way from that of one seed to that of another, as meshes' paths."""
        a, b = (self.model.draw_latents(1, int(seed))[0] for seed in (first, last))
        shapes = self.model.interpolate(a, b, WALK, category=category)
        name = f"{category}_{int(first)}_{int(last)}_way"
        return [self._mesh(shape, f"{name}_{row}") for row, shape in enumerate(shapes, 1)]

    def recover(
        self, path: str, category: str, hidden: str | None, up: Any, seed: float
    ) -> tuple[str, str, str]:
        """What is known of a file's shape, and the shape whole, as meshes' paths; and the errors.

        Args:
            path: a mesh, or a grid.
            category: its category.
            hidden: the corruption that hides a part of it; None where it is damaged already.
            up: its axis that points up; None for that of its format.
            seed: chooses what is random.
        """
        model = self._recovering(category)
        options = {"up": up} if is_mesh_file(path) else {}
        given = load_shape(path, model.grid[0], **options)
        shape = given.occupancy.astype(np.float32)[None]
        chosen = np.random.default_rng(int(seed))
        visible = corruptions.visible_voxels(shape, hidden, chosen) if hidden else shape > 0.5
        known = np.where(visible, shape, 0.0)
        if not known.any():
            raise ValueError("nothing of the shape is left to be seen: choose another seed")
        # One that is trained to recover knows one category, and is told none.
        which = {"category": category} if model is self.model else {}
        found = model.recover(
            shape, visible, seed=int(seed), batch_size=batch_size(model.grid), **which
        )
        told = f"{int((found > 0.5).sum() - (known > 0.5).sum()):,} voxels were added"
        if hidden:
            wrong = ((found > 0.5) != (shape > 0.5))[~visible]
            told += f"; {wrong.mean():.2%} of those that were hidden are wrong"
        name = Path(path).stem
        return (
            self._mesh(known[0], f"{name}_known", transform=given.transform),
            self._mesh(found[0], f"{name}_whole", transform=given.transform),
            told,
        )

    def finish(
        self, paintings: Sequence[Any], category: str, holds: bool, seed: float
    ) -> tuple[str, str, str]:
        """What is painted, and the shape that the model makes of it, as meshes' paths; and words.

        Args:
            paintings: as in `demo_painting.hull`.
            category: what it should be.
            holds: whether all that is painted stays, and the rest is found (`recover`), or it is
                moved to a shape near it (`revise`).
            seed: chooses what is random.
        """
        painted = demo_painting.hull(paintings, self.model.grid[0])
        shape = painted.astype(np.float32)[None]
        if holds:
            found = self.model.recover(shape, painted[None], category=category, seed=int(seed))
        else:
            found = self.model.revise(shape, category=category, seed=int(seed))
        made = found[0] > 0.5
        told = (
            f"{int((painted & made).sum()):,} of {int(painted.sum()):,} painted voxels are kept, "
            f"{int((made & ~painted).sum()):,} are new"
        )
        name = f"{category}_painted_{int(seed)}"
        return self._mesh(shape[0], f"{name}_sketch"), self._mesh(found[0], name), told

    def _recovering_model(self, category: str) -> Any:
        """What is trained to recover this category, where it is at hand; else what makes shapes."""
        preset = presets.named(category, "recovery")
        if preset is None or preset.task != "recovery":
            return self.model
        try:
            return presets.load_descriptor(presets.fetch(preset))
        except (presets.PresetNotFoundError, DownloadError):
            return self.model

    def _mesh(self, shape: np.ndarray, name: str, **where: Any) -> str:
        if not (shape > 0.5).any():
            raise ValueError("the shape is empty: choose another seed")
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        [path] = mesh_writers.save_all(shape[None], folder / f"{name}.glb", **where)
        return str(path)


def blocks(workshop: Workshop) -> gradio.Blocks:
    """The page, to be launched."""
    import gradio

    with gradio.Blocks(
        title="descnet3d", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        gradio.Markdown(
            "# descnet3d\nShapes that an energy-based model makes, on this computer alone: "
            "whatever is dropped here stays here."
        )
        with gradio.Tab("Synthesise"):
            _synthesis(gradio, workshop)
        with gradio.Tab("Watch"):
            _watching(gradio, workshop)
        with gradio.Tab("Recover"):
            _recovery(gradio, workshop)
        with gradio.Tab("Paint"):
            _painting(gradio, workshop)
        with gradio.Tab("Walk"):
            _walk(gradio, workshop)
    page.queue(default_concurrency_limit=1)
    return page


def _synthesis(gradio: Any, workshop: Workshop) -> None:
    with gradio.Row():
        with gradio.Column(scale=1):
            category, seed = _category(gradio, workshop), _seed(gradio)
            button = gradio.Button("Synthesise", variant="primary")
        with gradio.Column(scale=2):
            stage, download = _stage(gradio, "A new shape")

    def make(category: str, seed: float) -> tuple[str, str]:
        return (workshop.synthesize(category, seed),) * 2

    _on(gradio, button, make, [category, seed], [stage, download])


def _watching(gradio: Any, workshop: Workshop) -> None:
    with gradio.Row():
        with gradio.Column(scale=1):
            category, seed = _category(gradio, workshop), _seed(gradio)
            button = gradio.Button("Watch", variant="primary")
            step = gradio.Textbox(label="Langevin dynamics", interactive=False)
            download = gradio.DownloadButton("Download .glb")
        with gradio.Column(scale=2):
            picture = gradio.Image(
                label="From noise to a shape", image_mode="RGBA", interactive=False, buttons=[]
            )
    _on(gradio, button, workshop.watch, [category, seed], [picture, step, download])


def _recovery(gradio: Any, workshop: Workshop) -> None:
    with gradio.Row():
        with gradio.Column(scale=1):
            given = gradio.File(label="A mesh or a grid", file_types=[*SHAPE_ENDINGS], height=140)
            category = _category(gradio, workshop)
            hidden = gradio.Dropdown(list(HIDDEN), value=list(HIDDEN)[1], label="Hide")
            up = gradio.Radio(list(UP), value=list(UP)[0], label="Up is")
            seed = _seed(gradio)
            button = gradio.Button("Recover", variant="primary")
            told = gradio.Textbox(label="Found", interactive=False)
        with gradio.Column(scale=2):
            known = _shown(gradio, "What is known", 300)
            stage, download = _stage(gradio, "The shape whole", 300)

    def recover(
        path: str | None, category: str, hidden: str, up: str, seed: float
    ) -> tuple[str, str, str, str]:
        if path is None:
            raise ValueError("drop a mesh or a grid first")
        seen, found, words = workshop.recover(path, category, HIDDEN[hidden], UP[up], seed)
        return seen, found, found, words

    inputs = [given, category, hidden, up, seed]
    _on(gradio, button, recover, inputs, [known, stage, download, told])


def _painting(gradio: Any, workshop: Workshop) -> None:
    gradio.Markdown(
        "Take the brushes, and paint what the shape looks like from two sides or three, as large "
        "as the canvas: what all of them allow is filled, and the model makes a shape of it."
    )
    with gradio.Row():
        canvases = [_canvas(gradio, label) for label in demo_painting.VIEWS]
    with gradio.Row():
        with gradio.Column(scale=1):
            category = _category(gradio, workshop)
            holds = gradio.Radio(list(TRUST), value=list(TRUST)[0], label="What is painted is")
            seed = _seed(gradio)
            button = gradio.Button("Make a shape of it", variant="primary")
            told = gradio.Textbox(label="Found", interactive=False)
        with gradio.Column(scale=1):
            painted = _shown(gradio, "What is painted", 360)
        with gradio.Column(scale=1):
            stage, download = _stage(gradio, "The shape", 360)

    def finish(*given: Any) -> tuple[str, str, str, str]:
        *paintings, category, holds, seed = given
        sketch, found, words = workshop.finish(paintings, category, TRUST[holds], seed)
        return sketch, found, found, words

    inputs = [*canvases, category, holds, seed]
    _on(gradio, button, finish, inputs, [painted, stage, download, told])


def _canvas(gradio: Any, label: str) -> Any:
    side = demo_painting.CANVAS
    blue = "#5b8dbd"  # about the color that shapes are shown in
    return gradio.Sketchpad(
        label=label,
        type="numpy",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        canvas_size=(side, side),
        fixed_canvas=True,
        height=side + 130,
        brush=gradio.Brush(default_size=12, colors=[blue], color_mode="fixed"),
        eraser=gradio.Eraser(default_size=12),
        format="png",
        buttons=[],
    )


def _walk(gradio: Any, workshop: Workshop) -> None:
    paths = gradio.State([])
    with gradio.Row():
        with gradio.Column(scale=1):
            category = _category(gradio, workshop)
            first, last = _seed(gradio, "From seed", 0), _seed(gradio, "To seed", 1)
            button = gradio.Button("Walk", variant="primary")
            place = gradio.Slider(1, WALK, value=1, step=1, label="On the way")
        with gradio.Column(scale=2):
            stage, download = _stage(gradio, "On the way")

    def walk(category: str, first: float, last: float, place: float) -> tuple[Any, str, str]:
        made = workshop.walk(category, first, last)
        return made, *(made[int(place) - 1],) * 2

    def show(made: list[str], place: float) -> Any:
        return (made[int(place) - 1],) * 2 if made else (None, None)

    _on(gradio, button, walk, [category, first, last, place], [paths, stage, download])
    place.change(show, [paths, place], [stage, download], queue=False)


def _category(gradio: Any, workshop: Workshop) -> Any:
    words = [(name.replace("_", " "), name) for name in workshop.categories]
    return gradio.Dropdown(words, value=workshop.categories[0], label="Category")


def _seed(gradio: Any, label: str = "Seed", value: int = 0) -> Any:
    return gradio.Number(value, label=label, precision=0, minimum=0, maximum=2**31 - 1)


def _stage(gradio: Any, label: str, height: int = 420) -> tuple[Any, Any]:
    return _shown(gradio, label, height), gradio.DownloadButton("Download .glb")


def _shown(gradio: Any, label: str, height: int) -> Any:
    return gradio.Model3D(
        label=label, interactive=False, height=height, camera_position=(225, 60, None)
    )


def _on(gradio: Any, button: Any, act: Callable[..., Any], inputs: list, outputs: list) -> None:
    """Lets a button act, one at a time: there is one model, and one chain of random numbers."""

    def told(error: Exception) -> Any:
        return gradio.Error(str(error), print_exception=False)

    @functools.wraps(act)
    def handler(*arguments: Any) -> Any:
        try:
            return act(*arguments)
        except (OSError, ValueError) as error:
            raise told(error) from error

    @functools.wraps(act)
    def in_steps(*arguments: Any) -> Iterator[Any]:
        try:
            yield from act(*arguments)
        except (OSError, ValueError) as error:
            raise told(error) from error

    chosen = in_steps if inspect.isgeneratorfunction(act) else handler
    button.click(chosen, inputs, outputs, concurrency_id="model", concurrency_limit=1)
