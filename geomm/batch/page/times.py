"""Where the time of a run went."""

from __future__ import annotations

import math
from collections.abc import Iterable

from geomm.batch.record import PARTS, Part, RunRecord, UnitRow
from geomm.pages import digest, duration, shares, table, text
from geomm.pages.words import share

SLOWEST = 10
"""Units that are listed."""


def times(record: RunRecord) -> str:
    """Return the shares of reading, model and writing, of all and by stage; nothing where nothing was measured."""
    whole = _sums(record.units)
    work = math.fsum(whole.values())
    if not work:
        return ""
    between = max(record.wall - work, 0.0)
    parts: list[tuple[str, float]] = [*whole.items(), *([("between units", between)] if between else [])]
    bar = shares([(f"t-{name.split()[0]}", name, spent) for name, spent in parts])
    return f"<p>{_pace(record, work)}</p>{bar}{_by_stage(record)}<h3>Slowest units</h3>{_slowest(record)}"


def _pace(record: RunRecord, work: float) -> str:
    wall = record.wall
    line = f"{duration(wall)} from start to end, {duration(work)} of work on units"
    if work > 1.05 * wall > 0:
        line += f": {work / wall:.1f} units at a time on average"
    made = record.count()["DONE"]
    return line + (f"; {3600 * made / wall:,.0f} units an hour." if made and wall > 0 else ".")


def _sums(units: Iterable[UnitRow]) -> dict[Part, float]:
    mine = [u.seconds for u in units]
    return {part: math.fsum(s.get(part, 0.0) for s in mine) for part in PARTS}


def _by_stage(record: RunRecord) -> str:
    rows = []
    for stage in record.stages:
        sums = _sums(u for u in record.units if u.stage == stage.stage)
        whole = math.fsum(sums.values())
        rows.append([text(stage.stage), duration(whole), *(f"{share(sums[p], whole):.0f} %" for p in PARTS)])
    return table(["Stage", "Work", *(p.capitalize() for p in PARTS)], rows, figures=5) if len(rows) > 1 else ""


def _slowest(record: RunRecord) -> str:
    worst = sorted(record.units, key=lambda u: (-u.total, u.unit))[:SLOWEST]
    rows = [
        [
            text(u.name, 60),
            text(u.stage, 30),
            digest(u.unit),
            *(duration(u.seconds.get(p, 0.0)) for p in PARTS),
            duration(u.total),
        ]
        for u in worst
        if u.total
    ]
    return table(["Name", "Stage", "Unit", *(p.capitalize() for p in PARTS), "All"], rows, figures=len(PARTS) + 1)
