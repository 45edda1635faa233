"""From shapes to a preset's folder: trained, evaluated, described."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from descnet3d import (
    callbacks,
    cards,
    evaluation,
    latent_sheets,
    meshes,
    presets,
    reconstruction,
    view,
)
from descnet3d.files import OutputError, replacing
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.preset_config import CONFIG, as_json, read_config
from descnet3d.recipes import Recipe
from descnet3d.tasks import Task, task_of
from descnet3d.training import train
from descnet3d.voxels import VoxelArchive

SHEET_SHAPES = 16
SHEET_COLUMNS = 6
# How presets of each task are called, and what their cards say that they do.
NAMES = {
    "synthesis": "synthesis",
    "recovery": "recovery",
    "super_resolution": "superres",
    "cooperative": "cooperative",
}
DEEDS = {
    "synthesis": "synthesises",
    "recovery": "recovers hidden voxels",
    "super_resolution": "refines coarse shapes",
    "cooperative": "synthesises with a generator that it has taught",
}


def train_preset(
    shapes: np.ndarray,
    recipe: Recipe,
    folder: str | Path,
    *,
    name: str | None = None,
    category: str | None = None,
    flags: list[str] | None = None,
    sheet_every: float = 5.0,
    terms: str | None = None,
) -> Path:
    """Train a descriptor and write it as a preset, with its recipe, a sheet and a card.

    While it trains, `folder`/training holds checkpoints, `log.csv`, TensorBoard's logs and sheets;
    the checkpoints go when the preset is written.

    Args:
        shapes: occupancy in [0, 1], ``[n, D, H, W]``.
        recipe: how to train.
        folder: the preset's folder.
        name: the preset's id; `<task>_<category>_<side>` if absent.
        category: what the shapes are.
        flags: the command-line flags that make this recipe, kept in `recipe.flags`.
        sheet_every: minutes between sheets; 0 for none.
        terms: where the shapes come from and what their terms are, for the card.

    Returns:
        The folder.

    Raises:
        OutputError: when the folder holds a finished preset already.
    """
    folder = Path(folder)
    refuse_finished(folder)
    meshes.open3d()  # the sheets need it: better said now than after the training
    work = folder / "training"

    task = task_of(asdict(recipe))
    shown = shapes[:SHEET_COLUMNS]

    def draw(model: DescriptorNet, path: Path, title: str | None = None) -> None:
        _save_sheet(model, task, shown, path, title)

    def watching(phase: str, done: int, epochs: int) -> list[keras.callbacks.Callback]:
        work.mkdir(parents=True, exist_ok=True)
        chosen: list[keras.callbacks.Callback] = [
            callbacks.TrainingProgress(phase, done, epochs),
            keras.callbacks.CSVLogger(str(work / f"{phase}.csv"), append=bool(done)),
            keras.callbacks.TensorBoard(str(work / "tensorboard" / phase), write_graph=False),
        ]
        if sheet_every and phase != "generator":  # an autoencoder cannot synthesise
            sheets = callbacks.TrainingSheets(work / "sheets", phase, sheet_every, draw)
            chosen.append(sheets)
        return chosen

    network = None
    if recipe.start:
        start = presets.load(recipe.start)
        if (start.voxel_mean, start.reference_std) != (recipe.voxel_mean, recipe.reference_std):
            raise ValueError(
                f"start={recipe.start!r} has voxel_mean {start.voxel_mean} and reference_std "
                f"{start.reference_std}; give the recipe the same."
            )
        network = start.network
    model, core_minutes = train(shapes, recipe, work, network=network, callbacks=watching)
    words = [*(flags or []), *([f"--category={category}"] if category else [])]
    kind = category or "shapes"
    name = name or f"{NAMES[recipe.task]}_{kind}_{model.grid[0]}"
    model.save_preset(
        folder,
        id=name,
        task=recipe.task,
        category=kind,
        description=f"A 3D DescriptorNet that {DEEDS[recipe.task]}: {kind.replace('_', ' ')}.",
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
) -> str:
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
        A Markdown table: synthesised shapes' figures beside those of the real test shapes; the
        errors of recovered or super-resolved test shapes beside those of simple baselines.

    Raises:
        ValueError: when `write` is asked for with another task than the preset's own.
    """
    folder = Path(folder)
    model = presets.load(folder)
    words = [f"--category={category}"] if category else []
    category = category or model.preset.get("category", "")
    own = task_of(model.preset.get("recipe") or {})
    task = own if isinstance(task, str) else task
    if write and task != own:
        raise ValueError(f"write needs the preset's own task, {own or 'synthesis'}, not {task}.")
    measured: dict[str, Any] = {}
    if task is None and isinstance(model, CooperativeNet):
        columns, latents = evaluation.evaluate_cooperation(
            model, archive, category, num=num, seed=seed, progress=progress
        )
        synthesized, generated, real = map(asdict, columns.values())
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
            model, archive, category, num=num, seed=seed, progress=progress
        )
        measured = {"scores": asdict(scores), "real_scores": asdict(tests)}
        words.append(f"--num={num}")
        printed = evaluation.table({"synthesised": scores, "real test shapes": tests})
    else:
        rows = reconstruction.evaluate_reconstruction(
            model, task, archive, category, seed=seed, progress=progress
        )
        printed = reconstruction.table(rows)
        figures = {name: asdict(row) for name, row in rows.items()}
        measured = {"scores": figures.pop("this model"), "baselines": figures}
    if write:
        config = {**read_config(folder), **measured}
        command = f"descnet3d evaluate {config.get('id', folder)} --data=ARCHIVE"
        config["evaluation_command"] = " ".join([command, *words, f"--seed={seed}"])
        with replacing(folder / CONFIG) as path:
            path.write_text(as_json(config), encoding="utf-8")
        shown = archive.occupancy[
            archive.is_test & (archive.labels == archive.classes.index(category))
        ]
        _save_sheet(model, task, shown[:SHEET_COLUMNS], folder / "sheet.png")
        cards.write(folder)
    return printed


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
