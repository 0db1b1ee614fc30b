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
# # Fusing optical and thermal
#
# Two instruments see one place. *When* should a network let them meet: as images, as features, or only once each has made
# up its mind? Every answer assumes something about how the modalities depend on each other, and the honest way to choose
# is to give all of them the same encoder, the same chips and the same number of steps, to put each modality alone into the
# same table, and to count on places that no model has seen.
#
# The task is small enough for two processor cores: clear sky, cirrus and cloud on the Landsat-8 scene of
# [the first notebook](01_catalog_to_cube.py). The labels are the agency's own quality bits. So this asks how well a model
# reproduces that mask, and not how well the mask knows the sky.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import geomm
from geomm.metrics import accuracy, block_bootstrap, iou, paired_bootstrap
from geomm.testing.fresh import FreshBatches
from geomm.testing.known import XOR_FLOOD

torch.set_num_threads(1)  # networks this small are slower with more
streams = {
    "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11")),
}
catalog = geomm.demo_catalog("out-03/catalog")
scenes = catalog.search(sensors=["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"])
cube = geomm.load_cube(
    scenes, geomm.common_geobox(scenes), {**streams, "label": geomm.Modality("landsat-bqa")}
).compute()
_ = cube.geomm.plot.rgb()
# %% [markdown]
# ## Places to learn, places to be judged
#
# Neighbouring pixels of a cloud are nearly the same pixel. Test pixels drawn at random would lie next to training pixels,
# and the score would measure memory. Here whole blocks of 96 pixels (2.9 km) are put aside, and between blocks of
# different parts 32 pixels belong to nobody: more than the network looks around.

# %%
classes = (
    geomm.ClassSpec(0, "clear", "#3f7f4f"),
    geomm.ClassSpec(1, "cirrus", "#9ecae1"),
    geomm.ClassSpec(2, "cloud", "#f7f7f7"),
)
target = geomm.Target("label", (0, 1, 2), geomm.radiometry.cloud_classes_from_bqa)
truth = target.index(cube["label"]["data"].isel(time=0, band=0).to_numpy())
split = geomm.SpatialSplit.draw(
    truth.shape, {"train": 0.7, "test": 0.3}, block=96, buffer=32, counts=geomm.label_counts(truth, 96, 3)
)
examples = geomm.ChipDataset(cube, split.tiles("train", 96), list(streams), target=target)
examples.plot(numbers=[6, 14, 22], classes=classes)
f"{len(split.blocks('train'))} blocks to train on, {len(split.blocks('test'))} to be judged on"

# %% [markdown]
# ## Four times to meet
#
# | when | name here | what it assumes |
# |---|---|---|
# | early | `early_concat` | Pixels of both are aligned and mean something together before anything was extracted from them. One encoder sees all bands; it cannot treat the modalities differently where they need it. |
# | mid | `concat` | Each modality needs its own features first; how they combine is the same everywhere. |
# | attention | `attention` | As mid, but how much each counts depends on what is seen in this cell. |
# | late | `late_product` | Given the class, the modalities say independent things. Then multiplying their answers (and dividing the prior out once) is exactly right, and nothing is left to learn. |
#
# geomm has more of each kind under the same contract; a name is all that changes. `optical` and `thermal` alone are not a
# formality: a fused model that does not beat the better of them has paid for nothing.
#
# Six rows times three seeds are trained below, for 60 steps each. That is short. It keeps this page runnable, and it is the
# same for all; `geomm ablate RECIPE` does the same comparison with as many steps as you like.

# %%
both = tuple(streams)
variants = {
    "optical": (("optical",), "concat"),
    "thermal": (("thermal",), "concat"),
    **{name: (both, name) for name in ("early_concat", "concat", "attention", "late_product")},
}
task, seeds = geomm.get_task("segmentation", classes), (0, 1, 2)
settings = geomm.TrainSettings(steps=60, rate=0.01, accelerator="cpu")
models, found = {}, {}
for name, (seen, fusion) in variants.items():
    spec = geomm.ModelSpec({n: len(streams[n].bands) for n in seen}, len(classes), fusion=fusion, width=8)
    held = geomm.ChipDataset(cube, split.tiles("test", 96), seen, target=target, split=(split, "test"))
    for seed in seeds:
        chips = split.random_chips("train", 32, 640, seed)
        dataset = geomm.ChipDataset(cube, chips, seen, target=target, split=(split, "train"))
        batches = geomm.ChipBatches([dataset], 8, seed=seed)
        data = geomm.TrainData(batches, geomm.Normaliser.fit(batches.epoch(0)))
        models[name, seed] = geomm.fit(spec, task, data, settings=settings, seed=seed)
        found[name, seed] = geomm.evaluate(models[name, seed], task, geomm.HeldOut(held, 96), classes=len(classes))

# %% [markdown]
# First the losses, because a table of test scores hides what went wrong before it: a curve that is still falling says that
# the budget was too small for that row, and bands that are far apart that seeds differ.

# %%
geomm.charts.curves({name: [models[name, s].losses for s in seeds] for name in variants})

