"""What a generator is worth beside the descriptor that taught it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descnet3d.evaluation import shape_distances
from descnet3d.evaluation.synthesis import (
    Reference,
    SynthesisScores,
    require_grid,
    score_real_shapes,
    score_shapes,
)
from descnet3d.models.cooperative import CooperativeNet


@dataclass(frozen=True)
class LatentScores:
    """What the latents of a generator are worth.

    Attributes:
        energy_generated: the mean energy of the generator's shapes.
        energy_revised: that of the same shapes, revised by Langevin dynamics.
        energy_real: that of the real test shapes.
        encoded_iou: the mean IoU of test shapes and what the generator makes of their latents.
        nearest_iou_of_test: the mean IoU of test shapes and the nearest training shape of the
            category.
        largest_step: 1 - IoU of two neighbours on a path of nine generated shapes: the largest, a
            mean over the paths.
        mean_step: the mean, likewise.
    """

    energy_generated: float
    energy_revised: float
    energy_real: float
    encoded_iou: float
    nearest_iou_of_test: float
    largest_step: float
    mean_step: float


PATHS, STEPS = 16, 9


def evaluate_cooperation(
    model: CooperativeNet,
    reference: Reference,
    *,
    num: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> tuple[dict[str, SynthesisScores], LatentScores]:
    """The scores of a generator's shapes as they are and revised, and those of its latents.

    Args:
        model: a cooperative model.
        reference: what they are compared with.
        num: how many shapes to generate.
        seed: of their latents.
        progress: whether to show a progress bar of the revision.

    Returns:
        Scores by name (synthesised, the generator alone, real test shapes), and of the latents.

    Raises:
        ValueError: as `evaluate_synthesis`.
    """
    require_grid(model, reference.archive)
    real, training = reference.test, reference.training(len(reference.archive.labels))
    generated = model.generate(num, seed=seed)
    revised = model.synthesize(num, seed=seed, progress=progress)
    sets = {"synthesised": revised, "the generator alone": generated}
    columns = {name: score_shapes(shapes, reference) for name, shapes in sets.items()}
    columns["real test shapes"] = score_real_shapes(reference, num, seed)
    drawn = model.draw_latents(2 * PATHS, seed)
    steps = []
    for first, last in zip(drawn[:PATHS], drawn[PATHS:], strict=True):
        steps.append(shape_distances.path_steps(model.interpolate(first, last, STEPS)))
    encoded = model.generate(latents=model.encode(real))
    return columns, LatentScores(
        energy_generated=float(model.energy(generated).mean()),
        energy_revised=float(model.energy(revised).mean()),
        energy_real=float(model.energy(real).mean()),
        encoded_iou=float(
            np.diagonal(shape_distances.intersection_over_union(encoded, real)).mean()
        ),
        nearest_iou_of_test=float(shape_distances.nearest_shapes(real, training).iou.mean()),
        largest_step=float(np.max(steps, axis=1).mean()),
        mean_step=float(np.mean(steps)),
    )
