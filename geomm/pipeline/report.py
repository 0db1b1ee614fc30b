"""The report of a run: one self-contained HTML page, its pictures, and ``run.json`` for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomm import charts
from geomm.metrics import Interval, accuracy, block_bootstrap, mean_f1, mean_iou
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.figures import site_looks
from geomm.pipeline.inputs import input_facts
from geomm.pipeline.pages import Chart, drawn, write_page
from geomm.pipeline.results import Finished, made_with, name_of, sureness, verdict
from geomm.pipeline.summary import MOST, summary


def write_report(out: Path, run: Finished) -> Path:
    """Write ``report.html``, ``run.json`` and the pictures; the same run gives the same bytes.

    Returns:
        Path of the page.
    """
    facts = _facts(run, out)
    pictures = charts_of(run, facts["comparison"])
    looks = {
        s.name: site_looks(run.config, s, run.folds[0], run.products[s.name])
        for s in list(run.sites)[:MOST]
        if s.name in run.products
    }
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in pictures.items():
        (folder / f"{name}.png").write_bytes(one.light)
    for name, found in looks.items():
        for look in found:
            (folder / f"{name}-{look.title.replace(' ', '-')}.png").write_bytes(look.png)
    body = summary(run, facts, pictures, looks)
    more = " Hashes are shortened; a click marks the whole."
    return write_page(out, run.config.name, body, {}, {"run.json": facts}, more=more)


def charts_of(run: Finished, comparison: Sequence[Mapping[str, Any]]) -> dict[str, Chart]:
    """Draw the comparison, the calibration of the fused models, and the losses.

    Args:
        run: what there is to report.
        comparison: figures of each row, as in ``run.json``.
    """
    found = [told["mean_iou"] for told in comparison]
    intervals = {name_of(r): Interval(f["value"], *f["interval"]) for r, f in zip(run.rows, found, strict=True)}
    alone = [name_of(r) for r in run.rows if r.variant != FUSED]
    dots = {name_of(r): [float(v) for v in r.seeds] for r in run.rows}
    label = "mean IoU on test blocks (95 %; strokes: seeds)"
    losses: dict[str, list[Sequence[float]]] = {}
    for (_, variant), runs in run.losses.items():
        losses.setdefault(variant, []).extend(runs)
    return {
        "comparison": drawn(
            lambda theme: charts.intervals(intervals, label, marked=alone, dots=dots, theme=theme),
            "Mean IoU of every variant with its interval",
        ),
        "reliability": drawn(
            lambda theme: charts.reliability(sureness(run.rows), theme=theme),
            "How often predictions of the fused models of a confidence are right, a line per seed",
        ),
        "training": drawn(lambda theme: charts.curves(losses, theme=theme), "Training loss of every variant"),
    }


def _facts(run: Finished, out: Path) -> dict[str, Any]:
    return {
        **made_with(run.config, run.notes),
        "sites": {
            s.name: {
                "items": sorted({c.id for c in s.scenes}),
                "shape": [int(v) for v in s.cube.to_dataset().odc.geobox.shape],
            }
            for s in run.sites
        },
        "inputs": input_facts(run.sites),
        "pixels": {
            f.name: {
                f"{site}/{name}": int(split.mask(name).sum())
                for site, split in f.splits.items()
                for name in split.names
            }
            for f in run.folds
        },
        "comparison": [_row_facts(r) for r in run.rows],
        "verdict": {f.name: verdict(run.rows, f.name) for f in run.folds},
        "products": {
            site: {layer: str(path.relative_to(out)) for layer, path in p.files.items()}
            for site, p in run.products.items()
        },
    }


def _row_facts(row: Row) -> dict[str, Any]:
    judged = (("mean_iou", mean_iou), ("mean_f1", mean_f1), ("accuracy", accuracy))
    found = {n: block_bootstrap(row.counts, statistic=s) for n, s in judged}
    return {
        "fold": row.fold,
        "variant": row.variant,
        "modalities": list(row.modalities),
        "mean_iou_by_seed": [round(float(v), 6) for v in row.seeds],
        "iou_by_class": [None if np.isnan(v) else round(float(v), 6) for v in row.per_class],
        "interval": [found["mean_iou"].low, found["mean_iou"].high],
        **{n: {"value": f.value, "interval": [f.low, f.high]} for n, f in found.items()},
        "ece": row.ece,
        "log_loss": row.log_loss,
        "training_loss": row.final_loss,
        "parameters": row.parameters,
    }
