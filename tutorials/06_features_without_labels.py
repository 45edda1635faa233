# %% [markdown]
# # 6. Features without labels
#
# *Previous: [5. A generator and its teacher](05_generator_and_teacher.ipynb) · Next:
# [7. ModelNet with tfds](07_modelnet_with_tfds.ipynb) · [All tutorials](README.md)*
#
# ![Test shapes that are taken for others](pictures/06_features_without_labels.webp)
#
# At the end you have: a classifier of ten categories on features that were learnt without labels,
# and a curve of what it is worth by how many labels it gets, beside raw voxels and an untrained
# network.
#
# **Time on two cores:** about a minute. **Data:** ModelNet10 on 32³ grids, as a voxel archive
# `modelnet10_32.npz`. [Tutorial 7](07_modelnet_with_tfds.ipynb) builds one from the released zip
# (not from its stand-in, which has four categories); the environment variable `DESCNET3D_DATA`
# says where it lies. The preset comes from the repository's folder `zoo`.

# %%
import os
from pathlib import Path

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
# Presets for a task of their own are not in the wheel: they lie in the repository, in zoo/.
os.environ.setdefault("DESCNET3D_ZOO", str((here / "../zoo").resolve()))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image as Picture
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import StandardScaler

import descnet3d
from descnet3d import view
from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation import classification
from descnet3d.shapes import blocks

small = os.environ.get("DESCNET3D_TUTORIALS") == "small"
plt.rcParams["figure.dpi"] = 80
data = Path(os.environ.get("DESCNET3D_DATA", here / "../../shared/data/modelnet10_32.npz"))
if not data.is_file():
    raise FileNotFoundError(
        "this tutorial needs ModelNet10 as a voxel archive: build one with tutorial 7, and set "
        "DESCNET3D_DATA to its path"
    )

# %% [markdown]
# ## Shapes with and without labels
#
# The official split: some shapes to learn from, and others that are looked at once, at the end. To
# be done in minutes, this tutorial takes a part of both; `descnet3d evaluate --paper` takes all.

# %%
archive = read_archive(data)
generator = np.random.default_rng(0)


def part_of(rows, count):
    return np.sort(generator.permutation(rows)[:count])


train = part_of(np.flatnonzero(~archive.is_test), 150 if small else 1500)
test = part_of(np.flatnonzero(archive.is_test), 100 if small else 600)
shapes, labels = archive.occupancy[train].astype("float32"), archive.labels[train]
asked, truth = archive.occupancy[test].astype("float32"), archive.labels[test]
print(f"{len(shapes)} shapes to learn from, {len(asked)} to be asked about")
print(", ".join(archive.classes))
first = [int(np.flatnonzero(labels == label)[0]) for label in range(len(archive.classes))]
Picture.fromarray(view.sheet(shapes[first], labels=archive.classes, columns=5, tile=120))

# %% [markdown]
# ## What the network sees
#
# A descriptor at every noise level was trained on all ten categories, and was never told one. The
# responses of its last convolution on patches, their mean and their maximum in each of 4³ regions,
# of the shape as it lies on the path of the level 0.5, without noise, are the features $\phi(Y)$.
# The only thing that sees labels is a multinomial logistic regression on them,
#
# $$p(k \mid Y) = \frac{\exp(w_k^\top \phi(Y) + b_k)}{\sum_j \exp(w_j^\top \phi(Y) + b_j)}.$$
#
# The preset comes with such a regression, fitted to all training labels. For the comparison the
# same kind is fitted here to the features, to those of the same network with random weights, and to
# raw voxels: the occupancy itself, averaged over blocks of 2³.

# %%
model = descnet3d.load("modelnet10", task="features")
print(f"pooling: {model.pooling}, at the level {model.descriptor.sampling.feature_level}")
print(f"accuracy of the preset on these test shapes: {model.score(asked, truth):.3f}")

untrained = classification.untrained_like(model)
features = {
    "features without labels": (model.features(shapes), model.features(asked)),
    "the same network, untrained": (untrained.features(shapes), untrained.features(asked)),
    "raw voxels": tuple(blocks.average(each, 2).reshape(len(each), -1) for each in (shapes, asked)),
}
for name, (known, _) in features.items():
    print(f"{name}: {known.shape[1]} numbers a shape")

# %% [markdown]
# ## How many labels is that worth?
#
# A share of each category keeps its labels; the features of all shapes count for the principal
# components that the regression works on. (Its regularisation is fixed here; the preset's was
# chosen by cross-validation inside the training split.)

