"""Maps as SVG inside a page, which need no other map: outlines over meridians and parallels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from geomm.types import BBox

WIDE = 600.0
"""Width of a map in its own units, pixels on a large screen."""
SMALL = 7.0
"""Least side of an outline, so that it is seen."""
_FLAT, _HIGH = 0.5, 0.8
"""Least and greatest height, as shares of the width."""
_LINES = 5
"""Most meridians or parallels."""
_STEPS = (60.0, 45.0, 30.0, 20.0, 15.0, 10.0, *(n * 10.0**-k for k in range(6) for n in (5, 2.5, 2, 1)))
"""Degrees between them."""
_WORTH = 0.8
"""Share of the width of the usual map below which one that is turned is shown instead."""

type Ring = Sequence[tuple[float, float]]
"""Corners as longitude and latitude."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Something with a place."""

    kind: str
    """Class of the style sheet, which decides on colours."""
    rings: tuple[Ring, ...]
    """Borders in degrees; longitudes beyond 180 where they cross that line."""
    title: str = ""
    """What is said when it is pointed at, HTML text."""

    @property
    def box(self) -> BBox:
        """West, south, east, north of all rings."""
        lons, lats = ([p[k] for ring in self.rings for p in ring] for k in (0, 1))
        return min(lons), min(lats), max(lons), max(lats)

    def moved(self, degrees: float) -> Outline:
        """Return it farther east."""
        return Outline(self.kind, tuple([(x + degrees, y) for x, y in ring] for ring in self.rings), self.title)


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


def turns(boxes: Sequence[BBox]) -> bool:
    """Tell whether a map is much smaller if what lies in the west is moved beyond longitude 180."""
    spans = []
    for turned in (False, True):
        moved = [360.0 if turned and b[2] <= 0 else 0.0 for b in boxes]
        east = max(b[2] + m for b, m in zip(boxes, moved, strict=True))
        spans.append(east - min(b[0] + m for b, m in zip(boxes, moved, strict=True)))
    return spans[1] < _WORTH * spans[0]


def map_of(outlines: Sequence[Outline], names: Mapping[str, str], *, label: str, notes: Sequence[str] = ()) -> str:
    """Return a map as HTML; nothing where there is nothing to show.

    Args:
        outlines: from the lowest to the uppermost.
        names: kind to its name in the legend, HTML text.
        label: what the map shows, HTML text.
        notes: HTML texts below it.
    """
    known = [o for o in outlines if any(len(r) for r in o.rings)]
    if not known:
        return ""
    if turns([o.box for o in known]):
        known = [o.moved(360.0) if o.box[2] <= 0 else o for o in known]
    view = View.around([o.box for o in known])
    shapes = "".join(_drawn(view, o) for o in known)
    legend = "".join(f'<span><i class="dot {k}"></i>{n}</span>' for k, n in names.items())
    return framed(view, shapes, label=label, legend=legend, notes=notes)


def framed(view: View, shapes: str, *, label: str, legend: str, notes: Sequence[str] = ()) -> str:
    """Return shapes, SVG in the units of a view, with meridians, parallels and a legend below, as HTML."""
    said = "".join(f"<span>{n}</span>" for n in notes)
    return (
        f'<figure class="map"><svg viewBox="0 0 {WIDE:g} {view.height:.1f}" role="img" aria-label="{label}">'
        f"{''.join(_graticule(view))}{shapes}{''.join(_labels(view))}</svg>"
        f"<figcaption>{legend}{said}</figcaption></figure>"
    )


def _drawn(view: View, outline: Outline) -> str:
    west, south, east, north = outline.box
    (left, top), (right, bottom) = view.place(west, north), view.place(east, south)
    if max(right - left, bottom - top) < SMALL:
        path = f"M{(left + right - SMALL) / 2:.1f} {(top + bottom - SMALL) / 2:.1f}h{SMALL:g}v{SMALL:g}h-{SMALL:g}z"
    else:
        corners = [[view.place(lon, lat) for lon, lat in ring] for ring in outline.rings]
        path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring) + "z" for ring in corners)
    title = f"<title>{outline.title}</title>" if outline.title else ""
    return f'<path class="{outline.kind}" d="{path}">{title}</path>'


def _narrowing(south: float, north: float) -> float:
    """Return how much shorter a degree of longitude is than one of latitude, in the middle of a map."""
    return max(math.cos(math.radians((south + north) / 2)), 0.2)


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
