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
# # A whole scene to a GeoTIFF that a GIS opens styled
#
# A model that was trained on chips of 32 pixels has to map scenes of 10,000. On the way, three things go wrong in most
# scripts: seams between chips, maps that say something where nothing was seen, and files that open grey and nameless in
# QGIS. This notebook trains a small model, maps the scene, and looks at each of the three.
#
# ## A model that knows what it wants
#
# `geomm train` (here: the function behind it) trains the model of a recipe into a run folder. To be quick, it is told to
# train one seed for 80 steps; the recipe has three seeds and more steps.

# %%
import json
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import rasterio

import geomm
from geomm.pipeline.train import train

recipe = geomm.load_recipe("clouds_landsat", {"train.seeds": [0], "train.steps": 80})
folder = train(recipe, "out-06/run")
package = geomm.load_package(folder / "seed-0/model")
package

# %% [markdown]
# The package is a folder: weights without pickle, a description in the terms of the STAC extension for machine learning
# models, a card, and checksums. What matters most is its *contract*: sensors, bands, units, pixel size. Imagery that does
# not meet it is refused before a pixel is read, instead of being mapped to something that looks like a result.

# %%
scenes = geomm.demo_catalog("out-06/catalog").search(sensors=["landsat-oli-l1", "landsat-tirs-l1"])
grid = geomm.common_geobox(scenes, resolution=30.0)
cube = geomm.load_cube(scenes, grid, package.contract.modalities)
try:
    wrong = {**package.contract.modalities, "optical": geomm.Modality("landsat-oli-l1", ("B4", "B3", "B2"))}
    geomm.predict(geomm.load_cube(scenes, grid, wrong), package)
except geomm.GeommError as error:
    print(error)

# %% [markdown]
# ## The map, over what it was made from
#
# `predict_map` returns the whole map as an xarray data set, for scenes that fit into memory. It plots itself over the
# imagery, works with `.odc` and `.rio`, and carries the names and colours of the classes.

# %%
maps = geomm.predict_map(cube, package)
fig, axes = plt.subplots(1, 3, figsize=(13, 4.9), layout="constrained")
cube.geomm.plot.rgb(ax=axes[0])
maps.geomm.plot("class", ax=axes[1])
maps.geomm.plot("class", over=cube, opacity=0.5, ax=axes[2])
# %% [markdown]
# ## Seams
#
# A convolution at the edge of a chip sees padding where it should see the neighbour. If chips are mapped side by side
# without a margin, the padding leaves a grid of wrong pixels. geomm measures how far the model looks, reads that much
# more around every chip, and writes only the inner part. Here is what happens if it is told not to.

# %%
careless = geomm.PredictSettings(size=64, halo=0, block=64)
seamed = geomm.predict_map(cube, package, careless)
fitted = geomm.settings_for(cube, package)
difference = np.abs(seamed["probability"] - maps["probability"]).max("class_name")
fig, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
shown = ax.imshow(difference, cmap="magma", vmax=0.3)
ax.set_title("what a missing margin does: chips of 64 pixels, none around them", fontsize=9)
ax.set_axis_off()
fig.colorbar(shown, ax=ax, label="difference of the probability")
f"geomm's own choice here: chips of {fitted.size} pixels and a margin of {fitted.halo}"

# %% [markdown]
# ## Not knowing is an answer
#
# Where nothing was seen, the map says nodata, and where the model hesitates, confidence and entropy say so. Let us take
# away a corner of both sensors, and the thermal data of another one, as a cloud or a failed detector would.

# %%
holes = cube.copy(deep=False)
for name in cube.children:
    node = cube[name].to_dataset()
    valid = node["valid"].load().copy()
    valid[:, 380:, 380:] = False
    if name == "thermal":
        valid[:, :220, :220] = False
    holes[name] = node.assign(valid=valid)
layers = geomm.PredictSettings(layers=("class", "confidence", "entropy"))
unsure = geomm.predict_map(holes, package, geomm.settings_for(holes, package, layers))
fig, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
for ax, layer in zip(axes, ("class", "confidence", "entropy"), strict=True):
    unsure.geomm.plot(layer, ax=ax)

# %% [markdown]
# Lower right: no sensor, no answer. Upper left: optical alone, and an answer all the same, since a missing modality is
# normal for every fusion in geomm. Look closely at the entropy there before you trust it: a model that was hardly
# trained without one of its modalities may be *more* certain when it is gone, and no better. What to do about that is
# the subject of [notebook 04](04_missing_modalities.py).
#
# ## Files for the analyst
#
# For scenes of any size, blocks go straight to disk: memory depends on the chips, not on the scene. The same call writes
# styles, category names, polygons and a STAC item, the item last, so that nothing half-made is ever listed. On the command
# line this is `geomm predict MODEL SCENES -o maps --polygons`.

# %%
mapped = geomm.PredictSettings(layers=("class", "probability", "confidence"))
blocks = geomm.predict(cube, package, geomm.settings_for(cube, package, mapped))
source = geomm.Provenance(scenes[0].time, model_sha256=package.sha256)
product = geomm.write_products(
    blocks, grid, "out-06/maps", name="clouds", source=source, further=geomm.export.Further(polygons=True)
)
for path in sorted(Path("out-06/maps").iterdir()):
    print(f"{path.stat().st_size / 1e3:8.1f} kB  {path.name}")

# %% [markdown]
# What would QGIS show? It reads the colour table and the `.qml` beside the file. So do we, from the file alone, as if we
# had never heard of geomm.

# %%
with rasterio.open(product.files["class"]) as file:
    codes, table, about = file.read(1, masked=True), file.colormap(1), file.tags(ns="IMAGE_STRUCTURE")
    colours = np.array([table[k] for k in range(256)], np.uint8)
    print(file.crs, file.shape, file.nodata, about.get("LAYOUT"), "overviews", file.overviews(1))
polygons = gpd.read_file("out-06/maps/clouds-polygons.gpkg", layer="classes")
fig, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
axes[0].imshow(colours[codes.filled(255)])
axes[0].set_title("the GeoTIFF, in its own colours", fontsize=9)
palette = {c.name: c.color for c in package.contract.classes}
polygons.plot(ax=axes[1], color=polygons["class"].map(palette))
axes[1].set_title(f"the GeoPackage: {len(polygons)} polygons, coloured by their class names", fontsize=9)
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# Drag `clouds-class.tif` into QGIS: names in the legend, the right colours, transparent where there is nothing. The
# continuous integration of geomm does so with Debian's QGIS, and samples the colours.
#
# ## Where it came from

# %%
item = json.loads(Path("out-06/maps/clouds.json").read_text())
{k: v for k, v in item["properties"].items() if not isinstance(v, (list, dict))}

# %% [markdown]
# Every asset has its checksum, and the item names the model. Another run with the same input writes the same bytes, with
# one worker or with four. Next: [the same for every new scene, for years](07_scheduled_pipeline.py).
