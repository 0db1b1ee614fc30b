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
# # From a catalog to an aligned cube
#
# Every sensor delivers its own grid, its own units and its own idea of what a missing pixel is. Before a model may look
# at two of them together, somebody has to decide on one grid, turn stored numbers into physical quantities, and keep
# track of which pixels mean anything. This notebook does that for a real Landsat-8 scene at the border of Alabama and
# Florida: reflectance from one instrument (OLI), temperature from another (TIRS), and the agency's quality bits.
#
# The imagery is part of a Python package (`make .venv/.demo-data` installs it), so nothing here needs a network.

# %%
import matplotlib.pyplot as plt
import numpy as np

import geomm

catalog = geomm.demo_catalog("out-01/catalog")
scenes = catalog.search(sensors=["landsat-oli-l1", "landsat-tirs-l1"])
scenes

# %% [markdown]
# `open_catalog` takes a STAC catalog on disk, a stac-geoparquet file, the address of a STAC API or the name of a public
# one, such as `earth_search`; `search` is the same for all of them. A *scene* is what one sensor saw in one item. Here
# both instruments fly on one satellite, so one item gives two scenes.
#
# ## One grid, chosen once
#
# Alignment is a value, not a habit: a GeoBox (shape, transform, CRS) that is chosen once and passed on. Without options
# it is the native grid of the finest band, so that at least those pixels are copied and never resampled.

# %%
native = geomm.common_geobox(scenes)
streams = {
    "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11")),
}
cube = geomm.load_cube(scenes, native, streams)
cube

# %% [markdown]
# Nothing was read yet: the cube is lazy, and what you see above was known from the catalog and the headers. The column
# *pixels* says what will happen to the pixels of each modality. On this grid all of them are copied.
#
# ## Looking at it
#
# Plots need no arguments. Limits are robust, nodata is transparent, units stand beside the colours. Pictures read only
# the bands that they show, and average what is too large for a screen instead of picking every n-th pixel.

# %%
cube.geomm.plot()
# %% [markdown]
# The clouds are white in one picture and dark in the other: they are cold. That is why two instruments together can tell
# a cloud from a bright roof or a sand road, which are as white but warm.
#
# ## Stored numbers are not measurements
#
# The files hold 16-bit integers. The catalog says how they become reflectance and kelvin, and the cube carries that beside
# the integers instead of converting early: integers are half as large, and the device that trains can convert them
# faster than a disk can deliver floats. `calibrated` is for people.

# %%
stored = cube["thermal"]["data"].isel(time=0, band=0)
kelvin = geomm.calibrated(cube)["thermal"]["data"].isel(time=0, band=0)
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].hist(stored.to_numpy().ravel(), 200, color="#777777")
axes[0].set(title="as stored", xlabel=f"digital number ({stored.dtype})", ylabel="pixels")
axes[1].hist(kelvin.to_numpy().ravel(), 200, color="#b2182b")
axes[1].set(title="as measured", xlabel="brightness temperature, K")
# %% [markdown]
# The peaks near 290 K are ground and thin cloud, the long tail to the left are the tops of thick clouds. The unit is
# *brightness* temperature, what a black body would need to have. It is not the temperature of the surface, for which the air and the emissivity have to be
# accounted for; geomm keeps the two apart and refuses to turn one into the other.
#
# ## What counts as a pixel
#
# `valid` travels with the data from here to the loss function and the final map, and `status` says why a pixel is not
# valid. Let us read the area around the scene too, and let the agency's cloud bits exclude what they mark. The catalog
# of this scene offers them as a sensor of their own, so we look at them first.

# %%
everything = catalog.search(sensors=["landsat-oli-l1", "landsat-bqa"])
left, bottom, right, top = native.boundingbox.bbox
around = native.pad(60)  # 60 pixels more on every side: there is nothing there
wide = geomm.load_cube(everything, around, {"optical": streams["optical"], "quality": geomm.Modality("landsat-bqa")})
classes = geomm.radiometry.cloud_classes_from_bqa(wide["quality"]["data"].isel(time=0, band=0).to_numpy())
clear = wide["optical"]["valid"].isel(time=0) & (classes == 0)
wide.geomm.plot.valid("optical")
f"{float(wide['optical']['valid'].mean()):.1%} of this grid has data, {float(clear.mean()):.1%} is free of clouds"

# %% [markdown]
# ## What resampling costs
#
# Suppose the analysis wants another grid, say UTM zone 16 north with pixels of 100 m. geomm resamples by kind:
# reflectance and temperature are averaged over the area of a coarser pixel, backscatter is averaged as power, classes
# take the most frequent value, bits are combined. What most scripts do instead is take the nearest pixel.

# %%
coarse = geomm.common_geobox(scenes, crs="utm", resolution=100.0)
small = geomm.load_cube(scenes, coarse, streams)
small

# %%
averaged = geomm.calibrated(small)["optical"]["data"].isel(time=0).sel(band="B4")
fine = geomm.calibrated(cube)["optical"]["data"].isel(time=0).sel(band="B4")
nearest = fine.sel(x=averaged.x, y=averaged.y, method="nearest").to_numpy()
error = nearest - averaged.to_numpy()
corner = slice(120, 190), slice(110, 200)  # a village and fields in the south-east
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
panels = {"average": averaged.to_numpy(), "nearest": nearest, "nearest - average": error}
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    look = (
        {"vmin": -0.06, "vmax": 0.06, "cmap": "RdBu_r"} if "-" in title else {"vmin": 0, "vmax": 0.25, "cmap": "gray"}
    )
    shown = ax.imshow(values[corner], **look)
    ax.set_title(title)
    ax.set_axis_off()
    fig.colorbar(shown, ax=ax, shrink=0.8, label="reflectance, B4")
f"nearest differs from the average by {np.nanstd(error):.3f} (one standard deviation); the mean is {float(fine.mean()):.3f}"

# %% [markdown]
# The difference is not noise that goes away: it lies along every edge of a field and every cloud, exactly where a model
# has to decide. Averaging is also what the coarser instrument would have measured.
#
# ## Asking for what is not there
#
# Errors say what, where, why and what to do next, each with a code that `geomm explain` knows more about.

# %%
try:
    geomm.load_cube(scenes, native, {"radar": geomm.Modality("sentinel1-rtc")})
except geomm.GeommError as error:
    print(error)

# %% [markdown]
# ## On a map
#
# `cube.geomm.explore()` lays the pictures over a map to pan in, each modality a layer. The pictures are inside the page;
# only the map behind them comes from the network.

# %%
cube.geomm.explore("optical")

# %% [markdown]
# Next: [chips, splits and leakage](02_chips_and_splits.py), where the cube is cut up and things can go wrong in ways that
# look like success.
