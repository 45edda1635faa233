"""A folder of shapes as users have them."""

import numpy as np


def box(x=1, y=1, z=1):
    """An OFF file of a box of quadrilaterals."""
    floor = [(0, 0), (x, 0), (x, y), (0, y)]
    vertices = "\n".join(f"{a} {b} {c}" for c in (0, z) for a, b in floor)
    faces = "4 0 3 2 1\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n"
    return f"OFF\n8 6 0\n{vertices}\n{faces}"


def write_folder(root):
    """A user's own folder: meshes and grids, with and without splits."""
    for name in ("lamp/train", "lamp/test", "vase"):
        (root / name).mkdir(parents=True)
    (root / "lamp/train/tall.off").write_text(box(1, 2, 3))
    (root / "lamp/train/bad.off").write_text("OFF\n")
    (root / "lamp/test/flat.off").write_text(box(3, 3, 1))
    grid = np.zeros((8, 8, 8), bool)
    for number in range(1, 7):
        grid[number, 2:6, :number] = True
        np.save(root / f"vase/vase_{number}.npy", grid)
    np.savez(root / "vase/lists.npz", occupancy=np.array([{}], dtype=object))
    return root
