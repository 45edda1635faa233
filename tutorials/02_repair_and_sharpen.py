# %% [markdown]
# # 2. Repair and sharpen
#
# *Previous: [1. Load a pretrained model and synthesise shapes](01_synthesise.ipynb) · Next:
# [3. Fine-tune on your own meshes](03_fine_tune_on_your_meshes.ipynb) · [All tutorials](README.md)*
#
# ![Beds on 16³, and on 64³](pictures/02_repair_and_sharpen.webp)
#
# At the end you have: a mesh with a piece torn out of it, the same mesh whole again, in its own
# coordinates; and beds on a grid of 64³ voxels, made of beds on 16³.
#
# **Time on two cores:** about a minute. **Data:** none; the mesh is made here. The
# presets come from the repository's folder `zoo`.

# %%
import os
from dataclasses import replace
from pathlib import Path

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
# Presets for a task of their own are not in the wheel: they lie in the repository, in zoo/.
os.environ.setdefault("DESCNET3D_ZOO", str((here / "../zoo").resolve()))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib.pyplot as plt
import numpy as np
import open3d
from PIL import Image as Picture

import descnet3d
from descnet3d import meshes, view
from descnet3d.datasets.mesh_writers import save
from descnet3d.datasets.shape_files import load_shape
from descnet3d.evaluation import shape_distances
from descnet3d.shapes import blocks

small = os.environ.get("DESCNET3D_TUTORIALS") == "small"
output = here / "output"
output.mkdir(exist_ok=True)
plt.rcParams["figure.dpi"] = 80


def show(shapes, tile=180, **options):
    return Picture.fromarray(view.sheet(shapes, tile=tile, **options))


# %% [markdown]
# ## A mesh, and a hole in it
#
# A sofa of four boxes, in centimetres, with y upwards, somewhere in a room: as a scan or a file
# from elsewhere would come. Everything inside a block of space is then torn out of its surface.