# %%
shares = (0.05, 1.0) if small else (0.01, 0.03, 0.1, 0.3, 1.0)
draws = 1 if small else 3


def drawn(share, seed):
    """Rows of so large a share of each category, at least one."""
    order = np.random.default_rng(seed)
    rows = [order.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([row[: max(1, round(share * len(row)))] for row in rows]))


def components(known, questions, count=150):
    """The principal components of features, standardised, found without any label."""
    scaler = StandardScaler().fit(known)
    scaler.scale_ += 1e-3  # what hardly ever responds stays small
    found = PCA(min(count, len(known) // 2), svd_solver="randomized", random_state=0)
    projected = found.fit_transform(scaler.transform(known))
    size = 10 / np.sqrt(np.square(projected).sum(axis=1).mean())
    return size * projected, size * found.transform(scaler.transform(questions))


reduced = {name: components(*pair) for name, pair in features.items()}
curves = {name: [] for name in features}
counts = []
for share in shares:
    for name, (known, questions) in reduced.items():
        hits = []
        for seed in range(draws if share < 1 else 1):
            rows = drawn(share, seed)
            regression = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000)
            regression.fit(known[rows], labels[rows])
            hits.append(regression.score(questions, truth))
        curves[name].append(float(np.mean(hits)))
    counts.append(len(rows))
    print(f"{len(rows):5} labels:", {name: round(values[-1], 3) for name, values in curves.items()})

# %%
figure, axes = plt.subplots(figsize=(6, 3.5))
for name, values in curves.items():
    axes.plot(counts, values, marker="o", label=name)
axes.set(xscale="log", xlabel="labels", ylabel="accuracy on test shapes")
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# More labels help all three, and from a hundred on the features are ahead of raw voxels by five
# points. What the learning itself has added is the difference to the untrained network, whose
# blocks see each patch among its neighbours too: three to four points here, and .015 with all
# labels of the archive and the preset's own regression. With few labels it is less: features
# without labels are no remedy for having next to none, with this regression.

# %% tags=["check"]
learnt, raw = curves["features without labels"], curves["raw voxels"]
slack = 0.1 if small else 0  # of so few test shapes
assert all(values[-1] > values[0] for values in curves.values()), "more labels help"
assert learnt[-1] > raw[-1] - slack, "with all labels, ahead of raw voxels"
gain = learnt[-1] - curves["the same network, untrained"][-1]
assert -slack < gain < 0.05 + slack, "the gain over the untrained network is small"
assert abs(learnt[0] - raw[0]) < 0.1 + slack, "with few labels, not far from raw voxels"

# %% [markdown]
# ## What is taken for what
#
# Of the preset's own regression: rows are what a shape is, columns what it is taken for.

# %%
taken = model.predict(asked)
table = confusion_matrix(truth, taken, labels=range(len(archive.classes)))
figure, axes = plt.subplots(figsize=(5, 5))
axes.imshow(table, cmap="Blues")
for row, column in np.argwhere(table):
    dark = table[row, column] > table.max() / 2
    axes.text(column, row, table[row, column], ha="center", va="center", color="w" if dark else "k")
axes.set_xticks(range(len(archive.classes)), archive.classes, rotation=90)
axes.set_yticks(range(len(archive.classes)), archive.classes)
figure.tight_layout()
plt.show()

# %% tags=["opening"]
wrong = np.flatnonzero(taken != truth)[:10]
Picture.fromarray(
    view.sheet(
        asked[wrong],
        labels=[f"{archive.classes[truth[i]]}: {archive.classes[taken[i]]}?" for i in wrong],
        columns=5,
        tile=120,
    )
)

# %% [markdown]
# Some of them a person would mistake as well: a desk and a table, a dresser and a night stand.

# %% tags=["check"]
names = list(archive.classes)
pairs = {frozenset(("desk", "table")), frozenset(("dresser", "night_stand"))}
mistakes = [frozenset((names[truth[i]], names[taken[i]])) for i in np.flatnonzero(taken != truth)]
assert any(pair in pairs for pair in mistakes), "these pairs are mistaken for each other"

# %% [markdown]
# ## What did not work
#
# - The paper's figure for unsupervised features on ModelNet10. Of what was tried in
#   cross-validation on the training split, an energy at every noise level and convolutions that see
#   each patch among its neighbours helped most; mirrored poses and kernels did nothing.
#   [The paper's tables](../docs/results/paper.md) tell how far it went.
# - Leaving a supervised 3D network with the same labels behind: it is level with these features, as
#   figures on the same page say.
#
# *Next: [7. ModelNet with tfds](07_modelnet_with_tfds.ipynb)*
