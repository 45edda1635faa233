"""The paper's tables, with what the shipped presets do beside what the paper prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from descnet3d.datasets.archives import VoxelArchive
from descnet3d.energy.tasks import Recovery
from descnet3d.evaluation import classification, reconstruction, set_scores
from descnet3d.evaluation.synthesis import INCEPTION_SPLITS
from descnet3d.models.feature_classifier import STRENGTHS, FeatureClassifier, groups_of
from descnet3d.progress import bar as progress_bar
from descnet3d.tables import table
from descnet3d.zoo import index, presets

# What the paper's poster and tables print (Xie et al., CVPR 2018).
PAPER_ACCURACY = {
    "Geometry Image": 0.884,
    "PANORAMA-NN": 0.911,
    "ECC": 0.900,
    "3D ShapeNets": 0.835,
    "DeepPano": 0.855,
    "SPH": 0.798,
    "VConv-DAE": 0.805,
    "3D-GAN": 0.910,
    "3D DescriptorNet": 0.924,
}
PAPER_INCEPTION = {
    "3D ShapeNets": 4.13,
    "3D-GAN": 8.66,
    "3D-VAE": 11.02,
    "3D DescriptorNet": 11.77,
}
CATEGORIES = (
    *("bathtub", "bed", "chair", "desk", "dresser"),
    *("monitor", "night_stand", "sofa", "table", "toilet"),
)
PAPER_PROBABILITY: dict[str, tuple[float, ...]] = {
    "3D DescriptorNet": (0.8348, 0.9202, 0.9920, 0.8203, 0.7678)
    + (0.9473, 0.7195, 0.9480, 0.8910, 0.9701),
    "3D-GAN": (0.7017, 0.7775, 0.9700, 0.7936, 0.6314) + (0.2493, 0.6853, 0.9276, 0.8377, 0.8569),
}
PAPER_RECOVERY: dict[str, tuple[float, ...]] = {
    "3D DescriptorNet": (0.0152, 0.0068, 0.0118, 0.0122, 0.0038)
    + (0.0103, 0.0080, 0.0068, 0.0051, 0.0119),
    "3D-GAN": (0.0266, 0.0240, 0.0238, 0.0298, 0.0384) + (0.0220, 0.0370, 0.0186, 0.0326, 0.0180),
}
HIDDEN = Recovery("voxels:0.7")


@dataclass
class Table:
    """Figures in rows and columns.

    Attributes:
        title: what they are.
        columns: the names of the columns.
        rows: by the name of a row, its figures in the order of the columns; None where there is
            none.
        notes: what has to be known to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, list[float | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON has it: a row is an object of what is there, by column."""
        rows = {
            name: {
                column: value
                for column, value in zip(self.columns, row, strict=True)
                if value is not None
            }
            for name, row in self.rows.items()
        }
        return {"title": self.title, "rows": rows, "notes": self.notes}

    def as_markdown(self) -> str:
        """The table as Markdown."""
        return "\n\n".join([f"### {self.title}", table(self.rows, self.columns), *self.notes])


def paper_tables(
    archive: VoxelArchive, *, num: int = 64, seed: int = 0, progress: bool = False
) -> list[Table]:
    """Measures the shipped presets as the paper measures its models.

    Args:
        archive: ModelNet10 with its official split.
        num: how many shapes each synthesis preset makes.
        seed: of these shapes, and of the hidden voxels.
        progress: whether to show a progress bar with the time left.

    Returns:
        Classification, inception score, softmax class probability and recovery error. Where no
        preset is shipped, a row holds the paper's figures alone.

    Raises:
        ValueError: when the archive has other categories than ModelNet10, or no test shapes.
    """
    if archive.classes != CATEGORIES or not archive.is_test.any():
        raise ValueError(
            f"the paper's tables need ModelNet10's test shapes of {', '.join(CATEGORIES)}, and the "
            f"archive has {int(archive.is_test.sum())} of {', '.join(archive.classes)}."
        )
    grid = archive.occupancy.shape[1:]
    shipped = {
        (preset.task, preset.category): preset
        for preset in presets.list_presets()
        if preset.default and preset.size == grid
    }
    judge = presets.reference_classifier(archive.classes, grid)
    work = [
        _classification(archive, shipped.get(("features", "modelnet10")), seed),
        _inception(archive, shipped, judge, num, seed),
        _class_probability(archive, shipped, judge, num, seed),
        _recovery(archive, shipped, seed),
    ]
    total = sum(step.cost for _, steps in work for step in steps)
    shape = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
    with progress_bar(total, "step", disable=not progress, bar_format=shape) as bar:
        for table, steps in work:
            for step in steps:
                bar.set_description(step.what)
                table.rows.update(step.rows())
                bar.update(step.cost)
    return [table for table, _ in work]


Rows = Iterator[tuple[str, list[float | None]]]


class _Step(NamedTuple):
    """A part of a table's work: what it is, about how long it takes, and the rows it gives."""

    what: str
    cost: float
    rows: Callable[[], Rows]


def _classification(
    archive: VoxelArchive, preset: index.Preset | None, seed: int
) -> tuple[Table, list[_Step]]:
    table = Table(
        "Classification of the ModelNet10 test shapes by unsupervised features",
        ("accuracy", "from", "to"),
        {f"{name} (paper)": [value, None, None] for name, value in PAPER_ACCURACY.items()},
        ["Accuracy of a multinomial logistic regression, and its 95 % confidence interval."],
    )

    def row(probabilities: np.ndarray) -> list[float | None]:
        labels = archive.labels[archive.is_test]
        scores = classification.score_probabilities(probabilities, labels)
        return [scores.accuracy, scores.accuracy_low, scores.accuracy_high]

    if preset is None:
        return table, []
    model = FeatureClassifier.from_preset(presets.fetch(preset))
    other = classification.untrained_like(model, seed)

    def shipped() -> Rows:
        yield f"`{preset.id}`", row(model.probabilities(archive.occupancy[archive.is_test]))

    def refitted(name: str, features: Callable[[np.ndarray], np.ndarray]) -> Rows:
        found, trained = features(archive.occupancy), ~archive.is_test
        other.fit_features(
            found[trained],
            archive.labels[trained],
            archive.classes,
            groups_of(archive.occupancy[trained]),
            seed=seed,
        )
        yield f"the same regression, on {name}", row(softmax(other.logits_of(found[~trained]), 1))

    def raw(shapes: np.ndarray) -> np.ndarray:
        return shapes.reshape(len(shapes), -1).astype(np.float32)

    def chosen_by_testing() -> Rows:
        layers, trained = model.pooling.layers or (), ~archive.is_test
        found = []
        for seen in dict.fromkeys((layers, layers[-1:])):
            judged = FeatureClassifier(
                model.descriptor, pooling=replace(model.pooling, layers=seen)
            )
            features = judged.features(archive.occupancy)
            for strength in STRENGTHS:
                judged.fit_features(
                    features[trained],
                    archive.labels[trained],
                    archive.classes,
                    strength=strength,
                    seed=seed,
                )
                found.append(row(softmax(judged.logits_of(features[~trained]), 1)))
        name = "the papers' protocol: layers and regularisation chosen on the test split"
        yield f"{name}, the best of {len(found)}", max(found)

    untrained = partial(refitted, "the same network untrained", other.features)
    return table, [
        _Step(preset.id, 20, shipped),
        _Step("chosen on the test split", 60, chosen_by_testing),
        _Step("an untrained network", 60, untrained),
        _Step("raw voxels", 60, partial(refitted, "raw voxels", raw)),
    ]


def _inception(
    archive: VoxelArchive, shipped: dict, judge: Any, num: int, seed: int
) -> tuple[Table, list[_Step]]:
    splits = INCEPTION_SPLITS
    count = max(3 * num, splits)
    table = Table(
        "Inception score of one model of all ten categories",
        ("inception score", "standard deviation", "of the real test shapes'"),
        {f"{name} (paper)": [value, None, None] for name, value in PAPER_INCEPTION.items()},
        [
            f"Ten parts of {count} shapes; the paper's reference classifier, of 40 categories, is "
            "not to be had, so only the last column compares."
        ],
    )
    best: list[float] = []

    def score(name: str, shapes: np.ndarray) -> Rows:
        found = set_scores.inception_score(judge.probabilities(shapes), splits)
        best.append(found[0])
        yield name, [*found, found[0] / best[0]]

    def real() -> Rows:
        test = np.flatnonzero(archive.is_test)
        drawn = np.random.default_rng(seed).permutation(test)[:count]
        return score("real test shapes", archive.occupancy[drawn])

    def made(preset: index.Preset) -> Rows:
        return score(
            f"`{preset.id}`", presets.load(presets.fetch(preset)).synthesize(count, seed=seed)
        )

    if judge is None:
        return table, []
    steps = [_Step("real shapes", 1, real)]
    for task, cost in (("synthesis", count), ("cooperative", count / 5)):
        if preset := shipped.get((task, "modelnet10")):
            steps.append(_Step(preset.id, cost, partial(made, preset)))
    return table, steps


def _class_probability(
    archive: VoxelArchive, shipped: dict, judge: Any, num: int, seed: int
) -> tuple[Table, list[_Step]]:
    columns = ("synthesis preset", "cooperative preset", "real test shapes")
    table = Table(
        "Softmax class probability",
        (*columns, *(f"{name} (paper)" for name in PAPER_PROBABILITY)),
        notes=[
            f"Of {num} shapes each. The paper's reference classifier is another; the ratio to the "
            "real test shapes is what compares."
        ],
    )
    measured: dict[str, list[float | None]] = {}

    def category_row(index: int, category: str) -> Rows:
        own = archive.is_test & (archive.labels == index)

        def probability(shapes: np.ndarray) -> float:
            return float(judge.probabilities(shapes)[:, index].mean())

        row: list[float | None] = []
        for task in ("synthesis", "cooperative"):
            preset = shipped.get((task, category))
            made = (
                presets.load(presets.fetch(preset)).synthesize(num, seed=seed) if preset else None
            )
            row.append(probability(made) if made is not None else None)
        row.append(probability(archive.occupancy[own]))
        measured[category] = row
        yield category, [*row, *(figures[index] for figures in PAPER_PROBABILITY.values())]
        if len(measured) == len(CATEGORIES):
            yield from _means(measured, PAPER_PROBABILITY, real=2)

    def cost(category: str) -> float:
        weights = {"synthesis": num, "cooperative": num / 5}
        return sum(each for task, each in weights.items() if (task, category) in shipped)

    if judge is None:
        return table, []
    return table, [
        _Step(category, cost(category), partial(category_row, index, category))
        for index, category in enumerate(CATEGORIES)
    ]


def _recovery(archive: VoxelArchive, shipped: dict, seed: int) -> tuple[Table, list[_Step]]:
    columns = ("recovery preset", "another preset", "nearest training shape")
    table = Table(
        "Recovery error, 70 % of the voxels hidden",
        (*columns, *(f"{name} (paper)" for name in PAPER_RECOVERY)),
        notes=[
            "Mean absolute error over the hidden voxels of the test shapes; where no recovery "
            "preset is shipped, another of the category is asked. The paper's voxels are others."
        ],
    )
    measured: dict[str, list[float | None]] = {}

    def category_row(index: int, category: str) -> Rows:
        row: list[float | None] = [None, None, None]
        tasks = ("recovery", "synthesis", "cooperative")
        able = (shipped[task, category] for task in tasks if (task, category) in shipped)
        preset = next(able, None)
        if preset:
            rows = reconstruction.evaluate_reconstruction(
                presets.load(presets.fetch(preset)), HIDDEN, archive, category, seed=seed
            )
            row[0 if preset.task == "recovery" else 1] = rows["this model"].absolute_error
            row[2] = rows["nearest training shape"].absolute_error
        measured[category] = row
        yield category, [*row, *(figures[index] for figures in PAPER_RECOVERY.values())]
        if len(measured) == len(CATEGORIES):
            yield from _means(measured, PAPER_RECOVERY)

    return table, [
        _Step(f"{category}, recovered", 60, partial(category_row, index, category))
        for index, category in enumerate(CATEGORIES)
    ]


def _means(
    measured: dict[str, list[float | None]],
    paper: dict[str, tuple[float, ...]],
    real: int | None = None,
) -> Rows:
    """The row of means over the categories, of the columns that are whole; and ratios to one."""
    columns = list(zip(*measured.values(), strict=True))
    means = [None if None in column else float(np.mean(column)) for column in columns]
    yield "mean", [*means, *(float(np.mean(figures)) for figures in paper.values())]
    if real is not None:
        ratios: list[float | None] = []
        for column in columns:
            pairs = [
                (value, best)
                for value, best in zip(column, columns[real], strict=True)
                if value is not None
            ]
            of_both = np.mean(pairs, axis=0) if pairs else None
            ratios.append(None if of_both is None else float(of_both[0] / of_both[1]))
        yield "mean, of the real test shapes'", [*ratios, *(None for _ in paper)]


def as_markdown(tables: list[Table]) -> str:
    """The tables one after the other."""
    return "\n\n".join(table.as_markdown() for table in tables)
