"""Pages of an evaluation and of an ablation: one self-contained HTML file, its pictures, figures for machines."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm._version import __version__
from geomm.config import RunConfig
from geomm.metrics import block_bootstrap
from geomm.pipeline.charts import intervals_chart, reliability_chart

if TYPE_CHECKING:
    from geomm.pipeline.assess import Assessment

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse}img{max-width:100%}
td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}
code{background:#f0f0f0;padding:.1rem .3rem;border-radius:3px}.best{font-weight:600}
@media (prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181c}td,th{border-color:#3a3d44}
code{background:#2a2d33}img{background:#fff}}
"""


def write_assessment(
    folder: Path, config: RunConfig, found: Sequence[Assessment], temperatures: Sequence[float]
) -> Path:
    """Write ``report.html``, ``evaluation.json`` and the pictures of an evaluation.

    Args:
        folder: made if it is not there; what is in it is replaced.
        config: recipe of the run.
        found: one for every subset of the modalities, all of them last.
        temperatures: of the models, seed by seed.

    Returns:
        Path of the page.
    """
    whole, subsets = found[-1], [a.facts() for a in found]
    facts = {
        "geomm": __version__,
        "recipe": config.name,
        "classes": [c.name for c in config.classes()],
        "temperatures": list(temperatures),
        "subsets": subsets,
    }
    bars = {" + ".join(a.modalities): block_bootstrap(a.counts) for a in found}
    pictures = {
        "reliability": reliability_chart(whole.reliability),
        "subsets": intervals_chart(bars, "mean IoU on test blocks, 95 % over blocks and seeds"),
    }
    head = ["modalities", "mean IoU", "mean F1", "accuracy", "calibration error", "log-loss, nats"]
    rows = [
        [" + ".join(f["modalities"]), *_interval_cells(f), f"{f['ece']:.3f}", f"{f['log_loss']:.3f}"] for f in subsets
    ]
    classes = [
        [c.name, _number(i), _number(f)]
        for c, i, f in zip(config.classes(), subsets[-1]["iou_by_class"], subsets[-1]["f1_by_class"], strict=True)
    ]
    body = (
        f"<p>{escape(config.description)}</p>"
        f"<p>{len(whole.counts)} seeds, {whole.counts.shape[1]} test blocks; the intervals draw both anew. "
        f"Probabilities are after division of the logits by {', '.join(f'{t:.2f}' for t in temperatures)}, fitted on "
        "validation blocks where the recipe has some.</p>"
        f"<h2>When modalities are missing</h2>{html_table(head, rows)}{picture('subsets', pictures)}"
        f"<h2>By class, all modalities</h2>{html_table(['class', 'IoU', 'F1'], classes)}"
        f"<h2>Calibration</h2>{picture('reliability', pictures)}"
    )
    return write_page(folder, f"{config.name}: evaluation", body, pictures, {"evaluation.json": facts})


def write_page(folder: Path, title: str, body: str, pictures: Mapping[str, bytes], facts: Mapping[str, Any]) -> Path:
    """Write ``report.html``, pictures and JSON files.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (folder / f"{name}.png").write_bytes(data)
    for name, content in facts.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    target = folder / "report.html"
    target.write_text(page(title, body))
    return target


def page(title: str, body: str) -> str:
    """Return a whole HTML page; ``body`` is HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: geomm</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{body}<p>geomm {escape(__version__)}</p></body></html>\n"
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML; cells are text."""
    lines = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{lines}</table>"


def picture(name: str, pictures: Mapping[str, bytes]) -> str:
    """Return a picture as HTML that needs no other file."""
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(pictures[name]).decode()}">'


def _interval_cells(facts: Mapping[str, Any]) -> list[str]:
    cells = []
    for name in ("mean_iou", "mean_f1", "accuracy"):
        low, high = facts[name]["interval"]
        cells.append(f"{facts[name]['value']:.3f} [{low:.3f}, {high:.3f}]")
    return cells


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
