"""What a run came to: its rows, compared, in words and as a table."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from geomm._version import __version__
from geomm.config import RunConfig
from geomm.export import Product
from geomm.metrics import Reliability
from geomm.pipeline.clock import Notes
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.sites import Fold, Site

PACKAGES = ("torch", "xarray", "rasterio", "numpy")
"""Whose versions are noted."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What there is to report of a run."""

    config: RunConfig
    """The recipe."""
    sites: Sequence[Site]
    """Places with their imagery."""
    folds: Sequence[Fold]
    """Ways of keeping training and test apart."""
    rows: Sequence[Row]
    """The comparison."""
    products: Mapping[str, Product]
    """Site to its maps."""
    losses: Mapping[tuple[str, str], Sequence[Sequence[float]]]
    """Fold and variant to the losses of each seed."""
    notes: Notes = field(default_factory=Notes)
    """What is known of the run itself."""


def recipe_hash(config: RunConfig) -> str:
    """Return the SHA-256 of a recipe, without the folder that it lies in."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json", exclude={"root"})).encode()).hexdigest()


def made_with(config: RunConfig, notes: Notes) -> dict[str, Any]:
    """Return by what, with what and how a run was made, JSON types."""
    return {
        "geomm": __version__,
        "python": platform.python_version(),
        "packages": {n: metadata.version(n) for n in PACKAGES},
        "command": notes.command,
        "started": notes.started,
        "seconds": {k: round(v, 3) for k, v in notes.clock.seconds.items()},
        "warnings": list(notes.warnings),
        "recipe": config.model_dump(exclude={"root"}),
        "recipe_sha256": recipe_hash(config),
    }


def leaders(rows: Sequence[Row], fold: str) -> tuple[Row, Row] | None:
    """Return the fused row of a fold and that of the best single modality; None where there is nothing to compare."""
    mine = {r.variant: r for r in rows if r.fold == fold}
    alone = [r for name, r in mine.items() if name != FUSED]
    if FUSED not in mine or not alone:
        return None
    return mine[FUSED], max(alone, key=lambda r: float(np.mean(r.seeds)))


def pays(rows: Sequence[Row], fold: str) -> bool:
    """Tell whether fusion beats the best single modality with every seed."""
    found = leaders(rows, fold)
    return found is not None and bool((found[0].seeds > found[1].seeds).all())


def verdict(rows: Sequence[Row], fold: str) -> str:
    """Say in one sentence whether fusion paid, with the figures that say so."""
    found = leaders(rows, fold)
    if found is None:
        return "Only one modality: there is nothing to compare."
    fused, single = found
    best = single.variant
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


def name_of(row: Row) -> str:
    """Return what a row is called: its variant, and the place that it was not trained on."""
    return row.variant if row.fold == "blocks" else f"{row.variant}, without {row.fold}"


def table(rows: Sequence[Row], classes: Sequence[str]) -> list[list[str]]:
    """Return the comparison as text: header first, then a line per variant and fold."""
    out = [["variant", *(f"IoU {c}" for c in classes), "mean IoU", "± seeds", "95 % over blocks"]]
    for row in rows:
        interval = row.interval()
        per_class = ["-" if np.isnan(v) else f"{v:.3f}" for v in row.per_class]
        spread = float(row.seeds.std(ddof=1)) if len(row.seeds) > 1 else float("nan")
        bounds = f"[{interval.low:.3f}, {interval.high:.3f}]"
        out.append([name_of(row), *per_class, f"{row.seeds.mean():.3f}", f"{spread:.3f}", bounds])
    return out


def sureness(rows: Sequence[Row]) -> list[Reliability]:
    """Return the calibration of the fused models, seed by seed, over the test pixels of all folds."""
    first, *rest = [r.reliability for r in rows if r.variant == FUSED]
    return [sum(more, one) for one, *more in zip(first, *rest, strict=True)]
