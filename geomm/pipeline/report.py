"""The report of a run: one self-contained HTML page, its pictures, and ``run.json`` for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from geomm._version import __version__
from geomm.config import RunConfig
from geomm.export import Product
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.figures import comparison_figure, losses_figure, site_figure
from geomm.pipeline.pages import html_table, page, picture
from geomm.pipeline.sites import Fold, Site


def verdict(rows: Sequence[Row], fold: str) -> str:
    """Say in one sentence whether fusion paid, with the figures that say so."""
    mine = {r.variant: r for r in rows if r.fold == fold}
    alone = {name: r for name, r in mine.items() if name != FUSED}
    if FUSED not in mine or not alone:
        return "Only one modality: there is nothing to compare."
    best = max(alone, key=lambda name: float(np.mean(alone[name].seeds)))
    fused, single = mine[FUSED], alone[best]
    gains = fused.seeds - single.seeds
    wins, count, gain = int((gains > 0).sum()), len(gains), float(gains.mean())
    what = f"{abs(gain):.3f} mean IoU on average, {wins} of {count} seeds better (paired)"
    if gain > 0 and wins == count:
        return f"The fused model beats the best single modality ({best}) by {what}."
    easier = fused.final_loss < 0.98 * single.final_loss
    why = (
        f"It fits the training blocks better (loss {fused.final_loss:.3f} against {single.final_loss:.3f}), so what it "
        "learned from the other modalities did not carry over to the test blocks."
        if easier
        else f"Even the training blocks are fitted no better (loss {fused.final_loss:.3f} against "
        f"{single.final_loss:.3f}): beside {best}, the other modalities tell this model nothing new about these labels."
    )
    side = "is ahead of" if gain > 0 else "is behind"
    return f"The fused model does not beat the best single modality ({best}) for certain: it {side} it by {what}. {why}"


def table(rows: Sequence[Row], classes: Sequence[str]) -> list[list[str]]:
    """Return the comparison as text: header first, then a line per variant and fold."""
    out = [["variant", *(f"IoU {c}" for c in classes), "mean IoU", "± seeds", "95 % over blocks"]]
    for row in rows:
        name = row.variant if row.fold == "blocks" else f"{row.variant}, without {row.fold}"
        interval = row.interval()
        per_class = ["-" if np.isnan(v) else f"{v:.3f}" for v in row.per_class]
        spread = float(row.seeds.std(ddof=1)) if len(row.seeds) > 1 else float("nan")
        out.append(
            [
                name,
                *per_class,
                f"{row.seeds.mean():.3f}",
                f"{spread:.3f}",
                f"[{interval.low:.3f}, {interval.high:.3f}]",
            ]
        )
    return out


def write_report(
    out: Path,
    config: RunConfig,
    sites: Sequence[Site],
    folds: Sequence[Fold],
    rows: Sequence[Row],
    products: Mapping[str, Product],
    losses: Mapping[tuple[str, str], Sequence[Sequence[float]]],
) -> Path:
    """Write ``report.html``, ``run.json`` and the pictures.

    Returns:
        Path of the page.
    """
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"comparison": comparison_figure(rows), "training": losses_figure(losses)}
    for site in sites:
        pictures[f"site-{site.name}"] = site_figure(config, site, folds[0], products[site.name])
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    facts = _facts(config, sites, folds, rows, products, out)
    (out / "run.json").write_text(json.dumps(facts, indent=2))
    target = out / "report.html"
    target.write_text(_page(config, rows, folds, facts, pictures))
    return target


def _facts(
    config: RunConfig,
    sites: Sequence[Site],
    folds: Sequence[Fold],
    rows: Sequence[Row],
    products: Mapping[str, Product],
    out: Path,
) -> dict[str, Any]:
    return {
        "geomm": __version__,
        "python": platform.python_version(),
        "packages": {n: metadata.version(n) for n in ("torch", "xarray", "rasterio", "numpy")},
        "recipe": config.model_dump(exclude={"root"}),
        "sites": {
            s.name: {
                "items": sorted({c.id for c in s.scenes}),
                "shape": [int(v) for v in s.cube.to_dataset().odc.geobox.shape],
            }
            for s in sites
        },
        "pixels": {
            f.name: {
                f"{site}/{name}": int(split.mask(name).sum())
                for site, split in f.splits.items()
                for name in split.names
            }
            for f in folds
        },
        "comparison": [
            {
                "fold": r.fold,
                "variant": r.variant,
                "modalities": list(r.modalities),
                "mean_iou_by_seed": [round(float(v), 6) for v in r.seeds],
                "iou_by_class": [None if np.isnan(v) else round(float(v), 6) for v in r.per_class],
                "interval": [r.interval().low, r.interval().high],
            }
            for r in rows
        ],
        "verdict": {f.name: verdict(rows, f.name) for f in folds},
        "products": {
            site: {layer: str(path.relative_to(out)) for layer, path in p.files.items()} for site, p in products.items()
        },
    }


def _page(
    config: RunConfig,
    rows: Sequence[Row],
    folds: Sequence[Fold],
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> str:
    head, *body = table(rows, [c.name for c in config.classes()])
    images = {name: picture(name, pictures) for name in pictures}
    verdicts = "".join(f"<p>{escape(verdict(rows, f.name))}</p>" for f in folds)
    where = "".join(
        f"<h2>Map of {escape(name.removeprefix('site-'))}</h2>{image}"
        for name, image in images.items()
        if name.startswith("site-")
    )
    files = "".join(
        f"<li>{escape(site)}: {', '.join(f'<code>{escape(p)}</code>' for p in layers.values())}</li>"
        for site, layers in facts["products"].items()
    )
    split = config.split
    how = (
        f"Blocks of {split.block} pixels, no test pixel within {split.buffer} pixels of a training pixel"
        if split.kind == "blocks"
        else "One site left out at a time"
    )
    return page(
        config.name,
        f"<p>{escape(config.description)}</p>"
        f"<h2>What each modality is worth</h2>{verdicts}{html_table(head, body)}"
        f"<p>{escape(how)}. {len(config.train.seeds)} seeds; the interval draws test blocks and seeds anew.</p>"
        f"{images['comparison']}{where}<h2>Training</h2>{images['training']}"
        f"<h2>Files</h2><ul>{files}<li>model package: <code>model</code></li></ul>"
        f"<p>Python {escape(facts['python'])}. Everything is in <code>run.json</code>.</p>",
    )
