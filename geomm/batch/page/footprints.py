"""Where the units lie, coloured by what became of them: an SVG that needs no other map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geomm.batch.page.words import LONG, text
from geomm.batch.record import STATES, RunRecord, State, UnitRow
from geomm.types import BBox

WIDE = 600.0
"""Width of the map in its own units, pixels on a large screen."""
NAMED = 300
"""Most outlines that say whose they are; more would make the page heavy."""
_FLAT, _HIGH = 0.5, 0.8
"""Least and greatest height, as shares of the width."""
_SMALL = 5.0
"""Least side of an outline, so that it is seen."""
_WORTH = 0.8
"""Share of the width of the usual map below which one that is turned is shown instead."""
_LINES = 5
"""Most meridians or parallels."""
_STEPS = (60.0, 45.0, 30.0, 20.0, 15.0, 10.0, *(n * 10.0**-k for k in range(6) for n in (5, 2.5, 2, 1)))
"""Degrees between them."""


@dataclass(frozen=True, slots=True)
class View:
    """What a map shows: a part of the globe, equirectangular, true to scale along its middle."""

    west: float
    """Longitude of the left border; below 180."""
    south: float
    """Latitude of the lower border."""
    east: float
    """Longitude of the right border; beyond 180 where the map crosses that line."""
    north: float
    """Latitude of the upper border."""

    @property
    def height(self) -> float:
        """Height of the map in its own units."""
        return (self.north - self.south) * self._scale / _narrowing(self.south, self.north)

    @property
    def _scale(self) -> float:
        return WIDE / (self.east - self.west)

    def place(self, lon: float, lat: float) -> tuple[float, float]:
        """Return where a point lies on the map."""
        across = (lon - self.west) * self._scale
        return across, self.height * (self.north - lat) / (self.north - self.south)

    @classmethod
    def around(cls, boxes: Sequence[BBox]) -> View:
        """Return a view of boxes, with room around them and never of an extreme shape."""
        west, south = min(b[0] for b in boxes), min(b[1] for b in boxes)
        east, north = max(b[2] for b in boxes), max(b[3] for b in boxes)
        narrow = _narrowing(south, north)
        wide, high = (east - west) * narrow, north - south
        room = max(wide, high, 0.01) / 12
        wide, high = wide + 2 * room, high + 2 * room
        high = min(max(high, _FLAT * wide), 180.0)
        wide = max(wide, high / _HIGH)
        across = min(wide / narrow, 360.0)
        lon, lat = (west + east) / 2, (south + north) / 2
        lat = min(max(lat, high / 2 - 90), 90 - high / 2)
        return cls(lon - across / 2, lat - high / 2, lon + across / 2, lat + high / 2)


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
    return (
        f'<figure class="map"><svg viewBox="0 0 {WIDE:g} {view.height:.1f}" role="img" aria-label="Map of the units">'
        f"{''.join(_graticule(view))}{shapes}{''.join(_labels(view))}</svg>"
        f"<figcaption>{legend}{f'<span>{"; ".join(notes)}</span>' if notes else ''}</figcaption></figure>"
    )


_LAYERS: tuple[State, ...] = ("PENDING", "SKIPPED", "DONE", "ABORTED", "QUARANTINED", "FAILED")
"""From the lowest to the uppermost."""


def _narrowing(south: float, north: float) -> float:
    """Return how much shorter a degree of longitude is than one of latitude, in the middle of a map."""
    return max(math.cos(math.radians((south + north) / 2)), 0.2)


def _halves(box: BBox | None) -> list[BBox]:
    """Return a box as one, or as two on either side of longitude 180."""
    assert box is not None
    west, south, east, north = box
    return [box] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _beside(pieces: Sequence[tuple[UnitRow, BBox]]) -> list[tuple[UnitRow, BBox]]:
    """Move boxes in the west beyond longitude 180 where that makes a much smaller map."""
    turned = [(u, (b[0] + 360, b[1], b[2] + 360, b[3]) if b[2] <= 0 else b) for u, b in pieces]
    spans = [max(b[2] for _, b in each) - min(b[0] for _, b in each) for each in (pieces, turned)]
    return turned if spans[1] < _WORTH * spans[0] else list(pieces)


def _outline(view: View, box: BBox) -> str:
    left, top = view.place(box[0], box[3])
    right, bottom = view.place(box[2], box[1])
    wide, high = max(right - left, _SMALL), max(bottom - top, _SMALL)
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


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _lines(view: View) -> tuple[list[float], list[float]]:
    """Return the meridians and parallels of a view, at round degrees."""
    span = max(view.east - view.west, view.north - view.south)
    step = min(s for s in _STEPS if span / s <= _LINES or s == _STEPS[0])
    return _ticks(view.west, view.east, step), _ticks(view.south, view.north, step)


def _graticule(view: View) -> Iterator[str]:
    lons, lats = _lines(view)
    yield f'<rect class="sea" width="{WIDE:g}" height="{view.height:.1f}"/>'
    across = [f"M{view.place(lon, 0)[0]:.1f} 0v{view.height:.1f}" for lon in lons]
    down = [f"M0 {view.place(0, lat)[1]:.1f}h{WIDE:g}" for lat in lats]
    yield f'<path class="grid" d="{"".join(across + down)}"/>'


def _labels(view: View) -> Iterator[str]:
    lons, lats = _lines(view)
    for lon in lons:
        across = view.place(lon, 0)[0]
        if 40 < across < WIDE - 40:
            yield f'<text x="{across:.1f}" y="{view.height - 7:.1f}" text-anchor="middle">{_degrees(lon, "EW")}</text>'
    for lat in lats:
        down = view.place(0, lat)[1]
        if 24 < down < view.height - 30:
            yield f'<text x="6" y="{down - 4:.1f}">{_degrees(lat, "NS")}</text>'


def _degrees(value: float, sides: str) -> str:
    turned = round((value + 180) % 360 - 180 if sides == "EW" else value, 6)
    side = f" {sides[int(turned < 0)]}" if turned and abs(turned) != 180 else ""
    return f"{abs(turned):g}°{side}"
