"""Fine-tuning: which preset to begin with, and the recipe that goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from descnet3d.energy.settings import AnnealingSettings
from descnet3d.energy.tasks import TASKS, TUNABLE, TUNABLE_ANNEALED
from descnet3d.models.annealed import AnnealedDescriptor
from descnet3d.models.preset_config import BOUND, folder_shared, read_config
from descnet3d.progress import bar
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.training.recipes import RECIPES, Recipe
from descnet3d.zoo import presets
from descnet3d.zoo.index import Preset

_ANNEALED = ("AnnealedDescriptor", BOUND)
# Where something is known of shapes: no energy need be fitted to the odds.
_OBSERVING: dict[str, Any] = {
    "denoising_observed": 0.8,
    "gradient_steps": 0,
    "annealing_first_level": 40.0,
    "annealing_whole_below": 0.0,
}
# What a preset's own recipe decides, whatever its shapes were.
_KEPT = ("voxel_mean", "reference_std", "network", "corruption", "ratio", "langevin_contraction")
_JUDGED_BY = 24
_AT_ONCE = 12
# Where what a shape is is decided.
_LEVELS = (2.0, 4.0, 8.0)


class Candidate(NamedTuple):
    """A preset that could be fine-tuned.

    Attributes:
        preset: it.
        loss: its denoising loss on the shapes, before anything is learned.
    """

    preset: Preset
    loss: float


def nearest_presets(
    shapes: np.ndarray,
    *,
    seed: int = 0,
    without: Sequence[str] = (),
    progress: bool = False,
) -> list[Candidate]:
    """The presets at hand, those first that fit given shapes best.

    The measure is the loss that training would begin with: how well the odds of an annealed
    descriptor, bound to a category, draw the shapes from noise (`denoising_loss`), on at most 24 of
    them with the same noise for each.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        seed: the seed of the noise, and of which shapes are looked at.
        without: categories whose presets are left out.
        progress: shows a bar with the time left.

    Returns:
        The presets of one category that synthesise on the shapes' grid, by rising loss.

    Raises:
        ValueError: the shapes are no occupancy, or no preset has their grid.
    """
    shapes = as_occupancy(shapes, "shapes")
    order = np.random.default_rng(seed).permutation(len(shapes))[:_JUDGED_BY]
    able = [
        preset
        for preset in presets.list_presets()
        if preset.task == "synthesis"
        and preset.path is not None
        and preset.size == shapes.shape[1:]
        and preset.category not in without
        and _is_annealed(preset)
    ]
    if not able:
        side = "x".join(map(str, shapes.shape[1:]))
        raise ValueError(
            f"no preset here synthesises on {side} grids: give a size that one has, or say which "
            "preset to begin with"
        )
    found = []
    models: dict[str, Any] = {}  # presets that are bound to a category share one
    shown = bar(len(able), "preset", title="nearest preset", items=able) if progress else able
    for preset in shown:
        told = read_config(presets.fetch(preset))["model"]
        source = told.get("shares", preset.id)
        if source not in models:
            models[source] = presets.load(source)
        loss = denoising_loss(models[source], shapes[order], told.get("category"), seed=seed)
        found.append(Candidate(preset, loss))
    return sorted(found, key=lambda candidate: candidate.loss)


def denoising_loss(
    model: AnnealedDescriptor, shapes: np.ndarray, category: str | None = None, *, seed: int = 0
) -> float:
    """How badly an annealed descriptor knows shapes: the cross-entropy of drawing them from noise.

    Args:
        model: bound to a category, or to none.
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        category: what is told of the shapes; the model's own category, or nothing, where None.
        seed: of the noise: the same for models to be compared.

    Returns:
        The mean over the voxels and over a few noise levels, the smaller the better.

    Raises:
        ValueError: the shapes are no occupancy, or on another grid than the model's.
    """
    shapes = as_occupancy(shapes, "shapes", model.grid)
    noise, losses = keras.random.SeedGenerator(seed), []
    for at in range(0, len(shapes), _AT_ONCE):
        observed = model.to_model_space(shapes[at : at + _AT_ONCE])
        count = observed.shape[0]
        condition = ops.convert_to_tensor(model.condition_of(category, count))
        for level in _LEVELS:
            levels = ops.full((count, 1), level)
            positions = model.conditional.noised(observed, levels, noise)
            loss = model.cross_entropy(positions, condition, levels, observed + model.voxel_mean)
            losses.append(float(ops.sum(loss)))
    return sum(losses) / (len(shapes) * len(_LEVELS))


def recipe_from(
    start: str, task: str | None = None, count: int | None = None, **changes: Any
) -> tuple[str, Recipe]:
    """The recipe that fine-tunes a preset.

    Args:
        start: the preset, by category (with `task`), id, folder or address.
        task: what the new preset is for. Where None, what the old one is for; of a cooperative one
            its descriptor alone goes on, as synthesis.
        count: how many shapes there are; a generator has at most half as many latents.
        changes: settings of the recipe that are to be others.

    Returns:
        The name of the recipe in `RECIPES` that it began with, and the recipe itself: shorter, from
        the start's network and with the settings that belong to it.

    Raises:
        ValueError: the start cannot be fine-tuned, or a setting has no meaning.
    """
    named = presets.named(start, task or "synthesis") or presets.named(start)
    if named is not None and task == "cooperative" and _is_annealed(named):
        named = _descended_by_langevin(named)
    start = named.id if named is not None else start
    folder = presets.find(start)
    config = read_config(folder)
    own = config.get("task") or "synthesis"
    task = task or {"cooperative": "synthesis"}.get(own, own)
    if task not in TUNABLE or own not in TUNABLE:
        raise ValueError(
            f"{start} is for {own}, and {', '.join(TUNABLE)} can be fine-tuned; classifiers and "
            "features are fitted by train"
        )
    told = (config.get("training") or config).get("recipe") or {}
    if config["model"].get("class") in _ANNEALED:
        if task == "cooperative":
            raise ValueError(
                f"{start} is sampled by annealing, and teaches no generator: begin with a preset "
                "that is not annealed."
            )
        if TASKS[task].condition is not None:
            asked = {key: told[key] for key in ("corruption", "ratio") if key in told}
            changes = {"task": task, **_OBSERVING, **(asked if own == task else {}), **changes}
        return "annealed", _annealed(start, folder, config["model"], changes)
    name = task if task in RECIPES else "base"
    before = RECIPES[name]
    kept = {key: told[key] for key in _KEPT if key in told}
    kept |= {key: config["model"][key] for key in ("voxel_mean", "reference_std")}
    if own == task:
        sampling = {key for key in before.flat() if key.startswith("sampling_")}
        kept |= {key: told[key] for key in sampling & told.keys()}
    if task == "cooperative" and count is not None:
        kept["generator_latents"] = max(1, min(before.generator.latents, count // 2))
    settings = {**TUNABLE[task], **kept, "start": start, **changes}
    # Weights averaged over more iterations than there are would be those of the start.
    most = 1 - 4 / max(settings["matching_steps"], 4)
    settings.setdefault("average", min(before.average or 0.0, most))
    return name, before.changed(**settings)


def _is_annealed(preset: Preset) -> bool:
    return read_config(presets.fetch(preset))["model"].get("class") in _ANNEALED


def _descended_by_langevin(start: Preset) -> Preset:
    """A preset whose energy is one of clean shapes, as generators need it; its category's if any.

    Raises:
        ValueError: there is none.
    """
    wanted = [(start.category, task) for task in TUNABLE]
    for category, task in (*wanted, ("modelnet10", "cooperative")):
        for preset in presets.list_presets():
            able = (preset.category, preset.task, preset.size) == (category, task, start.size)
            if able and preset.path is not None and not _is_annealed(preset):
                return preset
    raise ValueError(
        f"{start.id} is sampled by annealing, and no preset here that is not can go on in its "
        "place: say which one to begin with."
    )


def _annealed(
    start: str, folder: Path, described: dict[str, Any], changes: dict[str, Any]
) -> Recipe:
    """The recipe that goes on from an annealed descriptor; its steps are those of denoising."""
    renamed = {
        "matching_steps": "denoising_steps",
        "matching_learning_rate": "denoising_learning_rate",
    }
    changes = {renamed.get(name, name): value for name, value in changes.items()}
    if "denoising_steps" in changes:
        changes.setdefault("gradient_steps", changes["denoising_steps"] // 2)
    if "shares" in described:
        shared = folder_shared(folder, described["shares"], presets.find)
        described = read_config(shared)["model"]
    recipe = replace(RECIPES["annealed"], annealing=AnnealingSettings(**described["sampling"]))
    settings = {**TUNABLE_ANNEALED, "start": start, **changes}
    if "average" not in changes:
        # Averaged over more iterations than there are, weights would be those of the start.
        most = 1 - 2 / max(settings["denoising_steps"], 2)
        settings["average"] = min(settings["average"], most)
    return recipe.changed(**settings)
