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
# # A pipeline that runs every night
#
# A model in a notebook is an experiment. The same model that maps every new scene for years is a service, and most of
# its work is what nobody planned: a file that arrived damaged, a machine that was switched off, a job that was started
# twice. geomm's answer is one command that may be started at any time, any number of times: it does what is new, leaves
# alone what is published, and goes on where a killed run was. This notebook breaks it on purpose and looks at what is
# left.
#
# ## An archive that grows
#
# The imagery is a real Landsat-8 scene. To have something that arrives day by day, we cut six windows out of it and let
# each stand for a day of its own. The dates are made up, the pixels are not.

# %%
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pystac
import rasterio
from matplotlib.patches import Patch
from rasterio.merge import merge
from rasterio.windows import Window

import geomm

demo = geomm.demo_catalog("out-07/demo")
scenes = demo.search(sensors=["landsat-oli-l1", "landsat-tirs-l1"])
inbox = Path("out-07/inbox")
inbox.mkdir(exist_ok=True)
for day in range(6):
    window = Window(209 * (day % 3), 300 * (day // 3), 209, 300)
    for band, source in [pair for scene in scenes for pair in scene.bands.items()]:
        with rasterio.open(source.href) as file:
            profile = file.profile | {"width": 209, "height": 300, "transform": file.window_transform(window)}
            pixels = file.read(1, window=window)
        with rasterio.open(inbox / f"day-2024060{day + 1}_{band}.tif", "w", **profile) as file:
            file.write(pixels, 1)

# %% [markdown]
# On the first evening three of them are there. A catalog says what the provider meant to deliver. With `checksums=True`
# it states a SHA-256 for every file, and whoever reads it later refuses a file that is another one. Ask your provider
# for them (`file:checksum` in STAC): without, most damage to uncompressed pixels is simply read as other pixels.

# %%
arrived, late = Path("out-07/arrived"), sorted(inbox.glob("day-2024060[456]_*.tif"))
arrived.mkdir(exist_ok=True)
for file in sorted(inbox.glob("day-2024060[123]_*.tif")):
    shutil.copy(file, arrived)
sensors = ["landsat-oli-l1", "landsat-tirs-l1"]
catalog = geomm.build_catalog(arrived, "out-07/catalog", sensors=sensors, checksums=True)
[(scene.id, f"{scene.time:%Y-%m-%d}", scene.sensor) for scene in catalog.search()]

# %% [markdown]
# ## The recipe
#
# A batch is a recipe with *stages*. This one trains a model, which takes its labels from the agency's quality band, and
# maps every scene of the catalog with it. The training is short; it is not what this notebook is about.

# %%
Path("out-07/clouds.yaml").write_text("""
name: clouds
source: {catalog: demo}
modalities:
  optical: {sensor: landsat-oli-l1, bands: [B2, B4, B5, B6]}
  thermal: {sensor: landsat-tirs-l1, bands: [B10]}
label:
  sensor: landsat-bqa
  decode: cloud_bqa
  classes:
    - {value: 0, name: clear, color: "#3f7f4f"}
    - {value: 1, name: cirrus, color: "#9ecae1"}
    - {value: 2, name: cloud, color: "#f7f7f7"}
grid: {resolution: 30.0}
split: {kind: blocks, block: 96, buffer: 32, test: 0.3}
chips: {size: 32, number: 320}
model: {encoder: tiny_cnn, fusion: concat, width: 8}
train: {steps: 60, batch: 16, rate: 0.01, seeds: [0]}
""")
Path("out-07/nightly.yaml").write_text("""
name: cloud-maps
source: {catalog: catalog}
stages:
  - {name: model, kind: train, recipe: clouds.yaml}
  - {name: maps, kind: predict, model: model, layers: [class]}
""")
nightly = geomm.load_batch("out-07/nightly.yaml")
out = Path("out-07/published")
first = geomm.run_batch(nightly, out)
first

# %% [markdown]
# A *unit* is what is made of one scene by one stage. Its identity is a hash of all that decides its bytes: the items,
# the model, the settings, the version of the code. That is why the same command is safe to repeat:

# %%
again = geomm.run_batch(nightly, out)
again

# %% [markdown]
# Nothing was to do, and so nothing was read but the catalog. A model that is trained anew, or a scene that is delivered
# again with other pixels, would have another hash, and be new.
#
# ## The second night, on which everything goes wrong
#
# Three more scenes are listed. One file did not survive the transfer: a few of its bytes are others. It opens in any
# viewer.

# %%
shutil.copytree(out, "out-07/evening")  # for later: what the night would have been without trouble
for file in late:
    shutil.copy(file, arrived)
geomm.build_catalog(arrived, "out-07/catalog", sensors=sensors, checksums=True)
victim = arrived / "day-20240605_B5.tif"
content = bytearray(victim.read_bytes())
content[-5000:-4900] = bytes(100)
victim.write_bytes(content)
with rasterio.open(victim) as file:
    still_opens = file.read(1).shape
plan = geomm.run_batch(nightly, out, geomm.BatchOptions(dry_run=True))
plan

# %% [markdown]
# A dry run says what would be done and writes nothing. It does not know of the damage: files are looked at when they
# are read.
#
# Now the machine dies. We start the command as cron would, and kill it as soon as one new map is published: with
# SIGKILL, which no program can catch, so there is nothing that it could tidy up.

# %%
command = [sys.executable, "-m", "geomm"]
before = set(out.glob("maps/*/*/*.json"))
night = subprocess.Popen([*command, "run", "out-07/nightly.yaml", "--out", out], stderr=subprocess.DEVNULL)
while night.poll() is None and set(out.glob("maps/*/*/*.json")) == before:
    pass
night.kill()
print("ended by signal", -night.wait(), "after", len(set(out.glob("maps/*/*/*.json")) - before), "new map")
print(subprocess.run([*command, "runs", "list", out], capture_output=True, text=True, check=True).stdout)
print(subprocess.run([*command, "runs", "verify", out], capture_output=True, text=True, check=False).stdout)

# %% [markdown]
# The first line is the run that was killed: it has no status, as it never came to its end. What is published is whole,
# each file as its checksum says: a map is made aside, hashed, read again, flushed to the disk and renamed, and its STAC
# item is written last. Whoever copies the output in the middle of a run copies no half map.
#
# ## Going on
#
# The remedy is the same command. A scheduler would start it the next night; nobody has to clean up, and nobody has to
# know that anything happened.

# %%
resumed = geomm.run_batch(nightly, out)
resumed

# %% [markdown]
# The damaged scene stopped nothing. It is *quarantined*, with its error, item and asset, and stays so: trying it again
# every night would change nothing. Trouble that may pass, such as a server that does not answer, is tried again within
# the run, with growing delays. Every error has a code, and geomm explains it, here and on the command line with `geomm
# explain`.

# %%
bad = next(unit for unit in resumed.units if unit.state == "QUARANTINED")
print(bad.item, bad.asset, bad.message, sep="\n", end="\n\n")
print(geomm.explain(bad.code))

# %%
items = list(pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True))
maps = [item.assets["class"].get_absolute_href() for item in items if "class" in item.assets]
with rasterio.open(maps[0]) as file:
    colours = np.array([file.colormap(1)[k] for k in range(256)], "uint8")
torn, _ = merge(maps, nodata=255)
f"{len(maps)} maps, each with {', '.join(sorted(items[0].assets))}"

# %% [markdown]
# ## Mending it
#
# The provider delivers the file again. The unit is released by hand, as only a person knows that there is a reason to
# try again, and the same command does the rest.

# %%
shutil.copy(inbox / victim.name, victim)
print(subprocess.run([*command, "runs", "retry", out], capture_output=True, text=True, check=True).stdout)
mended = geomm.run_batch(nightly, out)
mended

# %%
items = list(pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True))
maps = [item.assets["class"].get_absolute_href() for item in items if "class" in item.assets]
whole, _ = merge(maps, nodata=255)
fig, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
geomm.load_cube(scenes, geomm.common_geobox(scenes)).geomm.plot.rgb(ax=axes[0])
axes[0].set_title("what was seen, in natural colours", fontsize=9)
for ax, mosaic, title in zip(axes[1:], (torn, whole), ("maps after the bad night", "maps once mended"), strict=True):
    ax.imshow(np.where(mosaic[0, ..., None] == 255, np.uint8([217, 217, 217, 255]), colours[mosaic[0]]))
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()
classes = geomm.load_recipe("out-07/clouds.yaml").classes()
patches = [Patch(facecolor=c.color, edgecolor="#555555", label=c.name) for c in classes]
patches.append(Patch(facecolor="#d9d9d9", edgecolor="#555555", label="no map"))
fig.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
# %% [markdown]
# Six maps, each made by itself, side by side: the colours are those that the files carry. The output is a static STAC
# catalog with a stac-geoparquet table beside it; any STAC client opens it, and it may be moved as a whole.
#
# ## The same bytes
#
# Was anything lost on the way? We put the output aside, and in its place the copy from before the bad night. The same
# command runs once more, this time without trouble. Then every published file of both is compared: maps, styles, items,
# catalogs.

