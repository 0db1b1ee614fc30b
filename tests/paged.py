"""Every kind of page that geomm writes, of small made-up runs; ``words`` replaces whatever comes from data."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import rasterio
from matplotlib.image import imsave
from PIL import Image
from recorded import ALL, record_of, unit
from shapely.geometry import box

import geomm
from geomm.batch.report import write_report as write_batch_report
from geomm.export import Product
from geomm.metrics import Ranked, Reliability, ranking_bootstrap
from geomm.pipeline.ablate import _write as write_ablation
from geomm.pipeline.assess import Assessment
from geomm.pipeline.clock import Clock, Notes
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.gallery import write_gallery
from geomm.pipeline.judging import Direction
from geomm.pipeline.pages import write_assessment
from geomm.pipeline.report import write_report
from geomm.pipeline.results import Finished
from geomm.pipeline.searched import Searched, write_search_report
from geomm.pipeline.sites import load_sites, make_folds

ROOT = Path(__file__).resolve().parents[1]
STARTED = "2026-07-01T03:00:00+00:00"
SECONDS = {"read": 3.1, "train": 64.0, "test": 4.2, "write": 2.5, "predict": 9.7}


def counts_of(seed, right, blocks=6, classes=3):
    """Return confusion counts ``(2, blocks, K, K)`` with about so many on the diagonal."""
    rng = np.random.default_rng(seed)
    wrong = rng.integers(20, 60, (2, blocks, classes, classes))
    return wrong + np.eye(classes, dtype=int) * rng.integers(int(400 * right), int(520 * right), (2, blocks, 1, 1))


def reliability_of(seed, number=3000, classes=3):
    """Return predictions that are somewhat surer than they are right."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet([0.5] * classes, number)
    softer = chances**0.7 / (chances**0.7).sum(1, keepdims=True)
    labels = (rng.random((number, 1)) > softer.cumsum(1)).sum(1)
    return Reliability.of(chances, np.minimum(labels, classes - 1))


def row(name, modalities, seed, right):
    return Row("blocks", name, modalities, counts_of(seed, right), tuple(reliability_of(seed + k) for k in range(2)),
               12_345, 0.4)  # fmt: skip


def losses(seed, steps=60):
    rng = np.random.default_rng(seed)
    return [(1.1 * np.exp(-np.arange(steps) / 20) + 0.1 * rng.random(steps) + 0.2).tolist() for _ in range(2)]


def product_of(site, folder, stem, classes=3):
    """Write maps of a site that say anything."""
    geobox, rng = site.cube.to_dataset().odc.geobox, np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": geobox.shape[0], "width": geobox.shape[1], "crs": str(geobox.crs),
               "transform": geobox.affine}  # fmt: skip
    chances = rng.dirichlet([0.5] * classes, tuple(geobox.shape)).transpose(2, 0, 1).astype("float32")
    layers = {"class": chances.argmax(0)[None].astype("uint8"), "probability": chances}
    for name, data in layers.items():
        with rasterio.open(folder / f"{stem}-{name}.tif", "w", count=len(data), dtype=data.dtype, **profile) as file:
            file.write(data)
    return Product(folder / f"{stem}.json", {n: folder / f"{stem}-{n}.tif" for n in layers})


@cache
def known(recipe):
    """Return recipe and sites; its catalog is made beside it."""
    config = geomm.load_recipe(recipe)
    return config, load_sites(config, recipe.parent / "made")


def places(recipe, words=None):
    """Return recipe, sites and folds; ``words`` as every name and description."""
    config, sites = known(recipe)
    if words:
        sources = {k: replace(b, href=words, checksum=words) for k, b in sites[0].scenes[0].bands.items()}
        scenes = [replace(s, id=words, href=words, collection=words, bands=sources) for s in sites[0].scenes]
        sites = [replace(sites[0], name="scene", scenes=tuple(scenes))]
        classes = [c.model_copy(update={"name": f"{k} {words[:300]}"}) for k, c in enumerate(config.labels.classes)]
        label = config.labels.model_copy(update={"classes": classes})
        config = config.model_copy(update={"description": words, "label": label})
    return config, sites, make_folds(config, sites)


def notes_of(words=None):
    said = [words] if words else ["Item scene: the processing baseline is unknown; no offset is applied."]
    return Notes(words or "geomm run recipe.yaml --set train.steps=60 --out runs/clouds", STARTED,
                 Clock(dict(SECONDS)), said)  # fmt: skip


