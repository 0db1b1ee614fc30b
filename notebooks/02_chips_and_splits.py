# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Chips, splits and leakage
#
# A scene is too large for a model, so it is cut into chips. That looks like bookkeeping. It is where most published
# accuracies of remote sensing go wrong: neighbouring pixels are nearly copies of each other, and a test chip that lies
# beside a training chip was, in effect, trained on. This notebook cuts a real scene, shows how large the mistake is with
# a model that sees no imagery at all, and splits the scene so that the number at the end means something.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import cKDTree

import geomm

scenes = geomm.demo_catalog("out-02/catalog").search(sensors=["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"])
cube = geomm.load_cube(
    scenes,
    geomm.common_geobox(scenes, resolution=30.0),
    {
        "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
        "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11")),
        "label": geomm.Modality("landsat-bqa"),
    },
)
classes = [
    geomm.ClassSpec(0, "clear", "#3f7f4f"),
    geomm.ClassSpec(1, "cirrus", "#9ecae1"),
    geomm.ClassSpec(2, "cloud", "#f7f7f7"),
]
target = geomm.Target("label", values=(0, 1, 2), decode=geomm.radiometry.cloud_classes_from_bqa)

# %% [markdown]
# The labels are the agency's own cloud mask. A `Target` says how stored bits become class indices; every other value is
# ignored by loss and metrics alike.
#
# ## Windows are integers
#
# A chip says what is *read*, with its margin, and what it answers for (*write*). Together the written parts cover every
# pixel exactly once, the edges included, whatever the size of the scene. No pixel is touched to plan this.

# %%
shape = cube["optical"]["data"].shape[-2:]
grid = geomm.ChipGrid(shape, 128, halo=16)
covered = np.zeros(shape, int)
for chip in grid:
    covered[chip.write.slices] += 1
f"{len(grid)} chips of {grid[0].read.shape} on a grid of {shape}; every pixel is written {np.unique(covered)} times"

# %%
everything = geomm.ChipDataset(cube, geomm.ChipGrid(shape, 96), ["optical", "thermal"], target=target)
everything.plot(numbers=[9, 16, 45], classes=classes)
# %% [markdown]
# All modalities of a chip, its label, the same ground; the last one lies at the edge of the scene, and what is beyond is
# not valid. This picture is worth drawing before any training: a label that is
# shifted by a pixel, a band in the wrong unit or a modality of another place is seen at once.
#
# ## A model that sees nothing
#
# Now take the labels alone, hide three pixels of ten at random, and predict each from the *nearest pixel that is left*.
# This "model" knows no reflectance and no temperature. It only knows where it is.

# %%
labels = target.index(cube["label"]["data"].isel(time=0, band=0).to_numpy())
rows, columns = np.nonzero(labels < 3)
places, truth = np.stack([rows, columns], 1), labels[rows, columns]
hidden = np.random.default_rng(0).random(len(truth)) < 0.3
_, nearest = cKDTree(places[~hidden]).query(places[hidden])
by_place = (truth[~hidden][nearest] == truth[hidden]).mean()
prior = np.bincount(truth[~hidden]).argmax()
by_prior = (truth[hidden] == prior).mean()
f"nearest pixel: {by_place:.1%} right; always {classes[prior].name!r}: {by_prior:.1%} right"

# %% [markdown]
# That is a fine score for knowing nothing. A network with enough capacity finds the same shortcut, and a random split of
# pixels, or of overlapping chips, will reward it. Now the same with blocks: all pixels of a block are either training or
# test, and a buffer between them belongs to neither.

# %%
scores, buffers = [], (0, 8, 16, 32, 48)
for buffer in buffers:
    runs = []
    for seed in range(5):
        split = geomm.SpatialSplit.draw(shape, {"train": 0.7, "test": 0.3}, block=120, buffer=buffer, seed=seed)
        train, test = (split.mask(name)[rows, columns] for name in ("train", "test"))
        _, nearest = cKDTree(places[train]).query(places[test])
        hit = (truth[train][nearest] == truth[test]).mean()
        runs.append((hit, (truth[test] == np.bincount(truth[train]).argmax()).mean()))
    scores.append(runs)
scores = np.array(scores)
fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.axhline(by_place, color="#c62f45", ls="--", label="random split of pixels")
ax.errorbar(buffers, scores[..., 0].mean(1), scores[..., 0].std(1), marker="o", capsize=3, label="blocks of 120 pixels")
ax.plot(buffers, scores[..., 1].mean(1), color="#777777", label="always the most frequent class")
ax.set(xlabel="buffer between the splits, pixels of 30 m", ylabel="right by place alone", ylim=(0.3, 1.0))
ax.legend(frameon=False, fontsize=8)
# %% [markdown]
# With blocks the shortcut is worth little more than guessing the most frequent class, and a wider buffer takes away what
# is left (the bars are the spread over five drawings of the blocks). What a model scores *above* the grey line now has
# to come from the imagery.
#
# ## The split, drawn
#
# `SpatialSplit` assigns blocks at random. Given label counts, it compares many drawings and takes the one whose splits
# are most alike in their classes, so that the test is not all cloud by accident.

