"""A preset's card: what it is, how it was trained, what was measured, and by which commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descnet3d.energy.tasks import TASKS
from descnet3d.files import replacing
from descnet3d.models.preset_config import CONFIG, PresetError, read_config
from descnet3d.tables import scores_table

REAL = "real test shapes"
MEANINGS = {
    "shapes": "how many shapes",
    "nearest_share": "share whose nearest training shape (IoU, all categories) is of this category",
    "nearest_iou": "mean IoU to that nearest training shape",
    "occupancy_ratio": "mean occupancy, relative to the training shapes'",
    "copies": "share above an IoU of 0.98 with a training shape",
    "empty": "empty shapes",
    "alike": "shapes identical to an earlier one of the set",
    "one_piece": "share of the shapes in one piece (voxels that touch at a corner are joined)",
    "largest_piece": "mean share of a shape's voxels in its largest piece",
    "surface_to_volume": "exposed faces for each occupied voxel",
    "pairwise_iou": "mean IoU of pairs (the lower, the more diverse)",
    "coverage": "share of the test shapes that are the nearest (IoU) of one of them",
    "matching_distance": "mean 1 - IoU of a test shape and the nearest of them",
    "neighbour_accuracy": "accuracy of telling them from test shapes by the nearest other (IoU; "
    "0.5 is best)",
    "chamfer_coverage": "coverage by Chamfer distance",
    "chamfer_matching_distance": "mean Chamfer distance of a test shape and the nearest of them",
    "chamfer_neighbour_accuracy": "accuracy of telling them apart by Chamfer distance",
    "inception_score": "inception score by the reference classifier, ten parts",
    "frechet_distance": "Fréchet distance to the test shapes in the reference classifier",
    "energy_generated": "mean energy of the generator's shapes",
    "energy_revised": "mean energy of the same shapes, revised",
    "energy_real": "mean energy of real test shapes",
    "encoded_iou": "mean IoU of test shapes and what the generator makes of their latents",
    "nearest_iou_of_test": "mean IoU of test shapes and the nearest training shape",
    "largest_step": "largest step (1 - IoU) between neighbours on a path of nine shapes",
    "mean_step": "mean step, likewise",
    "absolute_error": "mean absolute error over the voxels that had to be found",
    "squared_error": "mean squared error over them",
    "iou": "mean IoU within them, at a threshold of 0.5",
    "accuracy": "share of test shapes whose category is found",
    "accuracy_low": "its 95 % confidence interval (Wilson) begins at",
    "accuracy_high": "and ends at",
    "cross_entropy": "mean cross-entropy, in nats",
    "class_probability": "mean probability of the right category",
}


def write(folder: str | Path) -> Path:
    """Write `card.md` from what `config.json` and `recipe.flags` of the folder say.

    Args:
        folder: a preset.

    Returns:
        The card's path.

    Raises:
        PresetError: when the folder is not a preset.
    """
    folder = Path(folder)
    config = read_config(folder)
    path = folder / "card.md"
    try:
        text = _text(folder, config)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PresetError(f"{folder / CONFIG} has no card in it: it fails at {error}.") from error
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _text(folder: Path, config: dict[str, Any]) -> str:
    model, training = config["model"], config.get("training", {})
    size = "×".join(str(side) for side in config["size"])
    lines = [f"# {config.get('id', folder.name)}", ""]
    if (folder / "sheet.png").exists():
        lines += [f"![{TASKS[config.get('task', 'synthesis')].picture}](sheet.png)", ""]
    lines += [
        config.get("description", "A 3D DescriptorNet."),
        "",
        f"- Grid {size}, {config['parameters']:,} parameters, {_weights(config)}.",
        *_energy_lines(model),
        *_generator_lines(model),
        *_pooling_lines(model),
        "",
    ]
    if training:
        lines += [
            "## Training",
            "",
            f"```\n{training['command']}\n```",
            "",
            f"{training['shapes']} shapes; {training['core_minutes']:.0f} minutes of one core "
            f"({training['machine']}; {training['software']}). The recipe, in full:",
            "",
            f"```json\n{json.dumps(training['recipe'], indent=1)}\n```",
            "",
        ]
    if validation := config.get("validation"):
        found = ", ".join(f"{accuracy:.4f} at C = {c}" for c, accuracy in validation.items())
        lines += [f"Balanced accuracy in cross-validation on the training shapes: {found}.", ""]
    lines += ["## Figures", ""]
    columns, command = figures(config), config.get("evaluation_command")
    if columns and command:
        lines += [f"```\n{command}\n```", ""]
    if len(columns) > 1:
        beside_real = REAL in columns
        lines.append(scores_table(columns, ratio=beside_real, meanings=MEANINGS))
        if beside_real and (latents := config.get("latent_scores")):
            lines += ["", scores_table({"": latents}, meanings=MEANINGS, corner="latents")]
    elif columns:
        [scores] = columns.values()
        lines.append(scores_table({"": scores}, meanings=MEANINGS, corner="test shapes"))
    else:
        lines.append("Not evaluated yet: `descnet3d evaluate FOLDER --data=ARCHIVE --write`.")
    lines += [
        "",
        "## Data and terms",
        "",
        training.get("terms") or _terms(model),
        "",
    ]
    return "\n".join(lines)


def figures(config: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """What was measured of a preset, and of what it is measured beside.

    Args:
        config: the preset's.

    Returns:
        Sets of the same scores by what they are of, the preset's own first; none where nothing was
        measured.
    """
    scores, real, alone = map(config.get, ("scores", "real_scores", "generator_scores"))
    if not scores:
        return {}
    if baselines := config.get("baselines"):
        return {"this preset": scores, **baselines}
    if real:
        generator = {"the generator alone": alone} if alone else {}
        return {"synthesised": scores, **generator, REAL: real}
    return {"test shapes": scores}


def _terms(model: dict[str, Any]) -> str:
    if "shares" in model:
        return f"Those of {model['shares']}."
    return "Trained on the shapes that `--data` named; their terms apply."


def _weights(config: dict[str, Any]) -> str:
    if "weights" in config:
        return f"weights in {config['weights']['dtype']}"
    model = config["model"]
    return f"those of {model['shares']}, bound to the category {model['category']}"


_OBSERVING = (
    "- It is told what is observed of a shape: hidden voxels and fine shapes are found on a few "
    "levels, with all of the noise drawn anew.",
)


def _energy_lines(model: dict[str, Any]) -> list[str]:
    if "sampling" not in model or "pooling" in model:
        return []
    if model.get("class") == "SurfaceDescriptor":
        return [
            "- Energy E(Y | a coarser shape, level) = ‖Y‖²/2s² - f, on occupancy minus "
            f"{model['voxel_mean']:.4g}, at every noise-to-signal level; no weight belongs to a "
            "category or to a place, so that it refines shapes on grids of any size.",
            *["- It sees places beside their mirrored ones about the middle of the grid."]
            * ("mirrored_voxels" in json.dumps(model["network"])),
            "- Refinement: twice as fine a round, by annealed Langevin dynamics on "
            "{reconstruction_steps} levels from {first_level} to {last_level}, with all of the "
            "noise drawn anew; shapes are drawn by the {draw}.".format(**model["sampling"]),
        ]
    if "first_level" in model["sampling"]:
        drawing = model.get("field") or model["network"]
        told = len(drawing.get("config", {}).get("input_layers", ())) > 3
        return [
            "- Energy E(Y | c, level) = ‖Y‖²/2s² - f(Y | c, level), on occupancy minus "
            f"{model['voxel_mean']:.4g}, at every noise-to-signal level.",
            "- Sampling: annealed Langevin dynamics from noise about the mean shape, {num_steps} "
            "levels from {first_level} to {last_level}, and {settle_steps} steps at "
            "{settle_level}; {fresh_noise} of the noise is drawn anew at each, all of it from "
            "{settle_level} down; "
            "shapes are drawn by the {draw}.".format(**model["sampling"]),
            *_wholeness_lines(model["sampling"]),
            *_OBSERVING[:told],
        ]
    return [
        f"- Energy E(Y) = ‖Y‖²/2s² - f(Y), s = {model['reference_std']}, on occupancy minus "
        f"{model['voxel_mean']:.4g}.",
        "- Sampling: {num_steps} Langevin steps of size {step_size}, temperature {temperature}, "
        "from noise of standard deviation {initial_std}, in {rounds} rounds with a contraction by "
        "{contraction} between them.".format(**model["sampling"]),
    ]


def _wholeness_lines(sampling: dict[str, Any]) -> list[str]:
    level = sampling.get("whole_below", 0.0)
    if not level:
        return []
    return [
        f"- From level {level} down new shapes are held in one piece: where what is drawn falls "
        "apart, it is joined along the likeliest path, or what is loose goes."
    ]


def _pooling_lines(model: dict[str, Any]) -> list[str]:
    if "pooling" not in model:
        return []
    line = "- Features: mean and largest responses of {layers} in {regions}³ regions, of shapes "
    if "feature_level" in model.get("sampling", {}):
        how = f"at the noise-to-signal level {model['sampling']['feature_level']:g}, without noise."
    else:
        how = "that are contracted towards grey by {contractions}."
    return [(line + how).format(**_in_words(model["pooling"]))]


def _in_words(pooling: dict[str, Any]) -> dict[str, Any]:
    joined = {"layers": ", ".join(pooling["layers"])}
    factors = ", ".join(f"{factor:g}" for factor in pooling["contractions"])
    return {**pooling, **joined, "contractions": factors}


def _generator_lines(model: dict[str, Any]) -> list[str]:
    if "revision" not in model:
        return []
    return [
        f"- Generator Y = g(Z) + ε, with ε of standard deviation {model['generator_std']}.",
        "- Revision of its shapes: {num_steps} Langevin steps of size {step_size}, temperature "
        "{temperature}, from the shapes contracted by {contraction}.".format(**model["revision"]),
    ]
