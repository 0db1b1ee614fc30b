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
# # When a modality is missing
#
# The day that a model is used, something is missing: the thermal band is broken, the radar orbit passes tomorrow, half of
# the optical scene is nodata. Most fused networks were never told. They get zeros where a picture should be, take the zeros
# for a very cold and very dark place, and answer as surely as ever.
#
# This notebook does three things about it, on the clouds of [the notebook before](03_fusing_optical_and_thermal.py). It
# says what *missing* means, down to the bit. It trains with and without missing modalities. And it asks not only whether
# answers get worse, which they must, but whether the model *knows*.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import geomm
from geomm.metrics import block_bootstrap
from geomm.train.evaluate import subsets

torch.set_num_threads(1)  # networks this small are slower with more
streams = {
    "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11")),
}
catalog = geomm.demo_catalog("out-04/catalog")
scenes = catalog.search(sensors=["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"])
cube = geomm.load_cube(
    scenes, geomm.common_geobox(scenes), {**streams, "label": geomm.Modality("landsat-bqa")}
).compute()

# %% [markdown]
# Three parts this time: blocks to train on, blocks to calibrate on, and blocks to be judged on. Whoever calibrates on the
# test blocks will find that the model is well calibrated on the test blocks.

# %%
classes = (
    geomm.ClassSpec(0, "clear", "#3f7f4f"),
    geomm.ClassSpec(1, "cirrus", "#9ecae1"),
    geomm.ClassSpec(2, "cloud", "#f7f7f7"),
)
target = geomm.Target("label", (0, 1, 2), geomm.radiometry.cloud_classes_from_bqa)
truth = target.index(cube["label"]["data"].isel(time=0, band=0).to_numpy())
parts = {"train": 0.55, "validation": 0.15, "test": 0.3}
split = geomm.SpatialSplit.draw(truth.shape, parts, block=96, buffer=32, counts=geomm.label_counts(truth, 96, 3))
tiles = {part: split.tiles(part, 96) for part in parts}
test = geomm.HeldOut(geomm.ChipDataset(cube, tiles["test"], list(streams), target=target, split=(split, "test")), 96)
{part: f"{len(split.blocks(part))} blocks" for part in parts}

# %% [markdown]
# ## Training with and without holes
#
# *Modality dropout* hides each modality of a training chip with some probability, never all of them. The network cannot
# rely on both being there, and learns what to do with either. It costs something: part of the training is spent on harder
# questions. `sure` never sees a hole, `ready` does. The two specialists that only ever see one modality say what could be
# reached with it.

# %%
both = tuple(streams)
variants = {
    "sure": (both, 0.0),
    "ready": (both, 0.4),
    "optical only": (("optical",), 0.0),
    "thermal only": (("thermal",), 0.0),
}
task, seeds, models = geomm.get_task("segmentation", classes), (0, 1, 2), {}
for name, (seen, dropout) in variants.items():
    spec = geomm.ModelSpec({n: len(streams[n].bands) for n in seen}, len(classes), fusion="attention", width=8)
    settings = geomm.TrainSettings(steps=70, rate=0.01, modality_dropout=dropout, accelerator="cpu")
    for seed in seeds:
        chips = split.random_chips("train", 32, 560, seed)
        dataset = geomm.ChipDataset(cube, chips, seen, target=target, split=(split, "train"))
        batches = geomm.ChipBatches([dataset], 8, seed=seed)
        data = geomm.TrainData(batches, geomm.Normaliser.fit(batches.epoch(0)))
        models[name, seed] = geomm.fit(spec, task, data, settings=settings, seed=seed)
geomm.charts.curves({name: [models[name, s].losses for s in seeds] for name in variants})

# %% [markdown]
# ## What "missing" means
#
# A modality can be missing in three ways, and geomm has one word for all of them, `valid`:
#
# - **absent**: it is not in the cube, or not in this sample of the batch;
# - **masked**: it is there, but nodata, a cloud flag or a broken file leaves no pixel of it valid;
# - **holed**: some of its pixels are valid.
#
# An invalid pixel never becomes a number that the network can see: features are computed from valid pixels, and the fusion
# gives what is invalid no weight. So a modality that is fully masked must give *the same bits* as one that was never there,
# whatever the masked pixels hold. That can be tested, and is, for every fusion.