# %%
counts = geomm.label_counts(labels, 120, 3)
split = geomm.SpatialSplit.draw(
    shape, {"train": 0.6, "validation": 0.15, "test": 0.25}, block=120, buffer=32, counts=counts
)
colours = {"train": (0.17, 0.5, 0.72), "validation": (0.46, 0.44, 0.7), "test": (0.85, 0.37, 0.0)}
shade = np.ones((*shape, 4)) * [1, 1, 1, 0.75]  # the buffer stays pale
for name, rgb in colours.items():
    shade[split.mask(name)] = (*rgb, 0.3)
ax = cube.geomm.plot.rgb()
ax.imshow(shade)
ax.set_title("train (blue), validation (violet), test (orange), buffer (pale)", fontsize=9)
shares = {n: np.bincount(labels[split.mask(n)], minlength=3)[:3] for n in split.names}
{n: [f"{v:.0%}" for v in c / c.sum()] for n, c in shares.items()}

# %% [markdown]
# The buffer costs pixels: that is the price of a number that can be believed. It should be as wide as the distance over
# which the errors of a model look alike; for a convolutional network at least its receptive field.
#
# ## Chips of a split
#
# Chips are cut inside the blocks. With `split=` given, pixels of other splits inside a chip become *invalid*: the loader
# cannot hand them to a model, whatever the chip covers.

# %%
chips = [c for name in split.names for c in split.tiles(name, 32)]
names = [name for name in split.names for _ in split.tiles(name, 32)]
dataset = geomm.ChipDataset(
    cube, split.tiles("train", 32), ["optical", "thermal"], target=target, split=(split, "train")
)
dataset

# %% [markdown]
# ## Cut once, read many times, and ask for leaks
#
# A chip store keeps the chips with their labels, footprints and splits: sharded zarr with a checksum on every chunk, and
# a GeoParquet manifest that GeoPandas opens. The leak report is made of what is *stored*, not of what was planned: which
# pixels, chips or scenes two splits share, and how far apart their nearest usable pixels are.

# %%
reader = geomm.ChipReader(cube, chips, ["optical", "thermal"], target=target)
geomm.write_store([geomm.StorePart("alabama", reader, {"split": names})], "out-02/careless")
for leak in geomm.find_leaks(geomm.StoredChips("out-02/careless")):
    print("windows alone:", leak)

parts = []
for name in split.names:
    cut = geomm.ChipReader(cube, split.tiles(name, 32), ["optical", "thermal"], target=target, split=(split, name))
    parts.append(geomm.StorePart("alabama", cut, {"split": [name] * len(cut)}))
geomm.write_store(parts, "out-02/store")
store = geomm.StoredChips("out-02/store")
for leak in geomm.find_leaks(store):
    print("with the split:", leak)

# %% [markdown]
# The first store was cut from windows alone, without telling the reader about the split: the windows reach over the
# edges of the blocks, and the report says so before a model is trained. The second is clean.

# %%
store

# %% [markdown]
# ## Order matters too
#
# Reading chips in truly random order from live files would decode the same source blocks again and again. A loader draws
# every batch from a few places at a time instead. Whether that is random enough can be seen from the mix of classes in a
# batch, against that of a full shuffle.

# %%
train = store.select(split="train")
orders = {
    "in grid order": (dataset, 0),
    "from eight places at a time": (dataset, 8),
    "fully shuffled, from a store": (train, 1),
}
mixes = {}
for label, (source, shuffle) in orders.items():
    loader = geomm.ChipLoader(source, 16, shuffle=shuffle, seed=0)
    mixes[label] = [float((b.target[b.target < 3] > 0).float().mean()) for b in loader if (b.target < 3).any()]
fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
for y, mix in enumerate(mixes.values()):
    ax.plot(mix, np.full(len(mix), y), "|", ms=18, color="#2c7fb8")
ax.set_yticks(range(len(mixes)), list(mixes))
ax.invert_yaxis()
ax.set(xlabel="share of cloudy pixels in a batch of 16 chips", xlim=(0, 1))
{label: f"spread {np.std(mix):.3f}" for label, mix in mixes.items()}

# %% [markdown]
# From a store, any order costs the same, so `StoredChips` shuffles fully. From live files, a few places at a time come
# close to it, at the price of decoding each block about once.
#
# What to take along: split by blocks with a buffer, fit the normalisation on training blocks only (`Normaliser.fit` sees
# nothing else), look at the chips, ask for leaks. Next:
# [what each modality is worth, and how to fuse them](03_fusing_optical_and_thermal.py).
