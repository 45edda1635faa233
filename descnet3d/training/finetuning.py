"""Fine-tuning: which preset to begin with, and the recipe that goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import keras
import numpy as np
from tqdm import tqdm

from descnet3d.energy.conditions import task_of
from descnet3d.energy.objectives import EquilibriumMatching
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.models.preset_config import BOUND, read_config
from descnet3d.shapes.occupancy import as_occupancy
from descnet3d.training.recipes import RECIPES, Recipe
from descnet3d.zoo import presets
from descnet3d.zoo.index import Preset

# What fine-tuning a preset of each task changes in the recipe of the task.
SHORTER: dict[str, dict[str, Any]] = {
    "synthesis": {"matching_steps": 4000, "matching_learning_rate": 1e-3},
    "recovery": {"matching_steps": 1800, "matching_learning_rate": 5e-4},
    "super_resolution": {"matching_steps": 1800, "matching_learning_rate": 5e-4},
    "cooperative": {"matching_steps": 2000, "matching_learning_rate": 1e-3},
    "annealed": {
        "denoising_steps": 2000,
        "denoising_learning_rate": 5e-4,
        "gradient_steps": 1000,
        "average": 0.995,
        "mirror_axes": "",
    },
}
_BASES = {"synthesis": "base"}
_ANNEALED = ("AnnealedDescriptor", BOUND)
# What a preset's own recipe decides, whatever its shapes were.
_KEPT = ("voxel_mean", "reference_std", "network", "corruption", "ratio", "langevin_contraction")
_JUDGED_BY = 48
_AT_ONCE = 48


class Candidate(NamedTuple):
    """A preset that could be fine-tuned.

    Attributes:
        preset: it.
        loss: its matching loss on the shapes, before anything is learned.
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
    """The presets at hand, those first whose energy fits given shapes best.

    The measure is the loss that training would begin with: how far ∂E/∂Y is from the direction from
    noise to the shapes (`EquilibriumMatching`), on at most 48 of them with the same noise for each
    preset. Energies themselves do not compare, as each has its own normaliser.

    Args:
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        seed: the seed of the noise, and of which shapes are looked at.
        without: categories whose presets are left out.
        progress: shows a bar with the time left.

    Returns:
        The presets that synthesise on the shapes' grid, by rising loss.

    Raises:
        ValueError: the shapes are no occupancy, or no preset has their grid.
    """
    shapes = as_occupancy(shapes, "shapes")
    order = np.random.default_rng(seed).permutation(len(shapes))[:_JUDGED_BY]
    able = [
        preset
        for preset in presets.list_presets()
        if preset.task in ("synthesis", "cooperative")
        and preset.path is not None
        and preset.size == shapes.shape[1:]
        and preset.category not in without
        # Their energy is one of noisy shapes, whose gradient on other paths says nothing.
        and not _is_annealed(preset)
    ]
    own = {preset.category for preset in able if preset.task == "synthesis"}
    # A cooperative preset begins with the descriptor of its category's synthesis preset.
    able = [preset for preset in able if preset.task == "synthesis" or preset.category not in own]
    if not able:
        side = "x".join(map(str, shapes.shape[1:]))
        raise ValueError(
            f"no preset here synthesises on {side} grids: give a size that one has, or say which "
            "preset to begin with"
        )
    found = []
    for preset in tqdm(able, "nearest preset", leave=False, disable=not progress):
        model = presets.load_descriptor(presets.fetch(preset))
        found.append(Candidate(preset, matching_loss(model, shapes[order], seed=seed)))
    return sorted(found, key=lambda candidate: candidate.loss)