def training(recipe, folder, words=None):
    config, sites, folds = places(recipe, words)
    rows = [row("optical", ("optical",), 0, 0.7), row("thermal", ("thermal",), 3, 0.4),
            row(FUSED, ("optical", "thermal"), 6, 1.0)]  # fmt: skip
    products = {s.name: product_of(s, folder, "clouds") for s in sites}
    curves = {("blocks", r.variant): losses(k) for k, r in enumerate(rows)}
    return write_report(folder, Finished(config, sites, folds, rows, products, curves, notes_of(words)))


def evaluation(recipe, folder, words=None):
    config, _, _ = places(recipe, words)
    names = {("optical",): 0.7, ("thermal",): 0.4, ("optical", "thermal"): 1.0}
    found = [Assessment(m, counts_of(k, right), (reliability_of(k), reliability_of(k + 1)))
             for k, (m, right) in enumerate(names.items())]  # fmt: skip
    return write_assessment(folder / "evaluation", config, found, [1.1, 0.9])


def ablation(recipe, folder, words=None):
    config, _, _ = places(recipe, words)
    both = ("optical", "thermal")
    rows = {"optical": row("optical", both[:1], 0, 0.7), "thermal": row("thermal", both[1:], 3, 0.4)}
    for k, name in enumerate(("early_concat", "attention", "late_product", "late_stack")):
        rows[name] = row(name, both, 6 + k, 0.8 + 0.06 * k)
    return write_ablation(folder, config, rows, {n: losses(k) for k, n in enumerate(rows)})


def batch(recipe, folder, words=None):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / "a.png")
    units = [*ALL, *(unit(k, thumbnail="a.png") for k in range(10, 16)), unit(20, "QUARANTINED", code="E306")]
    record = record_of(*units)
    if words:
        names = ("item", "asset", "window", "stage", "name", "message", "code", "digest", "path", "time", "unit")
        hostile = [replace(u, **{n: words for n in names if getattr(u, n)}) for u in units]
        record = replace(record, name=words, description=words, command=words, retry=words, host=words, outcome=words,
                         stages=tuple(replace(s, stage=words) for s in record.stages), units=tuple(hostile))  # fmt: skip
    return write_batch_report(record, folder / "run", root=folder)


def png_of(seed, side=32):
    buffer = io.BytesIO()
    imsave(buffer, np.random.default_rng(seed).random((side, side, 3)), format="png")
    return buffer.getvalue()


def gallery(recipe, folder, words=None):
    texts = [words or "a lake beside a town", "", words or "forest, and a clearing", "fields"]
    hits = geopandas.GeoDataFrame(
        {
            "id": [words or f"scene/{k}-32/fused" for k in range(4)],
            "score": [0.91, 0.85, 0.4, 0.2],
            "datetime": pd.to_datetime(["2021-06-04T10:50:31Z"] * 4, utc=True),
            "sensors": [[words or "sentinel2-l2a", "sentinel1-rtc"]] * 4,
            "text": texts,
            "derived": [True, False, False, True],
            "items": [[words or "items/scene.json", "https://example.org/items/a"]] * 4,
        },
        geometry=[box(10 + 0.02 * k, 55, 10.01 + 0.02 * k, 55.01) for k in range(4)],
        crs="EPSG:4326",
    )
    rng = np.random.default_rng(0)
    pictures, heats = [*(png_of(k) for k in range(3)), None], [*(rng.random((4, 4)) for _ in range(3)), None]
    asked = words or "a lake in the woods"
    return write_gallery(
        folder / "hits.html", hits, pictures, heats, query=asked, notes=[f"place: {words or 'Jutland'}"]
    )


def search(recipe, folder, words=None):
    _, sites, folds = places(recipe, words)
    config = geomm.load_recipe(ROOT / "pipelines" / "search_places.yaml")
    config = config.model_copy(update={"description": words or config.description})
    rng = np.random.default_rng(0)
    scores = rng.random((30, 30)) + np.eye(30)
    ranked = Ranked.of(scores, [frozenset((k,)) for k in range(30)])
    recall = {k: ranking_bootstrap(rng.random((1, 30)) < 0.3 + 0.06 * k) for k in (1, 5, 10)}
    directions = [Direction(n, (ranked,), recall) for n in ("text -> fused", "fused -> text", "optical -> thermal")]
    answers = {words or "the open sea": folder / "answers" / "the-open-sea.html"}
    run = Searched(config, sites, folds, directions, losses(0), answers, 640, notes_of(words))
    return write_search_report(folder, run)


MAKERS = {f.__name__: f for f in (training, evaluation, ablation, batch, gallery, search)}