# %%
fitted = models["ready", 0]
chips, batch = next(test.batches(4))
nothing = torch.zeros_like(batch.valid["thermal"])
noise = torch.randint_like(batch.images["thermal"], 1, 30_000)
absent = replace(
    batch, **{f: {"optical": getattr(batch, f)["optical"]} for f in ("images", "valid", "calibration", "present")}
)
masked = replace(batch, valid={**batch.valid, "thermal": nothing})
garbage = replace(masked, images={**batch.images, "thermal": noise})
with torch.inference_mode():
    whole, first, second, third = (fitted.model(fitted.normaliser(b)) for b in (batch, absent, masked, garbage))
print("masked is absent, bit for bit:           ", torch.equal(first, second))
print("whatever the masked pixels hold:         ", torch.equal(first, third))
print("and it is not the same as with thermal:  ", not torch.equal(first, whole))

# %% [markdown]
# ## What is left with every subset
#
# Each model is judged three times on the same test pixels: with both modalities, and with either one hidden.

# %%
found = {
    (name, seed, only): geomm.evaluate(models[name, seed], task, test, classes=len(classes), only=only)
    for name in ("sure", "ready")
    for seed in seeds
    for only in subsets(both)
}
shown = {
    (name, only): block_bootstrap(np.stack([found[name, s, only].counts for s in seeds]))
    for name in ("sure", "ready")
    for only in subsets(both)
}
geomm.charts.missing({only: shown["sure", only] for only in subsets(both)}, "mean IoU, trained without dropout")

# %%
geomm.charts.missing({only: shown["ready", only] for only in subsets(both)}, "mean IoU, trained with modality dropout")

# %% [markdown]
# Filled dots are what the model saw. The question for a user is whether one prepared model can stand in for a specialist that
# was trained for exactly this case:

# %%
rows = {}
for only in subsets(both)[:2]:
    label = f"only {only[0]}"
    special = []
    for seed in seeds:
        dataset = geomm.ChipDataset(cube, tiles["test"], only, target=target, split=(split, "test"))
        held = geomm.HeldOut(dataset, 96)
        special.append(geomm.evaluate(models[f"{only[0]} only", seed], task, held, classes=len(classes)).counts)
    rows |= {f"{label}: {name}": shown[name, only] for name in ("sure", "ready")}
    rows[f"{label}: specialist"] = block_bootstrap(np.stack(special))
geomm.charts.intervals(
    rows, "mean IoU on test blocks, 95 % over blocks and seeds", marked=[r for r in rows if "spec" in r]
)

# %% [markdown]
# With dropout, a missing modality should cost about what its information is worth, and no more. Without, the network meets
# a situation that it has never seen, and what happens then is chance.
#
# ## Does the model know?
#
# A worse answer is no disaster if it says that it is worse. A reliability diagram groups predictions by their confidence and
# asks how many are right: on the diagonal, 80 % sure means right in 80 % of the cases. Below it, the model promises too much.
# Each line is a seed, and points are as large as their share. First
# with all modalities, then with thermal alone, both for the model that never saw a hole.

# %%
geomm.charts.reliability([found["sure", s, both].reliability for s in seeds])

# %%
geomm.charts.reliability([found["sure", s, ("thermal",)].reliability for s in seeds])

# %% [markdown]
# And the model that was prepared, with thermal alone:

# %%
geomm.charts.reliability([found["ready", s, ("thermal",)].reliability for s in seeds])

# %% [markdown]
# ## Calibration, and its limits
#
# `calibrate` fits one number on the validation blocks, the temperature: logits are divided by it, so all confidences go up or
# down together and no decision changes. One temperature belongs to one situation, though. A model that is too careful with
# both modalities and too bold with one cannot be put right by a single number. So fit one per subset: a validation set that
# lacks a modality is simply a data set that does not name it.

# %%
rows = {}
for name in ("sure", "ready"):
    for only in subsets(both):
        dataset = geomm.ChipDataset(cube, tiles["validation"], only, target=target, split=(split, "validation"))
        validation = geomm.ChipBatches([dataset], 8, shuffle=False)
        tuned = [geomm.calibrate(models[name, s], validation) for s in seeds]
        after = [geomm.evaluate(t, task, test, classes=len(classes), only=only).reliability for t in tuned]
        before = [found[name, s, only].reliability for s in seeds]
        rows[name, " + ".join(only)] = {
            "temperature": np.mean([t.temperature for t in tuned]),
            "ECE before": np.mean([r.ece() for r in before]),
            "ECE after": np.mean([r.ece() for r in after]),
            "log-loss before": np.mean([r.log_loss / r.number for r in before]),
            "log-loss after": np.mean([r.log_loss / r.number for r in after]),
        }
