"""How many units came to what, why, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from geomm.batch.page.advice import next_step
from geomm.batch.record import STATES, TROUBLE, RunRecord, State, UnitRow
from geomm.pages import code, command, table, text, tiles
from geomm.pages.words import MESSAGE, share

REASONS = 50
"""Most lines of the table of reasons."""


def counts(record: RunRecord) -> str:
    """Return the units by state, as tiles and as a bar, and by stage where there are several."""
    found = record.count()
    present = sum(s.present for s in record.stages)
    figures = [(f"{found[s]:,}", f'<i class="dot {s}"></i>{s.lower()}') for s in STATES if found[s] or s == "DONE"]
    figures += [(f"{present:,}", "there before")] if present else []
    total = len(record.units)
    bar = "".join(f'<i class="{s}" style="width:{share(found[s], total):.3f}%"></i>' for s in STATES if found[s])
    return tiles(figures) + (f'<div class="bar">{bar}</div>' if bar else "") + _stages(record)


def _stages(record: RunRecord) -> str:
    if len(record.stages) < 2:
        return ""
    head = ["Stage", "To do", "Done", "Skipped", "Quarantined", "Failed", "There before"]
    rows = [
        [text(s.stage), *(f"{n:,}" for n in (s.new, s.done, s.skipped, s.quarantined, s.failed, s.present))]
        for s in record.stages
    ]
    return table(head, rows, figures=6)


def reasons(record: RunRecord) -> str:
    """Return why units are not done, what to do, and an example of each; nothing where all are."""
    groups: dict[tuple[State, str], list[UnitRow]] = {}
    for unit in record.units:
        if unit.state != "DONE":
            groups.setdefault((unit.state, unit.code), []).append(unit)
    urgent = [*TROUBLE, "ABORTED", "PENDING", "SKIPPED"]
    order = sorted(groups, key=lambda k: (urgent.index(k[0]), -len(groups[k]), k[1]))
    rows = [_reason(state, reason, groups[state, reason]) for state, reason in order[:REASONS]]
    more = f'<p class="soft">{len(order) - REASONS} more reasons in run.json.</p>' if len(order) > REASONS else ""
    return table(["State", "Reason", "Units", "For example", "What to do next"], rows) + more if rows else ""


def _reason(state: State, reason: str, units: Sequence[UnitRow]) -> list[str]:
    first = units[0]
    places = (("item", first.item or first.name), ("asset", first.asset), ("window", first.window))
    where = "".join(f'<span class="at"><em>{label}</em>{code(place, 70)}</span>' for label, place in places if place)
    message = f"<span>{text(first.message, MESSAGE)}</span>" if first.message else ""
    return [
        badge(state),
        code(reason, 30),
        f"{len(units):,}",
        f'<div class="where">{message}{where}</div>',
        text(next_step(state, reason), MESSAGE),
    ]


def badge(state: State) -> str:
    """Return a state as HTML with its colour."""
    return f'<span class="badge {state}">{state.lower()}</span>'


def commands(record: RunRecord, root: Path | None) -> str:
    """Return the commands that come next.

    Args:
        record: of the run.
        root: output folder, for the command that checks it.
    """
    found, lines = record.count(), []
    if record.retry and any(found[s] for s in TROUBLE):
        lines.append(("Try again what failed", record.retry))
    if record.command:
        lines.append(("The same run once more; what is published is not made again", record.command))
    if root is not None:
        lines.append(("Check every byte that was published", f"geomm verify {shlex.quote(str(root))}"))
    return "".join(f"<p>{label}:</p>{command(line)}" for label, line in lines)