# %%
def box(low, high):
    """A box from one corner to the other."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return open3d.geometry.TriangleMesh.create_box(*(high - low)).translate(low)


sofa = (
    box((0, 10, 0), (200, 45, 85))  # the seat
    + box((0, 45, 0), (200, 85, 22))  # the back
    + box((0, 45, 22), (22, 62, 85))  # two arms
    + box((178, 45, 22), (200, 62, 85))
).translate((310, 0, -140))
sofa = sofa.subdivide_midpoint(5)

hole_low, hole_high = np.array((350, 30, -150)), np.array((430, 100, -95))
middles = np.asarray(sofa.vertices)[np.asarray(sofa.triangles)].mean(axis=1)
torn = ((middles > hole_low) & (middles < hole_high)).all(axis=1)
damaged = open3d.geometry.TriangleMesh(sofa)
damaged.remove_triangles_by_mask(torn)
damaged.remove_unreferenced_vertices()
open3d.io.write_triangle_mesh(str(output / "damaged.obj"), damaged)
open3d.io.write_triangle_mesh(str(output / "sofa.obj"), sofa)
print(f"{torn.sum()} of {len(torn)} triangles are gone")
print("watertight:", sofa.is_edge_manifold(allow_boundary_edges=False), "→", end=" ")
print(damaged.is_edge_manifold(allow_boundary_edges=False))

# %% [markdown]
# `load_shape` puts a mesh on a grid: solid even where the surface has holes, standing up, its
# longest side on 24 of 32 voxels. ModelNet's sofas, which the preset knows, look along the x axis:
# `turn` turns ours so. The *transform* remembers all of that.

# %%
placing = {"size": 32, "up": "y", "turn": 270}
on_grid = load_shape(output / "damaged.obj", **placing)
truth = load_shape(output / "sofa.obj", **placing).occupancy[None].astype("float32")
broken = on_grid.occupancy[None].astype("float32")
print(on_grid.transform)

# %% [markdown]
# Which voxels are to be believed? All but those within the block that is missing: `visible` is True
# where the middle of a voxel, in the mesh's coordinates, lies outside of it.

# %%
middles = np.stack(np.meshgrid(*[np.arange(32) + 0.5] * 3, indexing="ij"), axis=-1)
places = on_grid.transform.to_mesh(middles)
hidden = ((places > hole_low - 3) & (places < hole_high + 3)).all(axis=-1)[None]
visible = ~hidden
known = np.where(visible, broken, 0)
print(
    f"{hidden.sum()} of {hidden.size} voxels are hidden; {truth[hidden].sum():.0f} of them filled"
)

# %% [markdown]
# ## Recovery
#
# What is wanted are shapes of $p(Y_M \mid Y_\text{visible})$: $Y_M$ are the hidden voxels. It is
# the Langevin step of synthesis, after each of which a projection puts the visible voxels back:
#
# $$Y \leftarrow P\!\left(Y - \tfrac{1}{2}\,\delta^2\, \frac{\partial E}{\partial Y}\right),
# \qquad P(Y) = \begin{cases} Y_\text{visible} & \text{where visible} \\ Y & \text{elsewhere.}
# \end{cases}$$

# %% [markdown]
# The preset is a descriptor of all ten categories, bound to sofas, whose network is *told* what is
# visible: $E(Y \mid c, \text{level}, Y_\text{visible})$. `recover` finds one whole, the best guess;
# `num_samples` asks for several, samples of what the sofa may have been.

# %%
model = descnet3d.load("sofa", task="recovery")
found = model.recover(broken, visible, seed=0)
others = model.recover(broken, visible, num_samples=2, seed=0)[0]


def error(shapes):
    """The mean absolute error over the hidden voxels."""
    return np.abs(shapes - truth)[hidden].mean()


def overlap(shapes):
    """The IoU with the whole sofa."""
    return shape_distances.intersection_over_union(shapes, truth)[0, 0]


rows = {"known": known, "found": found, "or": others[:1], "or that": others[1:], "truth": truth}
for name, shapes in rows.items():
    print(f"{name:8} error {error(shapes):.3f}, IoU {overlap(shapes):.3f}")
show(np.concatenate(list(rows.values())), labels=list(rows), columns=5, tile=140)

# %% tags=["check"]
assert np.array_equal(found[visible], broken[visible]), "visible voxels come back untouched"
assert error(found) < 0.5 * error(known), "the hidden part is found"
assert overlap(found) > overlap(known), "and the whole is nearer to the sofa"

# %% [markdown]
# What was visible comes back untouched, and the piece that was torn out is found. Often nobody
# knows where a hole is. Then all that is there can be believed, and anything may be missing:
# `visible` are the occupied voxels.

# %%
grown = model.recover(broken, broken > 0.5, seed=0)
print(f"error {error(grown):.3f} in the hole, IoU {overlap(grown):.3f}")
print(f"{(grown[visible] > 0.5).sum() - (broken[visible] > 0.5).sum()} voxels added elsewhere")

# %% tags=["check"]
assert (grown >= broken).all(), "what is there stays"

# %% [markdown]
# ## In the mesh's own coordinates
#
# With the transform, `save` writes the repaired shape where the damaged mesh lies: in
# centimetres, y upwards, at its place in the room.

# %%
repaired = meshes.from_occupancy(found[0], surface="isosurface")
save(repaired, output / "repaired.obj", on_grid.transform)
read_back = open3d.io.read_triangle_mesh(str(output / "repaired.obj"))
voxel = on_grid.transform.scale
for name, mesh in {"sofa": sofa, "damaged": damaged, "repaired": read_back}.items():
    low, high = mesh.get_min_bound().round(1), mesh.get_max_bound().round(1)
    print(f"{name:9} from {low} to {high} cm")
print(f"a voxel is {voxel:.1f} cm wide")

# %% tags=["check"]
for bound in ("get_min_bound", "get_max_bound"):
    apart = np.abs(getattr(read_back, bound)() - getattr(sofa, bound)())
    assert apart.max() < 2.5 * voxel, "the repaired mesh lies where the sofa lay"

# %% [markdown]
# On the command line that is one line, for a mesh that looks along x:
#
#     descnet3d recover sofa --input=damaged.obj --up=y --visible=occupied --out=repaired.obj
#
# ## How much can be hidden?
#
# The paper hides 70 % of the voxels at random. Here are more and less than that, of sofas that a
# preset synthesised, so that there is a truth to compare with. (They are the model's own idea of a
# sofa; for its figures on real test shapes see its card.)

# %%
shares = (0.5, 0.9) if small else (0.5, 0.7, 0.9, 0.97)
synthesizer = descnet3d.load("sofa")
sofas = synthesizer.synthesize(1 if small else 4, seed=0, num_steps=10 if small else None)
sofas = (sofas > 0.5).astype("float32")
tiles, labels, errors = [sofas[0]], ["the truth"], []
for share in shares:
    seen = np.random.default_rng(0).random(sofas.shape) > share
    answer = model.recover(sofas, seen, seed=0)
    errors.append(np.abs(answer - sofas)[~seen].mean())
    tiles += [np.where(seen, sofas, 0)[0], answer[0]]
    labels += [f"{share:.0%} hidden", "recovered"]
    print(f"{share:.0%} hidden: absolute error {errors[-1]:.4f} over the hidden voxels")
show(np.stack(tiles), labels=labels, columns=5, tile=140)

# %% tags=["check"]
assert errors == sorted(errors), "the more is hidden, the larger the error"
assert errors[0] < 0.05, "with half of the voxels known the rest is found"

# %% [markdown]
# The more is hidden, the larger the error of what is found.
#
# ## Super-resolution
#
# A coarse shape is the averages of blocks of voxels. The projection now shifts each block back to
# its average after every step, so that what comes out is fine, and coarse again exactly what came
# in. The same network is told the averages: chairs of 8³ voxels on 32³.

# %%
chairs = descnet3d.load("chair").synthesize(
    1 if small else 4, seed=3, num_steps=10 if small else None
)
chairs = (chairs > 0.5).astype("float32")
blurred = blocks.average(chairs, 4)
sharp = descnet3d.load("chair", task="super_resolution").super_resolve(blurred, seed=0)
rows = {"8³": blocks.spread(blurred, chairs.shape[1:]), "refined": sharp, "truth": chairs}
print(f"IoU with the truth {shape_distances.intersection_over_union(sharp, chairs).diagonal()}")
show(
    np.concatenate(list(rows.values())),
    labels=[name for name in rows for _ in chairs],
    columns=len(chairs),
    tile=140,
)

# %% [markdown]
# `superres_bed_64` is a plain descriptor that was trained to make 64³ of 16³. Here it refines beds
# of a descriptor that knows no more than 32³: detail is added that no model before it has drawn,
# and there is no truth to compare with.

# %% tags=["opening"]
beds = descnet3d.load("bed").synthesize(1 if small else 3, seed=3, num_steps=10 if small else None)
coarse = blocks.average((beds > 0.5).astype("float32"), 2)
sharpener = descnet3d.load("superres_bed_64")
fine = sharpener.super_resolve(coarse, seed=0, num_steps=20 if small else None)
print(coarse.shape, "→", fine.shape)
spread = blocks.spread(coarse, fine.shape[1:])
show(
    np.concatenate([spread, fine]),
    labels=["a side of 16"] * len(coarse) + ["a side of 64"] * len(fine),
    columns=len(coarse),
    tile=260,
)

# %%
difference = np.abs(blocks.average(fine, 4) - coarse).max()
grey = {
    name: float(((shapes > 0.1) & (shapes < 0.9)).mean())
    for name, shapes in {"coarse": spread, "fine": fine}.items()
}
print(f"the averages of the blocks differ by {difference:.1e} at most")
print(f"undecided voxels (0.1 to 0.9): {grey['coarse']:.2%} before, {grey['fine']:.2%} after")

# %% [markdown]
# The averages are kept to rounding, and fewer voxels are undecided than before. A mesh keeps its
# coordinates here too: put it on a grid of 16, and divide the scale of its transform by the ratio
# of the grids.

# %% tags=["check"]
assert difference < 1e-4, "block averages are kept"
assert grey["fine"] < grey["coarse"], "fewer voxels are undecided"

# %%
coarse_sofa = load_shape(output / "sofa.obj", 16, up="y", turn=270)
fine_transform = replace(coarse_sofa.transform, scale=coarse_sofa.transform.scale / 4)
corner = np.array([[16.0, 16.0, 16.0]])
print("the far corner of the coarse grid:", coarse_sofa.transform.to_mesh(corner)[0].round(2))
print("and that of the fine grid:        ", fine_transform.to_mesh(4 * corner)[0].round(2))

# %% tags=["check"]
assert np.allclose(coarse_sofa.transform.to_mesh(corner), fine_transform.to_mesh(4 * corner)), (
    "both grids lie at the same place"
)

# %% [markdown]
# `descnet3d upscale superres_bed_64 --input=coarse.npz --out=beds.png` does this on the command
# line, and with a mesh as input it keeps the coordinates by itself.
#
# ## What did not work
#
# - Thin parts that are gone in 8³ are guessed: of the four chairs two are found nearly as they
#   were, and two are other chairs with the same averages.
# - In super-resolution of chairs a regression network of the one category is ahead in IoU (.612
#   against .592 on the test chairs): [the table](../docs/results/reconstruction.md).
# - `recover` gives one answer, near a mode: where several wholes are plausible it is one of them.
# - Recovered surfaces stay ragged where little is visible.
# - A sofa of 64³ has not been tried: the only preset of that size knows beds.
# - A mesh that faces another way than the training shapes do is recovered less well: turn it.
#
# *Next: [3. Fine-tune on your own meshes](03_fine_tune_on_your_meshes.ipynb)*
