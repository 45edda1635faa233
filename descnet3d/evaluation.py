"""What a preset's shapes are worth: its figures beside those of real test shapes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from descnet3d import metrics
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
    """

    shapes: int
    nearest_share: float
    nearest_iou: float
    occupancy_ratio: float
    copies: float
    empty: int
    alike: int
    pairwise_iou: float


def score_shapes(shapes: np.ndarray, archive: VoxelArchive, category: str) -> SynthesisScores:
    """The scores of shapes, against an archive's training shapes.

    Args:
        shapes: occupancy ``[n, D, H, W]``, at least two.
        archive: shapes of all categories; its training part is the reference.
        category: what the shapes should be.

    Raises:
        ValueError: when the archive doesn't have the category.
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
    shapes = model.synthesize(num, seed=seed, progress=progress)
    return score_shapes(shapes, archive, category), score_shapes(real, archive, category)


def table(synthesized: SynthesisScores, real: SynthesisScores) -> str:
    """Both sets of scores side by side, as a Markdown table."""
    lines = ["| | synthesised | real test shapes | ratio |", "|---|---|---|---|"]
    for name, value in asdict(synthesized).items():
        other = asdict(real)[name]
        if isinstance(value, int):
            lines.append(f"| {name} | {value} | {other} | |")
        else:
            ratio = f"{value / other:.3f}" if other else ""
            lines.append(f"| {name} | {value:.3f} | {other:.3f} | {ratio} |")
    return "\n".join(lines)
