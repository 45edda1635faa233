"""What a preset's shapes are worth: its figures beside those of real test shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from descnet3d.datasets.archives import VoxelArchive, find_label
from descnet3d.evaluation import pieces, set_scores, shape_distances
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.supervised_classifier import SupervisedClassifier

COPY_IOU = 0.98
INCEPTION_SPLITS = 10


@dataclass(frozen=True)
class SynthesisScores:
    """How a set of shapes compares with the training shapes, and with the test shapes.

    The first are relative to the training shapes of all categories. From `coverage` on they are
    relative to the test shapes of the category, and what stands beside them for real shapes are the
    scores of as many training shapes. The last are there where a classifier judges.

    Attributes:
        shapes: how many there are.
        nearest_share: the share whose nearest training shape, by IoU, is of the right category.
        nearest_iou: the mean IoU to it.
        occupancy_ratio: mean occupancy, relative to the category's training shapes.
        copies: the share whose IoU with a training shape is above 0.98.
        empty: how many are empty.
        alike: how many are identical to an earlier one.
        one_piece: the share of those in one piece; voxels that touch at a corner are joined.
        largest_piece: the mean share of a shape's voxels that are in its largest piece.
        surface_to_volume: the mean number of exposed faces for each occupied voxel.
        pairwise_iou: mean IoU of the pairs; the lower, the more diverse.
        coverage: the share of the test shapes that are the nearest of one of them, by IoU.
        matching_distance: the mean of 1 - IoU of a test shape and the nearest of them.
        neighbour_accuracy: that of telling them from test shapes by the nearest other, by IoU.
        chamfer_coverage: as `coverage`, by the Chamfer distance.
        chamfer_matching_distance: as `matching_distance`, by the Chamfer distance.
        chamfer_neighbour_accuracy: as `neighbour_accuracy`, by the Chamfer distance.
        class_probability: the mean probability of the right category, by the classifier.
        inception_score: of ten parts, by the classifier, where they are of all categories.
        frechet_distance: to the test shapes, in the classifier's embedding.
    """

    shapes: int
    nearest_share: float | None
    nearest_iou: float
    occupancy_ratio: float
    copies: float
    empty: int
    alike: int
    pairwise_iou: float
    coverage: float
    matching_distance: float
    neighbour_accuracy: float
    chamfer_coverage: float
    chamfer_matching_distance: float
    chamfer_neighbour_accuracy: float
    class_probability: float | None = None
    inception_score: float | None = None
    frechet_distance: float | None = None
    one_piece: float | None = None
    largest_piece: float | None = None
    surface_to_volume: float | None = None

    def as_dict(self) -> dict[str, int | float]:
        """The scores that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Reference:
    """What shapes are compared with.

    Attributes:
        archive: shapes of all categories, with the official split.
        category: what the shapes should be; None where they should be of all.
        classifier: who judges them; None for nobody.
    """

    archive: VoxelArchive
    category: str | None
    classifier: SupervisedClassifier | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be compared."""
        if self.category is not None:
            find_label(self.category, self.archive.classes, "the archive")
        if self.classifier is not None and self.classifier.classes != self.archive.classes:
            raise ValueError(
                f"the classifier knows {', '.join(self.classifier.classes)}, and the archive has "
                f"{', '.join(self.archive.classes)}; give one with the same categories."
            )
        if len(self.test) < 2:
            raise ValueError(
                f"the archive has {len(self.test)} test shapes of the category {self.category!r}, "
                "and at least two are needed; give one with the official split."
            )

    @property
    def own(self) -> np.ndarray:
        """Which shapes of the archive are of the category, bool `[n]`."""
        labels = self.archive.labels
        if self.category is None:
            return np.ones(len(labels), bool)
        return labels == self.archive.classes.index(self.category)

    @cached_property
    def test(self) -> np.ndarray:
        """The test shapes of the category, occupancy `[n, D, H, W]`."""
        return self.archive.occupancy[self.archive.is_test & self.own]

    @cached_property
    def test_surfaces(self) -> shape_distances.Surfaces:
        """Their surfaces, as the Chamfer distance needs them."""
        return shape_distances.Surfaces.of(self.test)

    def training(self, num: int, seed: int = 0) -> np.ndarray:
        """So many of its training shapes, drawn without replacement; all where there are fewer."""
        rows = np.flatnonzero(~self.archive.is_test & self.own)
        drawn = np.random.default_rng(seed).permutation(rows)[:num]
        return self.archive.occupancy[drawn]


def score_shapes(
    shapes: np.ndarray, reference: Reference, against_test: np.ndarray | None = None
) -> SynthesisScores:
    """The scores of shapes.

    Args:
        shapes: occupancy `[n, D, H, W]`, at least two.
        reference: what they are compared with.
        against_test: what is compared with the test shapes, where it is not `shapes` themselves:
            real test shapes would be compared with themselves.

    Raises:
        ValueError: when the grids differ, or there are too few shapes.
    """
    archive, category = reference.archive, reference.category
    trained = ~archive.is_test
    training, labels = archive.occupancy[trained], archive.labels[trained]
    nearest = shape_distances.nearest_shapes(shapes, training)
    solid = (shapes > shape_distances.THRESHOLD).reshape(len(shapes), -1)
    distinct = len(np.unique(np.packbits(solid, axis=1), axis=0))
    own = shape_distances.occupied_share(archive.occupancy[trained & reference.own]).mean()
    right = None
    if category is not None:
        right = float((labels[nearest.row] == archive.classes.index(category)).mean())
    compared = shapes if against_test is None else against_test
    judged = _judgement(shapes, compared, reference)
    return SynthesisScores(
        shapes=len(shapes),
        nearest_share=right,
        nearest_iou=float(nearest.iou.mean()),
        occupancy_ratio=float(shape_distances.occupied_share(shapes).mean() / own),
        copies=float((nearest.iou > COPY_IOU).mean()),
        empty=int((~solid.any(axis=1)).sum()),
        alike=len(shapes) - distinct,
        pairwise_iou=shape_distances.mean_pairwise_iou(shapes),
        **_set_scores(compared, reference),
        class_probability=judged.get("class_probability"),
        inception_score=judged.get("inception_score"),
        frechet_distance=judged.get("frechet_distance"),
        **pieces.raggedness(shapes > shape_distances.THRESHOLD),
    )


def _set_scores(shapes: np.ndarray, reference: Reference) -> dict[str, float]:
    """Coverage, matching distance and nearest-neighbour accuracy, by IoU and by Chamfer."""
    scores: dict[str, float] = {}
    test = reference.test
    even = min(len(shapes), len(test))  # sets of equal size make 0.5 the accuracy's middle
    surfaces = shape_distances.Surfaces.of(shapes), reference.test_surfaces
    ways: list[tuple[str, Callable[[Any, Any], np.ndarray], Any, Any]] = [
        ("", _jaccard_distance, shapes, test),
        ("chamfer_", shape_distances.Surfaces.chamfer_distance, *surfaces),
    ]
    for prefix, distance, first, second in ways:
        between = distance(first, second)
        scores[f"{prefix}coverage"] = set_scores.coverage(between)
        scores[f"{prefix}matching_distance"] = set_scores.minimum_matching_distance(between)
        scores[f"{prefix}neighbour_accuracy"] = set_scores.nearest_neighbour_accuracy(
            distance(first[:even], first[:even]),
            between[:even, :even],
            distance(second[:even], second[:even]),
        )
    return scores


def _jaccard_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return 1 - shape_distances.intersection_over_union(first, second)


def _judgement(shapes: np.ndarray, compared: np.ndarray, reference: Reference) -> dict[str, float]:
    """What the classifier says of the shapes."""
    classifier, category = reference.classifier, reference.category
    if classifier is None:
        return {}
    scores = {
        "frechet_distance": set_scores.frechet_distance(
            classifier.embedding(compared), classifier.embedding(reference.test)
        )
    }
    if category is not None:
        own = classifier.classes.index(category)
        scores["class_probability"] = float(classifier.probabilities(shapes)[:, own].mean())
    elif len(compared) >= INCEPTION_SPLITS:  # the score grows with their number
        judged = classifier.probabilities(compared)
        shuffled = np.random.default_rng(0).permutation(judged)
        scores["inception_score"] = set_scores.inception_score(shuffled, INCEPTION_SPLITS)[0]
    return scores


def score_real_shapes(reference: Reference, num: int, seed: int = 0) -> SynthesisScores:
    """The scores of the real test shapes, the best that can be asked for.

    Where they would be compared with themselves, `num` real training shapes stand in for them.
    """
    return score_shapes(reference.test, reference, reference.training(num, seed))


def evaluate_synthesis(
    model: EnergyBasedModel,
    reference: Reference,
    *,
    num: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> tuple[SynthesisScores, SynthesisScores]:
    """The scores of a model's shapes from fresh noise, and those of the real test shapes.

    Args:
        model: a descriptor.
        reference: what they are compared with.
        num: how many shapes to synthesise.
        seed: their seed.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when the archive has other grids.
    """
    require_grid(model, reference.archive)
    shapes = model.synthesize(num, seed=seed, progress=progress)
    return score_shapes(shapes, reference), score_real_shapes(reference, num, seed)


def require_grid(model: EnergyBasedModel, archive: VoxelArchive) -> None:
    """Raise a ValueError where an archive's shapes are on other grids than a model's."""
    if archive.occupancy.shape[1:] != model.grid:
        raise ValueError(
            f"the archive has grids of size {archive.occupancy.shape[1:]}, and the model makes "
            f"{model.grid}; give an archive of the model's size."
        )
