"""What an index looks like in a notebook: how much of what, where, when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.cards import beside, card, facts, table, world
from geomm.types import BBox

if TYPE_CHECKING:
    from geomm.retrieval.index import Index

_MOST = 2000
"""Rows that are looked at; evenly chosen where there are more."""


def index_card(index: Index) -> str:
    """Return HTML that says what an index holds; of a large one, from a part of its rows."""
    numbers = index.numbers
    some = numbers[:: max(1, -(-len(numbers) // _MOST))]
    rows = index.rows(some)
    told = {
        "rows": f"{len(index):,} vectors of {index.dimension} numbers",
        "time": _span(rows),
        "words": "asked in words by its model" if index.embedder is not None else "no model: asked with vectors",
        "with": ", ".join(_extras(index, rows)),
        "model": f"sha256 {str(index.about['model_sha256'])[:12]}" if "model_sha256" in index.about else "",
        "approximate search": f"the first {index.listed:,} rows are in lists" if index.listed else "",
    }
    bounds = rows.geometry.bounds.to_numpy() if len(rows) else np.zeros((0, 4))
    boxes: list[BBox] = [(float(w), float(s), float(e), float(n)) for w, s, e, n in bounds[np.isfinite(bounds).all(1)]]
    parts: list[str] = [beside(world(boxes), facts(told))]
    if "sensors" in rows and len(rows):
        share = rows["sensors"].replace("", "unknown").value_counts(normalize=True)
        parts.append(table(["sensors", "share of the rows"], [[str(n), f"{v:.1%}"] for n, v in share.items()], most=6))
    return card(index.folder.name, parts, kind="index")


def _span(rows: Any) -> str:
    if "datetime" not in rows or rows["datetime"].isna().all():
        return ""
    times = rows["datetime"].dropna()
    return " to ".join(dict.fromkeys(str(t)[:10] for t in (times.min(), times.max())))


def _extras(index: Index, rows: Any) -> list[str]:
    first = rows.index[:1]
    known = {
        "texts": "text" in rows and bool((rows["text"].fillna("") != "").any()),
        "pictures": len(first) > 0 and any(index.pictures(first)),
        "vectors of places within each chip": len(first) > 0 and index.cells(first) is not None,
    }
    return [name for name, there in known.items() if there]
