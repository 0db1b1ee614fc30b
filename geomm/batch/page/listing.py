"""The units one by one, what needs a look first."""

from __future__ import annotations

from geomm.batch.page.counts import badge
from geomm.batch.record import RunRecord, State, UnitRow
from geomm.pages import code, digest, duration, size, table, text

MOST = 500
"""Units that are listed."""
_ORDER: tuple[State, ...] = ("FAILED", "QUARANTINED", "ABORTED", "PENDING", "DONE", "SKIPPED")


def listing(record: RunRecord) -> str:
    """Return the units as a table that is folded away; nothing where there are none."""
    order = sorted(record.units, key=lambda u: (_ORDER.index(u.state), u.stage, u.name, u.unit))
    if not order:
        return ""
    head = ["State", "Name", "Taken", "Published, or why not", "SHA-256", "Tries", "Time", "Size"]
    rest = len(order) - MOST
    more = f'<p class="soft">{rest:,} more units: the full list is in run.json.</p>' if rest > 0 else ""
    shown = f"{MOST} of {len(order):,} units" if rest > 0 else f"{len(order):,} unit{'s' if len(order) > 1 else ''}"
    rows = table(head, [_row(u) for u in order[:MOST]], figures=3)
    return f"<details><summary>{shown}, what needs a look first</summary>{rows}{more}</details>"


def _row(unit: UnitRow) -> list[str]:
    why = f"{code(unit.code, 30)} {text(unit.message, 140)}" if unit.code or unit.message else ""
    return [
        badge(unit.state),
        f"{text(unit.name, 60)}<br><small>{text(unit.stage, 30)} {digest(unit.unit)}</small>",
        text(unit.time[:16].replace("T", " "), 16) or "-",
        why or code(unit.path, 120),
        digest(unit.digest),
        str(unit.attempts),
        duration(unit.total) if unit.total else "-",
        size(unit.bytes) if unit.bytes else "-",
    ]
