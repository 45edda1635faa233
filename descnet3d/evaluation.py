"""What a preset's shapes are worth: its figures beside those of real test shapes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from descnet3d import metrics
from descnet3d.models.cooperative import CooperativeNet
from descnet3d.models.descriptor import DescriptorNet
from descnet3d.voxels import VoxelArchive, find_label

COPY_IOU = 0.98


@dataclass(frozen=True)
class SynthesisScores:
    """How a set of shapes of one category compares with the training shapes of all categories.

    Attributes:
        shapes: how many there are.
        nearest_share: the share whose nearest training shape, by IoU, is of the right category.
        nearest_iou: the mean IoU to it.
        occupancy_ratio: mean occupancy, relative to the category's training shapes.
        copies: the share whose IoU with a training shape is above 0.98.
        empty: how many are empty.
        alike: how many are identical to an earlier one.
        pairwise_iou: mean IoU of the pairs; the lower, the more diverse.
        coverage: the share of the category's test shapes that are the nearest of one of them.
    """

    shapes: int
    nearest_share: float
    nearest_iou: float
    occupancy_ratio: float
    copies: float
    empty: int
    alike: int
    pairwise_iou: float
    coverage: float


def score_shapes(shapes: np.ndarray, archive: VoxelArchive, category: str) -> SynthesisScores:
    """The scores of shapes, against an archive's training shapes.

    Args:
        shapes: occupancy ``[n, D, H, W]``, at least two.
        archive: shapes of all categories; its training part is the reference.
        category: what the shapes should be.

    Raises:
        ValueError: when the archive doesn't have the category, or no test shapes of it.
    """
    label = find_label(category, archive.classes, "the archive")
    training = ~archive.is_test
    reference, labels = archive.occupancy[training], archive.labels[training]
    nearest = metrics.nearest_shapes(shapes, reference)
    solid = (shapes > metrics.THRESHOLD).reshape(len(shapes), -1)
    distinct = len(np.unique(np.packbits(solid, axis=1), axis=0))
    own = metrics.occupied_share(reference[labels == label]).mean()
    return SynthesisScores(
        shapes=len(shapes),
        nearest_share=float((labels[nearest.row] == label).mean()),
        nearest_iou=float(nearest.iou.mean()),
        occupancy_ratio=float(metrics.occupied_share(shapes).mean() / own),
        copies=float((nearest.iou > COPY_IOU).mean()),
        empty=int((~solid.any(axis=1)).sum()),
        alike=len(shapes) - distinct,
        pairwise_iou=metrics.mean_pairwise_iou(shapes),
        coverage=metrics.coverage(shapes, archive.occupancy[~training & (archive.labels == label)]),
    )


def evaluate_synthesis(
    model: DescriptorNet,
    archive: VoxelArchive,
    category: str,
    *,
    num: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> tuple[SynthesisScores, SynthesisScores]:
    """The scores of a model's shapes from fresh noise, and those of the real test shapes.

    Args:
        model: a descriptor.
        archive: shapes of all categories, with the official split.
        category: what the model was trained on.
        num: how many shapes to synthesise.
        seed: their seed.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when the archive lacks the category or its test shapes, or has other grids.
    """
    real = real_shapes(model, archive, category)
    shapes = model.synthesize(num, seed=seed, progress=progress)
    return score_shapes(shapes, archive, category), score_shapes(real, archive, category)


def real_shapes(model: DescriptorNet, archive: VoxelArchive, category: str) -> np.ndarray:
    """The test shapes of a category, on the model's grid.

    Raises:
        ValueError: when there are fewer than two, or they are on other grids.
    """
    label = find_label(category, archive.classes, "the archive")
    real = archive.occupancy[archive.is_test & (archive.labels == label)]
    if len(real) < 2:
        raise ValueError(
            f"the archive has {len(real)} test shapes of the category {category!r}, and at least "
            "two are needed; give one with the official split."
        )
    if archive.occupancy.shape[1:] != model.grid:
        raise ValueError(
            f"the archive has grids of size {archive.occupancy.shape[1:]}, and the model makes "
            f"{model.grid}; give an archive of the model's size."
        )
    return real


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
    archive: VoxelArchive,
    category: str,
    *,
    num: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> tuple[dict[str, SynthesisScores], LatentScores]:
    """The scores of a generator's shapes as they are and revised, and those of its latents.

    Args:
        model: a cooperative model.
        archive: shapes of all categories, with the official split.
        category: what the model was trained on.
        num: how many shapes to generate.
        seed: of their latents.
        progress: whether to show a progress bar of the revision.

    Returns:
        Scores by name (synthesised, the generator alone, real test shapes), and of the latents.

    Raises:
        ValueError: as `evaluate_synthesis`.
    """
    real = real_shapes(model, archive, category)
    own = archive.labels == archive.classes.index(category)
    training = archive.occupancy[own & ~archive.is_test]
    generated = model.generate(num, seed=seed)
    revised = model.synthesize(num, seed=seed, progress=progress)
    sets = {"synthesised": revised, "the generator alone": generated, "real test shapes": real}
    drawn = model.draw_latents(2 * PATHS, seed)
    steps = []
    for first, last in zip(drawn[:PATHS], drawn[PATHS:], strict=True):
        steps.append(metrics.path_steps(model.interpolate(first, last, STEPS)))
    encoded = model.generate(latents=model.encode(real))
    return {name: score_shapes(shapes, archive, category) for name, shapes in sets.items()}, (
        LatentScores(
            energy_generated=float(model.energy(generated).mean()),
            energy_revised=float(model.energy(revised).mean()),
            energy_real=float(model.energy(real).mean()),
            encoded_iou=float(np.diagonal(metrics.intersection_over_union(encoded, real)).mean()),
            nearest_iou_of_test=float(metrics.nearest_shapes(real, training).iou.mean()),
            largest_step=float(np.max(steps, axis=1).mean()),
            mean_step=float(np.mean(steps)),
        )
    )


def table(columns: dict[str, SynthesisScores]) -> str:
    """Sets of scores side by side, as a Markdown table; the last are the real test shapes'.

    With two columns the ratio of the first to the second is the third.
    """
    names = list(columns)
    headings = [*names, *(["ratio"] if len(names) == 2 else [])]
    lines = [f"| | {' | '.join(headings)} |", "|---" * (len(headings) + 1) + "|"]
    rows = [asdict(scores) for scores in columns.values()]
    for name in rows[0]:
        values = [row[name] for row in rows]
        whole = isinstance(values[0], int)
        cells = [str(value) if whole else f"{value:.3f}" for value in values]
        if len(names) == 2:
            cells.append("" if whole or not values[1] else f"{values[0] / values[1]:.3f}")
        lines.append("|" + "".join(f" {cell} |" if cell else " |" for cell in [name, *cells]))
    return "\n".join(lines)


def latent_table(scores: LatentScores) -> str:
    """The scores of latents, as a Markdown table."""
    lines = [f"| {name} | {value:.4g} |" for name, value in asdict(scores).items()]
    return "\n".join(["| latents | |", "|---|---|", *lines])