pd.DataFrame(rows).T.rename_axis(["trained as", "sees"]).round(3)

# %% [markdown]
# A temperature above 1 says that the model was too sure. ECE is the mean distance from the diagonal; the log-loss also
# weighs how sure the wrong ones were. Calibration helps where validation and test blocks are alike, and with a handful of blocks it may
# as well do a little harm: the table says which it was here.
#
# ## A hole in a map
#
# Now the third way of being missing. A disc is cut out of the thermal data, as a detector failure or a mask might do it. The
# pixels stay where they are; only `valid` changes.

# %%
height, width = truth.shape
row, column = np.ogrid[:height, :width]
disc = (row - 330) ** 2 + (column - 250) ** 2 < 110**2
holed = cube.copy()
holed["thermal/valid"] = cube["thermal"]["valid"] & ~disc
_ = holed.geomm.plot.valid("thermal")
# %%
contract = geomm.InputContract.of(cube, both, classes)
package = geomm.save_package(models["ready", 0], contract, "out-04/ready", name="clouds, ready for holes")
wanted = geomm.settings_for(cube, package, geomm.PredictSettings(layers=("class", "entropy", "confidence")))
maps = {name: geomm.predict_map(c, package, wanted) for name, c in {"whole": cube, "holed": holed}.items()}
fig, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for ax, (name, drawn) in zip(axes, maps.items(), strict=True):
    drawn.geomm.plot("class", ax=ax)
    ax.set_title(f"class, thermal {name}")
    ax.contour(disc, [0.5], colors="#d7301f", linewidths=1)

# %% [markdown]
# The map has no hole: optical goes on alone. Inside the red line it is another map, and a user who only gets the classes
# cannot tell. So publish how sure the model was beside them. Entropy is 0 where one class is certain, and 1 where all are
# alike.

# %%
more = maps["holed"]["entropy"] - maps["whole"]["entropy"]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, picture, span, title in (
    (axes[0], maps["holed"]["entropy"], {"cmap": "magma", "vmin": 0, "vmax": 1}, "entropy with the hole, 0 to 1"),
    (axes[1], more, {"cmap": "RdBu_r", "vmin": -0.5, "vmax": 0.5}, "change of the entropy"),
):
    fig.colorbar(ax.imshow(picture, **span), ax=ax, shrink=0.8)
    ax.contour(disc, [0.5], colors="#1b9e4b", linewidths=1.5)
    ax.set(title=title, xticks=[], yticks=[])

# %%
judged = split.mask("test")
for place, inside in (("inside", disc), ("outside", ~disc)):
    for name, drawn in maps.items():
        right = (drawn["class"].to_numpy() == truth)[inside & judged].mean()
        sure = drawn["confidence"].to_numpy()[inside & judged].mean()
        print(f"{place:8} thermal {name}: {right:.1%} of the test pixels right, mean confidence {sure:.1%}")

# %% [markdown]
# Outside of the disc nothing changes but for a rim as wide as the network looks around. Inside, two things are compared: how
# the share that is right changed, and how the confidence changed. They should move together. Do not expect that both must
# fall: a modality that says little about the labels, or that a short training has not learned to read, can be in the way.
# If the confidence rises where fewer pixels are right, the model does not know what it lost.
#
# ## Refusing is an answer too
#
# A model that never saw a hole can say so. What its contract calls `required` may not be absent, and imagery without it is
# refused before a pixel is read. `geomm train` and `geomm demo` fill this in from how the model was trained.

# %%
strict = geomm.save_package(
    models["sure", 0], replace(contract, required=both), "out-04/sure", name="clouds, needs both"
)
try:
    geomm.predict_map(cube.drop_nodes("thermal"), strict)
except geomm.GeommError as error:
    print(error)

# %% [markdown]
# ## What to do in practice
#
# - Never fill holes with a number. Keep `valid` beside the data, from the reader to the map.
# - If a modality can be missing in use, hide it in training (`modality_dropout`), and report every subset.
#   `geomm evaluate` does so by itself.
# - Look at calibration with modalities missing. That is where confidences tend to mean least.
# - Calibrate on blocks of their own, in the situation of use; decisions stay as they are.
# - Publish confidence or entropy with the classes: `geomm predict ... --layer class --layer confidence`.
# - Declare as required what the model cannot do without. An error is cheaper than a map that looks right.