# %%
disturbed = out.rename("out-07/disturbed")
Path("out-07/evening").rename(out)
calm = geomm.run_batch(nightly, out)
hashes = []
for folder in (disturbed, out):
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and ".geomm" not in p.parts]
    hashes.append({str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
different = [name for name in {**hashes[0], **hashes[1]} if hashes[0].get(name) != hashes[1].get(name)]
f"{len(hashes[0])} files, {len(different)} of them different"

# %% [markdown]
# ## Looking after it
#
# Every run that did something leaves a page and a `run.json`: what was made, what was not and why, where the time went,
# what to type next. For a monitor there is `--metrics FILE` (Prometheus), and the exit status: 0 all done, 3 some units
# failed, 4 too many did, 75 another run is at work.

# %%
record = json.loads(calm.report.with_name("run.json").read_text())
print(calm.report.relative_to(Path.cwd()))
{name: record[name] for name in ("outcome", "exit_code", "started", "finished", "retries", "resident_mb")}

# %% [markdown]
# Schedulers need a line each. `pipelines/schedulers/` has cron, systemd, Airflow, Prefect, Dagster, SLURM and
# Kubernetes; all of them start the same command:
#
# ```
# 15 3 * * *  geomm run /srv/recipes/nightly.yaml --out /srv/clouds
# ```
#
# `BatchOptions(scheduler="local", workers=4)`, or the address of a Dask cluster, works on several units at a time. The
# bytes are the same.
#
# Back to the beginning: [from a catalog to a cube](01_catalog_to_cube.py).