# %% [markdown]
# ## What is it worth?
#
# The intervals draw whole test blocks and seeds anew, never pixels: a scene has hundreds of thousands of pixels but only a
# handful of independent clouds. Small strokes are the seeds.

# %%
counts = {name: np.stack([found[name, s].counts for s in seeds]) for name in variants}
geomm.charts.intervals(
    {name: block_bootstrap(c) for name, c in counts.items()},
    "mean IoU on test blocks, 95 % over blocks and seeds",
    marked=["optical", "thermal"],
    dots={name: [geomm.metrics.mean_iou(c.sum(0)) for c in counts[name]] for name in variants},
)

# %% [markdown]
# These intervals overlap widely, and that does *not* mean that the rows are equal: most of the width is that some blocks are
# harder than others, for every row. So compare on the same blocks and seeds, as differences.

# %%
best = max(("optical", "thermal"), key=lambda n: block_bootstrap(counts[n]).value)
gains = {name: paired_bootstrap(counts[name], counts[best]) for name in variants if len(variants[name][0]) > 1}
print(f"better than {best} alone:", ", ".join(n for n, g in gains.items() if g.low > 0) or "none that is beyond doubt")
print(f"worse than {best} alone: ", ", ".join(n for n, g in gains.items() if g.high < 0) or "none that is beyond doubt")
chart = geomm.charts.intervals(gains, f"mean IoU minus that of {best} alone, same blocks and seeds")
chart.axes[0].axvline(0, color="#3b4350", lw=1)
chart

# %% [markdown]
# An interval that holds 0 means that this experiment cannot tell. With one scene and three seeds that is the likely outcome
# for most rows, and it is worth more than a bold number. One that barely misses 0 deserves as little trust: four
# differences were looked at, and each has its own chance to be lucky. The table asks where a gain or a loss sits, class by class.

# %%
rows = {name: [*np.nanmean(iou(c.sum(1)), 0), accuracy(c.sum((0, 1)))] for name, c in counts.items()}
table = pd.DataFrame(rows, index=[*(f"IoU {c.name}" for c in classes), "accuracy"]).T.round(3)
for name in variants:
    reliability = [found[name, s].reliability for s in seeds]
    table.loc[name, "log-loss, nats"] = round(np.mean([r.log_loss / r.number for r in reliability]), 3)
table

# %% [markdown]
# Cirrus is hard by nature: it is thin, so the ground shines through in both. The agency used a band made for it
# (B9), which the models do not get. No fusion can bring out what was not measured.
#
# ## Where does the other modality help?
#
# A mean hides the place. Below, one seed of three rows maps the scene, and each *test* pixel is sorted by who was right.
# Training blocks stay empty: being right there proves nothing.

# %%
packages, maps = {}, {}
for name in ("optical", "thermal", "attention"):
    seen = variants[name][0]
    contract = geomm.InputContract.of(cube, seen, classes)
    packages[name] = geomm.save_package(models[name, 0], contract, f"out-03/{name}", name=name)
    maps[name] = geomm.predict_map(cube, packages[name])
optical, thermal, fused = (maps[n]["class"].to_numpy() == truth for n in ("optical", "thermal", "attention"))
who = np.select([fused & (optical | thermal), fused, optical | thermal], [0, 1, 2], 3).astype(np.uint8)
inside = split.mask("test")
who[~inside] = 255
about = {
    "flag_values": np.arange(4, dtype=np.uint8),
    "flag_meanings": "as_one_alone only_fused one_alone_only nobody",
    "flag_colors": "#bdbdbd #1b9e4b #d7301f #525252",
}
judged = maps["attention"].assign(label=maps["attention"]["class"].copy(data=truth), who=(("y", "x"), who, about))
ax = judged.geomm.plot("who", over=cube, opacity=0.8)
ax.set_title("who is right, on test blocks", fontsize=9)
ax.figure.set_size_inches(6, 6.4)
for name, alone in (("optical", optical), ("thermal", thermal)):
    gained, lost = (fused & ~alone)[inside].mean(), (~fused & alone)[inside].mean()
    print(f"against {name} alone: {gained:.1%} of the test pixels gained, {lost:.1%} lost")

# %% [markdown]
# From afar most is grey. So here is the block where the fused model and the two alone differ most.

# %%
block = max(split.blocks("test"), key=lambda w: np.isin(who[w.slices], [1, 2]).sum())
here = {"y": block.slices[0], "x": block.slices[1]}
fig, axes = plt.subplots(2, 2, figsize=(7.6, 8), layout="constrained")
cube.isel(here).geomm.plot.rgb(ax=axes[0, 0])
cube.isel(here).geomm.plot.thermal(ax=axes[0, 1])
judged.isel(here).geomm.plot("label", ax=axes[1, 0])
_ = judged.isel(here).geomm.plot("who", ax=axes[1, 1])

