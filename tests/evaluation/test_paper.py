"""The paper's tables, on a few real shapes: each figure against the function that defines it."""

import json

import numpy as np
import pytest
from archive_rows import rows_of

from descnet3d.datasets.archives import VoxelArchive, read_archive
from descnet3d.evaluation import paper, reconstruction
from descnet3d.models.feature_classifier import FeatureClassifier
from descnet3d.zoo import presets

TOILET = paper.CATEGORIES.index("toilet")


def test_a_table_says_the_same_in_markdown_and_in_json():
    table = paper.Table("Title", ("one", "two"), {"a": [0.5, None], "b": [None, 2.0]}, ["n"])
    title, _, *rows, _, note = table.as_markdown().splitlines()
    assert (title, note) == ("### Title", "n")
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [cells[0], *cells[2:]] == [["", "one", "two"], ["a", "0.5", ""], ["b", "", "2"]]
    assert table.as_dict()["rows"] == {"a": {"one": 0.5}, "b": {"two": 2.0}}


def test_the_papers_own_means_are_those_that_it_prints():
    for figures, means in (
        (paper.PAPER_PROBABILITY, (0.8811, 0.7431)),
        (paper.PAPER_RECOVERY, (0.0092, 0.0271)),
    ):
        for row, mean in zip(figures.values(), means, strict=True):
            assert np.mean(row) == pytest.approx(mean, abs=1e-4)


def test_other_shapes_than_modelnet10s_are_refused():
    archive = VoxelArchive(
        np.zeros((2, 8, 8, 8), bool),
        np.array([0, 1]),
        ("a", "b"),
        np.array([True, False]),
        ("x", "y"),
    )
    with pytest.raises(
        ValueError, match="need ModelNet10's test shapes .* the archive has 1 of a, b"
    ):
        paper.paper_tables(archive)


@pytest.mark.slow
@pytest.mark.one_backend
def test_figures_are_those_of_the_shipped_presets(modelnet10, monkeypatch):
    archive = read_archive(modelnet10)
    order = np.random.default_rng(0).permutation(len(archive.labels))
    test, trained = order[archive.is_test[order]][:60], order[~archive.is_test[order]][:200]
    few = rows_of(archive, test)
    archive = rows_of(archive, np.concatenate([trained, test]))
    every = presets.list_presets()
    names = ("classifier_modelnet10_32", "features_modelnet10_32")
    kept = [one for one in every if one.category == "toilet" or one.id in names]
    monkeypatch.setattr(presets, "list_presets", lambda: kept)
    tables = paper.paper_tables(archive, num=8, seed=3)
    accuracy, inception, probability, recovery = (table.rows for table in tables)
    model = FeatureClassifier.from_preset(presets.find("features_modelnet10_32"))
    expected = model.score(few.occupancy, few.labels)
    row = accuracy["`features_modelnet10_32`"]
    assert row[0] == expected and row[1] < expected < row[2]
    assert accuracy["3D DescriptorNet (paper)"][0] == 0.924
    [best] = [row for name, row in accuracy.items() if "chosen on the test split" in name]
    one = FeatureClassifier(model.descriptor, pooling=model.pooling)
    rest = rows_of(archive, np.arange(len(trained)))
    one.fit(rest.occupancy, rest.labels, archive.classes, strength=0.3, seed=3)
    assert best[0] >= one.score(few.occupancy, few.labels)
    assert len([name for name in accuracy if "same regression" in name]) == 2
    assert len(inception) == len(paper.PAPER_INCEPTION) + 1
    # Real shapes are told apart: nearly as many categories as a part of six can have.
    assert 2 < inception["real test shapes"][0] < 6 and inception["real test shapes"][2] == 1
    judge = presets.reference_classifier(archive.classes, (32, 32, 32))
    shapes = presets.load("synthesis_toilet_32").synthesize(8, seed=3)
    shares = judge.probabilities(shapes)[:, TOILET]
    assert probability["toilet"][0] == pytest.approx(shares.mean(), rel=1e-3)
    assert probability["bed"][:2] == [None, None] and probability["bed"][3] == 0.9202
    assert probability["mean, of the real test shapes'"][2] == 1
    asked = presets.load("recovery_toilet_32")
    scores = reconstruction.evaluate_reconstruction(asked, paper.HIDDEN, archive, "toilet", seed=3)
    assert recovery["toilet"][0] == pytest.approx(scores["this model"].absolute_error, rel=1e-3)
    assert recovery["toilet"][1] is None and recovery["mean"][0] is None
    assert "| toilet " in paper.as_markdown(tables)
    json.dumps([table.as_dict() for table in tables], allow_nan=False)
