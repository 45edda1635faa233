"""From shapes to a preset's folder: trained, evaluated, described."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from descnet3d import (
    callbacks,
    cards,
    classification,
    evaluation,
    latent_sheets,
    meshes,
    presets,
    reconstruction,
    view,
)
from descnet3d.files import OutputError, replacing
from descnet3d.models.classifier import ShapeClassifier
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.saved_model import SavedModel
from descnet3d.models.voxel_classifier import VoxelClassifier
from descnet3d.preset_config import CONFIG, as_json, read_config
from descnet3d.recipes import Recipe
from descnet3d.tasks import Task, task_of
from descnet3d.training import require_labels, train
from descnet3d.voxels import VoxelArchive

SHEET_SHAPES = 16
SHEET_COLUMNS = 6
# How presets of each task are called, and what their cards say that they do.
NAMES = {
    "synthesis": "synthesis",
    "recovery": "recovery",
    "super_resolution": "superres",
    "cooperative": "cooperative",
    "features": "features",
    "classification": "classifier",
}
DEEDS = {
    "synthesis": "synthesises",
    "recovery": "recovers hidden voxels",
    "super_resolution": "refines coarse shapes",
    "cooperative": "synthesises with a generator that it has taught",
}
SUPERVISED = "A supervised 3D CNN, by which generated shapes are judged; its categories: {}."
UNSUPERVISED = (
    "A logistic regression on what a 3D DescriptorNet, trained without labels, sees in shapes; "
    "its categories: {}."
)


def train_preset(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    name: str | None = None,
    category: str | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    flags: list[str] | None = None,
    sheet_every: float = 5.0,
    terms: str | None = None,
) -> Path:
    """Train a model and write it as a preset, with its recipe, a sheet and a card.

    While it trains, `folder`/training holds checkpoints, `log.csv`, TensorBoard's logs and sheets;
    the checkpoints go when the preset is written.

    Args:
        shapes: occupancy in [0, 1], ``[n, D, H, W]``.
        recipe: how to train.
        folder: the preset's folder.
        name: the preset's id; `<task>_<category>_<side>` if absent. Where no category is given,
            what stands there in an id of this form is what the shapes are called.
        category: what the shapes are.
        labels: an index into `classes` for each shape; classifiers need them.
        classes: the names of the categories.
        flags: the command-line flags that make this recipe, kept in `recipe.flags`.
        sheet_every: minutes between sheets; 0 for none.
        terms: where the shapes come from and what their terms are, for the card.

    Returns:
        The folder.

    Raises:
        OutputError: when the folder holds a finished preset already.
        ValueError: as `training.train`, and where features have no labels to be judged by.
    """
    folder = Path(folder)
    refuse_finished(folder)
    if recipe.task == "features":
        require_labels(shapes, labels, classes)
    meshes.open3d()  # the sheets need it: better said now than after the training
    work = folder / "training"

    task = task_of(asdict(recipe))
    shown = shapes[:SHEET_COLUMNS]

    def draw(model: SavedModel | VoxelClassifier, path: Path, title: str | None = None) -> None:
        if isinstance(model, classification.Classifier):
            assert labels is not None  # train and require_labels see to it
            _save_judged(model, shapes, labels, path)
        elif isinstance(model, DescriptorNet):
            _save_sheet(model, task, shown, path, title)

    def watching(phase: str, done: int, epochs: int) -> list[keras.callbacks.Callback]:
        work.mkdir(parents=True, exist_ok=True)
        chosen: list[keras.callbacks.Callback] = [
            callbacks.TrainingProgress(phase, done, epochs),
            keras.callbacks.CSVLogger(str(work / f"{phase}.csv"), append=bool(done)),
            keras.callbacks.TensorBoard(str(work / "tensorboard" / phase), write_graph=False),
        ]
        # An autoencoder cannot synthesise, and a classifier makes no shapes.
        if sheet_every and phase not in ("generator", "classifier"):
            sheets = callbacks.TrainingSheets(work / "sheets", phase, sheet_every, draw)
            chosen.append(sheets)
        return chosen

    network = None
    if recipe.start:
        start = presets.load_descriptor(recipe.start)
        if (start.voxel_mean, start.reference_std) != (recipe.voxel_mean, recipe.reference_std):
            raise ValueError(
                f"start={recipe.start!r} has voxel_mean {start.voxel_mean} and reference_std "
                f"{start.reference_std}; give the recipe the same."
            )
        network = start.network
    trained, core_minutes = train(
        shapes,
        recipe,
        work,
        network=network,
        labels=labels,
        classes=classes,
        callbacks=watching,
    )
    model: SavedModel | VoxelClassifier = trained
    if recipe.task == "features" and isinstance(trained, DescriptorNet):
        started = time.process_time()
        model = VoxelClassifier(trained).fit(shapes, labels, classes, seed=recipe.seed)
        core_minutes += (time.process_time() - started) / 60
    words = [*(flags or []), *([f"--category={category}"] if category else [])]
    if name and not category:
        words.append(f"--id={name}")
    in_form = re.fullmatch(rf"[a-z]+_(\w+)_{model.grid[0]}", name or "")
    kind = category or (in_form[1] if in_form else "shapes")
    name = name or f"{NAMES[recipe.task]}_{kind}_{model.grid[0]}"
    several = [] if labels is None else [classes[label] for label in np.unique(labels)]
    more: dict[str, Any] = {"categories": several} if len(several) > 1 else {}
    if isinstance(model, VoxelClassifier):
        more["validation"] = model.validation
    what = f"A 3D DescriptorNet that {DEEDS.get(recipe.task)}: {kind.replace('_', ' ')}."
    if isinstance(model, classification.Classifier):
        said = SUPERVISED if isinstance(model, ShapeClassifier) else UNSUPERVISED
        what = said.format(", ".join(classes))
    model.save_preset(
        folder,
        id=name,
        task=recipe.task,
        category=kind,
        **more,
        description=what,
        training={
            "command": f"descnet3d train --flagfile=recipe.flags --data=ARCHIVE --out={name}",
            "shapes": len(shapes),
            "core_minutes": round(core_minutes, 1),
            "machine": f"{platform.system()} {platform.machine()}",
            "software": f"Keras {keras.__version__} on {keras.backend.backend()}",
            "recipe": asdict(recipe),
            "terms": terms,
        },
    )
    with replacing(folder / "recipe.flags") as path:
        path.write_text("\n".join(words) + "\n", encoding="utf-8")
    draw(model, folder / "sheet.png")
    cards.write(folder)
    for checkpoint in work.glob("*.npz"):
        checkpoint.unlink()
    return folder


def refuse_finished(folder: Path) -> None:
    """Raise an `OutputError` where a folder holds a finished preset already."""
    if (folder / "card.md").exists():  # the last file that a run writes
        raise OutputError(f"{folder} holds a finished preset: give another folder, or remove it.")


def evaluate_preset(
    folder: str | Path,
    archive: VoxelArchive,
    *,
    category: str | None = None,
    task: Task | str | None = "own",
    num: int = 64,
    seed: int = 0,
    write: bool = False,
    progress: bool = False,
) -> Finding:
    """Measure what a preset does.

    Args:
        folder: the preset.
        archive: shapes of all categories, with their official split.
        category: what its shapes should be; the preset's own if absent.
        task: what it is asked: the task that it was trained for ("own"), None for synthesis, or
            another one.
        num: how many shapes to synthesise.
        seed: the seed of what it synthesises and of the hidden voxels.
        write: whether to write scores, sheet and card into the folder.
        progress: whether to show a progress bar.

    Returns:
        Synthesised shapes' figures beside those of the real test shapes; the errors of recovered
        or super-resolved test shapes beside those of simple baselines; the accuracy of a
        classifier.

    Raises:
        ValueError: when `write` is asked for with another task than the preset's own.
    """
    folder = Path(folder)
    model = presets.load(folder)
    if isinstance(model, classification.Classifier):
        if not isinstance(task, str):
            raise ValueError(f"{folder} holds a classifier, which cannot be asked anything else.")
        found = _judge(model, archive)
    else:
        found = _ask(model, archive, category, task, num, seed, write, progress)
    if write:
        config = {**read_config(folder), **found.measured}
        command = f"descnet3d evaluate {config.get('id', folder)} --data=ARCHIVE"
        config["evaluation_command"] = " ".join([command, *found.words])
        with replacing(folder / CONFIG) as path:
            path.write_text(as_json(config), encoding="utf-8")
        found.draw(folder / "sheet.png")
        cards.write(folder)
    return found


class Finding(NamedTuple):
    """What an evaluation found.

    Attributes:
        measured: what it puts into a preset's config.
        words: the flags that repeat it.
        printed: Markdown tables of it.
        draw: renders the sheet that goes with it.
    """

    measured: dict[str, Any]
    words: list[str]
    printed: str
    draw: Callable[[Path], None]


def _judge(model: classification.Classifier, archive: VoxelArchive) -> Finding:
    """How a classifier does on the test shapes."""
    scores = classification.evaluate_classifier(model, archive)
    test = archive.occupancy[archive.is_test], archive.labels[archive.is_test]
    return Finding(
        {"scores": asdict(scores)},
        [],
        classification.table(scores),
        lambda path: _save_judged(model, *test, path),
    )


def _ask(
    model: DescriptorNet,
    archive: VoxelArchive,
    category: str | None,
    task: Task | str | None,
    num: int,
    seed: int,
    write: bool,
    progress: bool,
) -> Finding:
    """What a descriptor does when it is asked a task."""
    words = [f"--category={category}"] if category else []
    category = category or model.preset.get("category", "")
    own = task_of(model.preset.get("recipe") or {})
    task = own if isinstance(task, str) else task
    if write and task != own:
        raise ValueError(f"write needs the preset's own task, {own or 'synthesis'}, not {task}.")
    measured: dict[str, Any] = {}
    of_several = category == model.preset.get("category") and model.preset.get("categories")
    if task is None:
        classifier = presets.reference_classifier(archive.classes, model.grid)
        reference = evaluation.Reference(archive, None if of_several else category, classifier)
    if task is None and isinstance(model, CooperativeNet):
        columns, latents = evaluation.evaluate_cooperation(
            model, reference, num=num, seed=seed, progress=progress
        )
        synthesized, generated, real = (scores.as_dict() for scores in columns.values())
        measured = {
            "scores": synthesized,
            "generator_scores": generated,
            "real_scores": real,
            "latent_scores": asdict(latents),
        }
        words.append(f"--num={num}")
        printed = f"{evaluation.table(columns)}\n\n{evaluation.latent_table(latents)}"
    elif task is None:
        scores, tests = evaluation.evaluate_synthesis(
            model, reference, num=num, seed=seed, progress=progress
        )
        measured = {"scores": scores.as_dict(), "real_scores": tests.as_dict()}
        words.append(f"--num={num}")
        printed = evaluation.table({"synthesised": scores, "real test shapes": tests})
    else:
        rows = reconstruction.evaluate_reconstruction(
            model, task, archive, category, seed=seed, progress=progress
        )
        printed = reconstruction.table(rows)
        figures = {name: asdict(row) for name, row in rows.items()}
        measured = {"scores": figures.pop("this model"), "baselines": figures}
    asked, shown = task, archive.occupancy[:0]
    if task is not None:
        own_shapes = archive.labels == archive.classes.index(category)
        shown = archive.occupancy[archive.is_test & own_shapes][:SHEET_COLUMNS]
    return Finding(
        measured,
        [*words, f"--seed={seed}"],
        printed,
        lambda path: _save_sheet(model, asked, shown, path),
    )


def _save_judged(
    model: classification.Classifier, shapes: np.ndarray, labels: np.ndarray, path: Path
) -> None:
    """A sheet of shapes that a classifier takes for something else, or of the first where none."""
    found = model.probabilities(shapes).argmax(axis=1)
    rows = np.flatnonzero(found != labels)[: 3 * SHEET_COLUMNS]
    rows = rows if len(rows) else np.arange(min(len(shapes), SHEET_COLUMNS))
    names = [name.replace("_", " ") for name in model.classes]
    captions = [f"{names[labels[row]]}, as {names[found[row]]}" for row in rows]
    view.save_sheet(shapes[rows], path, labels=captions, columns=SHEET_COLUMNS)


def _save_sheet(
    model: DescriptorNet,
    task: Task | None,
    shapes: np.ndarray,
    path: Path,
    title: str | None = None,
) -> None:
    """Shapes from fresh noise; or given shapes before, after, and as they are."""
    if isinstance(model, CooperativeNet):
        tiles, labels = latent_sheets.cooperation(model)
        view.save_sheet(tiles, path, labels=labels, columns=latent_sheets.COLUMNS, title=title)
        return
    if task is None:
        view.save_sheet(model.synthesize(SHEET_SHAPES, seed=0), path, title=title)
        return
    problem = reconstruction.pose(task, shapes)
    found = reconstruction.solve(model, problem)
    tiles, labels = reconstruction.sheet_rows(problem.known, found, problem.truth)
    view.save_sheet(tiles, path, labels=labels, columns=len(shapes), title=title)