# %% [markdown]
# Green is right in the fused map and in no other: what only the combination knows. Red was right in one of the other two
# maps. That is a harsh comparison, as nobody can tell beforehand which of the two to trust; what is printed above compares
# with each by itself. Both colours lie along the edges of clouds and in the haze between, where the classes themselves are a
# matter of convention. If there is little green, the second modality mostly confirms the first.
#
# ## How much did each modality count?
#
# `attention` weighs the modalities in every cell, and the weights can be mapped. Read them as what they are: how the network
# mixed features, not how much evidence a modality held. (The shares below do not add up to 1: a learned token that stands
# for "neither" takes the rest.) A network may lean on a modality because it is easy, and it may
# ignore one that says the same.

# %%
weighing = geomm.settings_for(cube, packages["attention"], geomm.PredictSettings(weights=True))
shares = geomm.predict_map(cube, packages["attention"], weighing)
ratio = shares["weight"].sel(modality="optical") / shares["weight"].sum("modality")
low, high = np.quantile(ratio, [0.02, 0.98])
fig, ax = plt.subplots(figsize=(6, 5), layout="constrained")
shown = ax.imshow(ratio, cmap="viridis", vmin=low, vmax=high)
fig.colorbar(shown, ax=ax, shrink=0.8, extend="both", label="weight of optical / weight of both")
ax.set(title="what attention mixes", xticks=[], yticks=[])
for name in streams:
    share = shares["weight"].sel(modality=name).to_numpy()
    print(name, *(f"{c.name} {share[truth == k].mean():.2f}" for k, c in enumerate(classes)), sep="  ")

# %% [markdown]
# ## When late fusion cannot work
#
# On the clouds, each modality knows something by itself, so it hardly matters when they meet. Here is the opposite: a parcel
# counts as flooded if it is bright in radar exactly where it is *not* green. Bright alone says nothing, and green alone says
# nothing; all of the information is in the combination. The task is drawn from known distributions, so the best possible
# accuracy is a formula, and so is the most that any rule can reach that adds up what each modality says by itself.

# %%
drawn = XOR_FLOOD.draw(1000, np.random.default_rng(7))
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
pictures = {
    "radar, dB": drawn.images["sar"][0, 0],
    "greenness": drawn.images["optical"][0, 0],
    "flooded": drawn.target[0],
}
for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
    shown = ax.imshow(picture, cmap="Blues" if title == "flooded" else "gray")
    ax.set(title=title, xticks=[], yticks=[])
    if title != "flooded":
        fig.colorbar(shown, ax=ax, shrink=0.8)

# %%
names = tuple(XOR_FLOOD.views)
rows = {"radar alone": ("sar",), "optical alone": ("optical",), "late_mean": names, "concat": names}
reached = {}
budget = geomm.TrainSettings(steps=100, rate=0.006, augment=False, accelerator="cpu")
for name, seen in rows.items():
    fresh = FreshBatches(XOR_FLOOD, 32, only=seen)
    spec = geomm.ModelSpec(dict.fromkeys(seen, 1), 2, fusion="concat" if len(seen) == 1 else name)
    data = geomm.TrainData(fresh, geomm.Normaliser.fit(fresh.epoch(0)))
    fitted = geomm.fit(spec, geomm.get_task("segmentation", classes[:2]), data, settings=budget)
    batch = next(iter(FreshBatches(XOR_FLOOD, 1000, seed=9, only=seen).epoch(0)))
    with torch.inference_mode():
        said = fitted.model(fitted.normaliser(batch)).argmax(1)
    reached[name] = float((said == batch.target).double().mean())

# %%
fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
ax.barh(list(reached), list(reached.values()), color=["#9aa5b3"] * 2 + ["#c0504d", "#1f77b4"])
for label, value, style in (
    ("coin", 0.5, ":"),
    ("any additive rule", XOR_FLOOD.additive, "--"),
    ("best", XOR_FLOOD.bayes, "-"),
):
    ax.axvline(value, color="#3b4350", ls=style, lw=1.2, label=f"{label} {value:.3f}")
ax.invert_yaxis()
ax.set(xlim=(0.4, 1), xlabel="accuracy")
_ = fig.legend(loc="outside upper center", ncols=3, frameon=False)

# %% [markdown]
# The experts of a late fusion are each asked a question that has no answer, and all that they can learn is to toss a coin.
# Even the best rule that adds up what two modalities say by themselves ends at the dashed line; that is a proof, not a
# matter of training. Features that meet before the question is asked have no such limit. Thermal water mapping by day and night has the same form (water is warmer than land at night and cooler at noon).
#
# ## What to take home
#
# - Put every modality alone into the table. The better one is what fusion has to beat.
# - Compare on the same blocks and seeds. Overlapping intervals of two rows say little about their difference.
# - Fuse late where modalities are separately informative, arrive separately or go missing often. It is simple and hard to
#   break.
# - Fuse features where the meaning of one modality depends on the other. No late rule can recover that.
# - Where no difference is beyond doubt, say so. That is a result: it may save the second sensor, or the second network.
#
# Next: [what if a modality is missing](04_missing_modalities.py), which with clouds, orbits and broken sensors is the
# normal case.
