"""What a run over a catalog looks like in a notebook: what it did, what it could not do, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from geomm.batch.page.advice import outcome_of
from geomm.cards import beside, card, facts, table, world

if TYPE_CHECKING:
    from geomm.batch.run import BatchResult

_BAD = ("QUARANTINED", "FAILED", "ABORTED")


def result_card(result: BatchResult) -> str:
    """Return HTML that says what a run came to."""
    planned = Counter[tuple[str, str]]((a.unit.stage, a.why) for a in result.actions)
    ended = Counter[tuple[str, str]]((u.stage, u.state) for u in result.units)
    stages = list(dict.fromkeys(a.unit.stage for a in result.actions))
    left = {a.unit.stage for a in result.actions if a.does}
    rows = [
        [s, _told(planned, s), _told(ended, s) or ("nothing yet" if s in left else "nothing to do")] for s in stages
    ]
    bad = [
        [u.name, u.state.lower(), u.code, " ".join(p for p in (u.item, u.asset, u.window) if p), u.message[:300]]
        for u in result.units
        if u.state in _BAD
    ]
    about = {
        "status": f"{result.code}: {outcome_of(result.code).words}",
        "error": str(result.error) if result.error else "",
        "waits": ", ".join(result.waits),
        "page": str(result.report) if result.report else "",
    }
    boxes = [a.unit.bbox for a in result.actions if a.unit.bbox]
    parts = [beside(world(boxes), facts(about)), table(["stage", "planned", "done"], rows)]
    if bad:
        parts.append(table(["unit", "state", "code", "where", "why"], bad, most=8))
    return card("batch", parts, kind="run over a catalog")


def _told(counts: Counter[tuple[str, str]], stage: str) -> str:
    return ", ".join(f"{n} {what.lower()}" for (s, what), n in sorted(counts.items()) if s == stage)
