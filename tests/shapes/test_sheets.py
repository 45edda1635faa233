"""Sheets show every shape once, under its label."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from descnet3d.shapes import sheets


def covered(picture: np.ndarray) -> np.ndarray:
    """Where the shape is: it is blue, and the ground and its shadow are grey."""
    return picture[..., 2].astype(int) - picture[..., 0] > 20


@pytest.mark.parametrize("place", [3, 28])
def test_all_tiles_of_a_sheet_have_one_scale(place):
    small = np.zeros((32, 32, 32))
    small[14:18, 14:18, 14:18] = 1
    reaching = small.copy()
    reaching[place, 16, 16] = 1
    small[4, 16, 16] = small[27, 16, 16] = 1  # still within the middle 24 voxels
    alone = sheets.sheet(np.stack([small, small]), tile=64)
    beside = sheets.sheet(np.stack([small, reaching]), tile=64)
    assert covered(beside[:, :64]).sum() < 0.8 * covered(alone[:, :64]).sum()
    np.testing.assert_array_equal(alone[:, :64], alone[:, 64:])


def test_a_sheet_has_the_tiles_labels_and_title_it_was_asked_for():
    shapes = np.zeros((5, 8, 8, 8))
    shapes[:, 2:6, 2:6, 2:6] = 1
    shapes[3] = 0
    plain = sheets.sheet(shapes, tile=64)
    assert plain.shape == (128, 192, 3)
    assert plain.dtype == np.uint8
    for index in (0, 1, 2, 4):
        row, column = divmod(index, 3)
        tile = plain[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        np.testing.assert_array_equal(tile, sheets.render(shapes[0], 64))
    empty = plain[64:, :64]
    assert not covered(empty).any()
    assert (empty < 150).any()  # the word "empty"
    assert sheets.sheet(shapes, tile=64, columns=5).shape == (64, 320, 3)

    labelled = sheets.sheet(shapes, labels=["a", "b", "c", "", "e" * 99], tile=64)
    row_height = labelled.shape[0] // 2
    assert labelled.shape == (2 * row_height, 192, 3)
    for index, has_text in enumerate([True, True, True, False, True]):
        row, column = divmod(index, 3)
        tile = labelled[row * row_height : (row + 1) * row_height, 64 * column : 64 * column + 64]
        np.testing.assert_array_equal(tile[:64], plain[64 * row :, 64 * column :][:64, :64])
        assert (tile[64:] < 150).any() == has_text
    with_title = sheets.sheet(shapes, tile=64, title="shapes")
    margin = with_title.shape[0] - 128
    np.testing.assert_array_equal(with_title[margin:], plain)
    assert (with_title[:margin] < 150).any()


@pytest.mark.parametrize("ending", sheets.IMAGE_ENDINGS)
def test_a_saved_sheet_is_the_sheet(tmp_path, ending):
    shapes = np.zeros((2, 8, 8, 8), bool)
    shapes[:, 2:6, 2:6, 2:6] = True
    path = sheets.save_sheet(shapes, tmp_path / f"sheet{ending}", tile=48)
    with Image.open(path) as image:
        read = np.asarray(image.convert("RGB")).astype(int)
    expected = sheets.sheet(shapes, tile=48).astype(int)
    assert read.shape == expected.shape
    assert np.abs(read - expected).mean() < (0.1 if ending == ".png" else 3)
    assert os.listdir(tmp_path) == [path.name]


def test_what_cannot_be_drawn_is_named(tmp_path):
    shapes = np.ones((2, 4, 4, 4))
    cases = [
        (lambda: sheets.render(shapes), "pass one of the batch, or draw all with view.sheet"),
        (lambda: sheets.render(shapes[0], 4), "size must be at least 8"),
        (lambda: sheets.render(shapes[0], elevation=91), "elevation must lie"),
        (lambda: sheets.render(shapes[0], color=(1, 2)), "color must be three"),
        (lambda: sheets.render(shapes[0], span=1.5), "span must be"),
        (lambda: sheets.render(shapes[0], surface="wire"), "surface must be"),
        (lambda: sheets.sheet(shapes[0]), "add a leading axis"),
        (lambda: sheets.sheet(shapes, labels=["a"]), "one text for each of the 2 shapes"),
        (lambda: sheets.sheet(shapes, columns=0), "columns must be"),
        (lambda: sheets.save_sheet(shapes, tmp_path / "a.gif"), r"\.webp files, and path is"),
        (lambda: sheets.save_sheet(shapes, "/dev/null/a.png"), "is not a folder"),
        (lambda: sheets.render(0 * shapes[0], threshold=1.5), "threshold must lie"),
        (lambda: sheets.sheet(shapes, threshold=0), "threshold must lie"),
    ]
    for draw, message in cases:
        with pytest.raises(ValueError, match=message):
            draw()
    assert os.listdir(tmp_path) == []


def test_a_sheet_too_large_for_its_kind_of_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "sheet", lambda *_: np.zeros((8, 17000, 3), np.uint8))
    with pytest.raises(ValueError, match=r"17000 x 8 pixels is too large.*choose \.png"):
        sheets.save_sheet(np.ones((1, 4, 4, 4)), tmp_path / "a.webp")
    assert os.listdir(tmp_path) == []


def test_importing_the_modules_brings_in_no_heavy_package():
    program = (
        "import sys; import descnet3d.datasets.grid_files, descnet3d.shapes.rendering; "
        "from descnet3d import files, meshes, view; "
        "print([name for name in ('open3d', 'skimage', 'PIL', 'tensorflow', 'keras') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
