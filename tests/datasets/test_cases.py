"""Files of other programs, kept beside the repository: each is read whole, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from descnet3d.datasets.folders import list_folder
from descnet3d.datasets.grid_files import read_grids
from descnet3d.datasets.mesh_files import MeshError, is_mesh_file, read_mesh
from descnet3d.shapes.voxelize import voxelize

_ABOVE = [above / "shared" / "cases" for above in Path(__file__).resolve().parents]
CASES = next(filter(Path.is_dir, _ABOVE), _ABOVE[3])
REFUSED = {"glb_draco": "KHR_draco_mesh_compression", "ply_ascii_cut_short": "too short"}
FILES = sorted(
    str(path.relative_to(CASES))
    for folder in (CASES.iterdir() if CASES.is_dir() else ())
    if (folder / "expected.off").is_file()
    for path in folder.iterdir()
    if path.name != "expected.off" and is_mesh_file(path)
)
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"there is no folder {CASES}")


@needs_cases
@pytest.mark.parametrize("name", FILES)
def test_a_mesh_file_is_the_shape_that_it_holds_or_is_refused(name):
    path = CASES / name
    if path.parent.name in REFUSED:
        with pytest.raises(MeshError, match=REFUSED[path.parent.name]):
            read_mesh(path)
        return
    expected = voxelize(read_mesh(path.parent / "expected.off"))
    np.testing.assert_array_equal(voxelize(read_mesh(path)).occupancy, expected.occupancy)


@needs_cases
def test_every_file_of_a_folder_is_a_shape_or_named():
    root = CASES / "folder_layouts"
    listing = list_folder(root)
    found = {str(s.path.relative_to(root)): (s.category, s.split) for s in listing.shapes}
    told = {str(Path(path).relative_to(root)) for path, _ in listing.passed_over}
    every = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found.keys() | told == every and not found.keys() & told
    assert found["chair/train/train.off"] == ("chair", "train")
    assert found["chair/test/test.off"] == ("chair", "test")
    assert {"chair/more/deeper.off", "sofa/0a1b/models/model_normalized.off"} <= found.keys()


@needs_cases
@pytest.mark.parametrize(
    "name",
    ["Volume.mat", "arr_0.npz", "channels_last.npy", "input.mat", "rounding.npy", "voxel.mat"]
    + ["voxels.mat"],
)
def test_grids_of_other_projects_are_read(name):
    grids = read_grids(CASES / "mat_variable_names" / name)
    assert grids.ndim == 4 and grids.any() and not grids.all()
