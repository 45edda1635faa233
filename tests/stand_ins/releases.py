"""Zips that are laid out as the releases of ModelNet are."""

import io
import zipfile

import numpy as np
import scipy.io

BOX_FACES = ("0 3 2 1", "4 5 6 7", "0 1 5 4", "1 2 6 5", "2 3 7 6", "3 0 4 7")


def box(x=1.0, y=1.0, z=1.0, head="OFF\n8 6 0\n", end="\n"):
    """An OFF file of a box of quadrilaterals."""
    floor = [(0, 0), (x, 0), (x, y), (0, y)]
    vertices = [f"{a} {b} {c}" for c in (0, z) for a, b in floor]
    return head + "\n".join([*vertices, *(f"4 {face}" for face in BOX_FACES)]) + end


# What a box of 1 x 2 x 3 fills of a 32³ grid: 24 voxels are 3.
BOX_123 = 8 * 16 * 24

GOOD = {
    "chair/train/chair_0001.off": box(1, 2, 3),
    "chair/train/chair_0002.off": box(1, 2, 3, head="OFF8 6 0\n"),
    "chair/train/chair_0003.off": box(1, 2, 3, head="OFF\n\n# a comment\n8 6 0\n\n"),
    "chair/train/chair_0004.off": box(1, 2, 3).replace("\n", "\r\n"),
    # An unused vertex far away, and a face without an area.
    "night_stand/train/night_stand_0001.off": box(1, 2, 3, "OFF\n9 7 0\n9e9 9e9 9e9\n").replace(
        "4 " + BOX_FACES[0], "3 1 1 2\n4 " + BOX_FACES[0]
    ),
    "night_stand/test/night_stand_0002.off": box(3e20, 2e20, 2e20),
    "chair/test/chair_0009.off": box(3, 2, 2),
}
# Counted from 1 behind the vertex that no face uses.
GOOD["night_stand/train/night_stand_0001.off"] = "\n".join(
    " ".join(["4", *(str(int(corner) + 1) for corner in line.split()[1:])])
    if line.startswith("4 ")
    else line
    for line in GOOD["night_stand/train/night_stand_0001.off"].split("\n")
)
BAD = {
    "chair/train/chair_0005.off": "",
    "chair/train/chair_0006.off": "solid a\nendsolid a\n",
    "chair/train/chair_0007.off": "OFF\n1000000000 1000000000 0\n0 0 0\n",
    "chair/test/chair_0008.off": "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n",
}
LITTER = {
    "README.txt": "ModelNet",
    ".DS_Store": "\0\0\0\1Bud1",
    "chair/.DS_Store": "\0\0\0\1Bud1",
    "chair/train/._chair_0001.off": "\0\5\26\7",
    "unicorn/train/unicorn_0001.off": box(),
}


def write_release(path, files=None, root="ModelNet10"):
    """A zip laid out as the released one, with its known defects."""
    files = {**GOOD, **BAD, **LITTER} if files is None else files
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{root}/", "")
        for name, content in files.items():
            archive.writestr(f"{root}/{name}", content)
        archive.writestr(f"__MACOSX/{root}/chair/train/._chair_0001.off", "\0\5\26\7")
        archive.writestr("__MACOSX/chair/train/chair_0001.off", "OFF")


def write_voxel_release(path):
    """A zip laid out as the 3DShapeNets code, with two poses a shape."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, ids in (("train", (1, 2)), ("test", (3,))):
            for identity in ids:
                for pose in (1, 2):
                    grid = np.zeros((30, 30, 30), np.uint8)
                    grid[3 : 3 + identity, 4 : 4 + pose, 5:9] = 1
                    file = io.BytesIO()
                    scipy.io.savemat(file, {"instance": grid}, do_compression=True)
                    name = f"3DShapeNets/volumetric_data/sofa/30/{split}/sofa_{identity}_{pose}.mat"
                    archive.writestr(name, file.getvalue())
        archive.writestr("3DShapeNets/volumetric_data/sofa/30/train/notes.txt", "x")
        archive.writestr("3DShapeNets/generic/sofa/train/sofa_9.mat", "x")