def matching_loss(model: DescriptorNet, shapes: np.ndarray, *, seed: int = 0) -> float:
    """How badly an energy fits shapes: the loss of `EquilibriumMatching` on paths to them.

    Of shapes that were held out it tells whether a model has learned the category, or its training
    shapes by heart.

    Args:
        model: whose energy is asked.
        shapes: occupancy in [0, 1], `[n, D, H, W]`.
        seed: of the noise and of the places on the paths: the same for models to be compared.

    Returns:
        The mean over the shapes, the smaller the better.

    Raises:
        ValueError: the shapes are no occupancy, or on another grid than the model's.
    """
    shapes = as_occupancy(shapes, "shapes", model.grid)
    noise, losses = keras.random.SeedGenerator(seed), []
    pieces = [shapes[at : at + _AT_ONCE] for at in range(0, len(shapes), _AT_ONCE)]
    for piece in pieces:
        loss = EquilibriumMatching().loss(
            model.energy_of, model.to_model_space(piece), model.reference_std, noise
        )
        losses.append(float(keras.ops.convert_to_numpy(loss)))
    return float(np.average(losses, weights=[len(piece) for piece in pieces]))


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
    if named is not None and task not in (None, "synthesis") and _is_annealed(named):
        named = _descended_by_langevin(start) or named
    start = named.id if named is not None else start
    config = read_config(presets.find(start))
    own = config.get("task") or "synthesis"
    task = task or {"cooperative": "synthesis"}.get(own, own)
    if task not in SHORTER or own not in SHORTER:
        raise ValueError(
            f"{start} is for {own}, and {', '.join(SHORTER)} can be fine-tuned; classifiers and "
            "features are fitted by train"
        )
    if config["model"].get("class") in _ANNEALED:
        if task != "synthesis":
            raise ValueError(
                f"{start} is sampled by annealing, and goes on as synthesis, not as {task}: begin "
                "with a preset that is not annealed."
            )
        return "annealed", _annealed(start, changes)
    name = _BASES.get(task, task)
    told = (config.get("training") or config).get("recipe") or {}
    known = {field.name for field in fields(Recipe)}
    kept = {key: told[key] for key in _KEPT if key in told and key in known}
    kept |= {key: config["model"][key] for key in ("voxel_mean", "reference_std")}
    if own == task:
        kept |= {key: told[key] for key in told if key.startswith("sampling_") and key in known}
    if task == "cooperative" and count is not None:
        most = RECIPES[name].generator_latents
        kept["generator_latents"] = max(1, min(most, count // 2))
    settings = {**SHORTER[task], **kept, "start": start, **changes}
    # Weights averaged over more iterations than there are would be those of the start.
    most = 1 - 4 / max(settings["matching_steps"], 4)
    settings.setdefault("average", min(RECIPES[name].average, most))
    recipe = replace(RECIPES[name], **settings)
    task_of({"task": task, "corruption": recipe.corruption, "ratio": recipe.ratio})
    return name, recipe


def _is_annealed(preset: Preset) -> bool:
    return read_config(presets.fetch(preset))["model"].get("class") in _ANNEALED


def _descended_by_langevin(category: str) -> Preset | None:
    """A preset of a category whose energy is one of clean shapes, as other tasks need it."""
    for task in ("synthesis", "cooperative"):
        for preset in presets.list_presets():
            able = (preset.category, preset.task) == (category, task)
            if able and preset.path is not None and not _is_annealed(preset):
                return preset
    return None


def _annealed(start: str, changes: dict[str, Any]) -> Recipe:
    """The recipe that goes on from an annealed descriptor; its steps are those of denoising."""
    renamed = {
        "matching_steps": "denoising_steps",
        "matching_learning_rate": "denoising_learning_rate",
    }
    changes = {renamed.get(name, name): value for name, value in changes.items()}
    if "denoising_steps" in changes:
        changes.setdefault("gradient_steps", changes["denoising_steps"] // 2)
    return replace(RECIPES["annealed"], **{**SHORTER["annealed"], "start": start, **changes})


def differences(name: str, recipe: Recipe) -> list[str]:
    """The command-line flags that make a recipe of the one with a name."""
    before = RECIPES[name]
    changed = [
        (field.name, getattr(recipe, field.name))
        for field in fields(Recipe)
        if getattr(recipe, field.name) != getattr(before, field.name)
    ]
    return [f"--recipe={name}", *(f"--{setting}={value}" for setting, value in changed)]
