"""Where the units lie, coloured by what became of them: an SVG that needs no other map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geomm.batch.record import STATES, RunRecord, State, UnitRow
from geomm.pages.maps import SMALL, View, framed, turns
from geomm.pages.words import LONG, text
from geomm.types import BBox

NAMED = 300
"""Most outlines that say whose they are; more would make the page heavy."""
_LAYERS: tuple[State, ...] = ("PENDING", "SKIPPED", "DONE", "ABORTED", "QUARANTINED", "FAILED")
"""From the lowest to the uppermost."""


def footprints(record: RunRecord) -> str:
    """Return a map of the units of a run as HTML, what needs a look on top; nothing where no place is known."""
    known = [u for u in record.units if u.bbox is not None]
    if not known:
        return ""
    pieces = _beside([(u, piece) for u in known for piece in _halves(u.bbox)])
    view = View.around([box for _, box in pieces])
    outlines: dict[tuple[State, str], list[UnitRow]] = {}
    for unit, box in pieces:
        outlines.setdefault((unit.state, _outline(view, box)), []).append(unit)
    order = sorted(outlines, key=lambda k: _LAYERS.index(k[0]))
    shapes = "".join(_named(*key, outlines[key]) for key in order) if len(order) <= NAMED else "".join(_merged(order))
    lost = len(record.units) - len(known)
    notes = ["What needs a look lies on top"] if len(known) > len(order) else []
    notes += [f"{lost:,} without a place"] if lost else []
    states = [s for s in STATES if any(u.state == s for u in known)]
    legend = "".join(f'<span><i class="dot {s}"></i>{s.lower()}</span>' for s in states)
    return framed(view, shapes, label="Map of the units", legend=legend, notes=["; ".join(notes)] if notes else [])


def _halves(box: BBox | None) -> list[BBox]:
    """Return a box as one, or as two on either side of longitude 180."""
    assert box is not None
    west, south, east, north = box
    return [box] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _beside(pieces: Sequence[tuple[UnitRow, BBox]]) -> list[tuple[UnitRow, BBox]]:
    """Move boxes in the west beyond longitude 180 where that makes a much smaller map."""
    if not turns([b for _, b in pieces]):
        return list(pieces)
    return [(u, (b[0] + 360, b[1], b[2] + 360, b[3]) if b[2] <= 0 else b) for u, b in pieces]


def _outline(view: View, box: BBox) -> str:
    left, top = view.place(box[0], box[3])
    right, bottom = view.place(box[2], box[1])
    wide, high = max(right - left, SMALL), max(bottom - top, SMALL)
    across, down = (left + right - wide) / 2, (top + bottom - high) / 2
    return f"M{across:.1f} {down:.1f}h{wide:.1f}v{high:.1f}h-{wide:.1f}z"


def _named(state: State, outline: str, units: Sequence[UnitRow]) -> str:
    names = list(dict.fromkeys(text(u.name, LONG // 2) for u in units))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f'<path class="{state}" d="{outline}"><title>{state.lower()}: {", ".join(names[:3])}{more}</title></path>'


def _merged(outlines: Sequence[tuple[State, str]]) -> Iterator[str]:
    for state in _LAYERS:
        if mine := [d for s, d in outlines if s == state]:
            yield f'<path class="{state}" d="{"".join(mine)}"/>'
