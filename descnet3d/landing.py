"""From shapes to a preset's folder: trained, evaluated, described."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from descnet3d import callbacks, cards, evaluation, meshes, view
from descnet3d.files import OutputError, replacing
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.preset_folder import CONFIG, as_json, read_config
from descnet3d.recipes import Recipe
from descnet3d.training import train
from descnet3d.voxels import VoxelArchive

SHEET_SHAPES = 16


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
        name: the preset's id; `synthesis_<category>_<side>` if absent.
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

    def watching(phase: str, done: int, epochs: int) -> list[keras.callbacks.Callback]:
        work.mkdir(parents=True, exist_ok=True)
        chosen: list[keras.callbacks.Callback] = [
            callbacks.TrainingProgress(phase, done, epochs),
            keras.callbacks.CSVLogger(str(work / f"{phase}.csv"), append=bool(done)),
            keras.callbacks.TensorBoard(str(work / "tensorboard" / phase), write_graph=False),
        ]
        if sheet_every:
            chosen.append(callbacks.SynthesisSheets(work / "sheets", phase, sheet_every))
        return chosen

    model, core_minutes = train(shapes, recipe, work, callbacks=watching)
    words = [*(flags or []), *([f"--category={category}"] if category else [])]
    kind = category or "shapes"
    name = name or f"synthesis_{kind}_{model.grid[0]}"
    model.save_preset(
        folder,
        id=name,
        task="synthesis",
        category=kind,
        description=f"A 3D DescriptorNet that synthesises: {kind.replace('_', ' ')}.",
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
    _write_sheet(model, folder)
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
    num: int = 64,
    seed: int = 0,
    write: bool = False,
    progress: bool = False,
) -> str:
    """Measure what a preset synthesises.

    Args:
        folder: the preset.
        archive: shapes of all categories, with their official split.
        category: what its shapes should be; the preset's own if absent.
        num: how many to synthesise.
        seed: their seed.
        write: whether to write scores, sheet and card into the folder.
        progress: whether to show a progress bar.

    Returns:
        A Markdown table: the figures beside those of the real test shapes.
    """
    folder = Path(folder)
    model = DescriptorNet.from_preset(folder)
    words = [f"--category={category}"] if category else []
    category = category or model.preset.get("category", "")
    scores, real = evaluation.evaluate_synthesis(
        model, archive, category, num=num, seed=seed, progress=progress
    )
    if write:
        config = read_config(folder)
        config["scores"], config["real_scores"] = asdict(scores), asdict(real)
        config["evaluation_command"] = " ".join(
            [
                f"descnet3d evaluate {config.get('id', folder)} --data=ARCHIVE",
                *words,
                f"--num={num} --seed={seed}",
            ]
        )
        with replacing(folder / CONFIG) as path:
            path.write_text(as_json(config), encoding="utf-8")
        _write_sheet(model, folder)
        cards.write(folder)
    return evaluation.table(scores, real)


def _write_sheet(model: DescriptorNet, folder: Path) -> None:
    """The sheet that `descnet3d synthesize` makes without further flags."""
    view.save_sheet(model.synthesize(SHEET_SHAPES, seed=0), folder / "sheet.png")
