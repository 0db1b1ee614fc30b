"""What splits of a chip store have in common: pixels, chips of the same content, scenes; and how far they are apart.

A score on test chips means what it should only if nothing of them was seen in training. The report is made of what is
stored, not of what was planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import PackageError
from geomm.store.read import StoredChips
from geomm.types import Progress, silent


@dataclass(frozen=True, slots=True)
class Leak:
    """What two splits have in common, and how far apart they are."""

    splits: tuple[str, str]
    """Their names."""
    distance: float
    """Metres between the nearest usable pixels of the two (between rectangles around those of chips in different CRSs);
    NaN where one split has none."""
    pixels: int
    """Usable pixels of the first that lie in usable pixels of the second; the same ground in two chips counts twice."""
    twins: tuple[tuple[int, int], ...]
    """Chips of the same content, by number."""
    items: tuple[str, ...]
    """Catalog items that sites of the first and other sites of the second were made of."""

    @property
    def clean(self) -> bool:
        """Whether they have nothing in common."""
        return not (self.pixels or self.twins or self.items)

    def __str__(self) -> str:
        """One line for people."""
        found = [
            f"{self.distance:,.0f} m apart",
            f"{self.pixels:,} pixels in both" if self.pixels else "no pixel in both",
            f"{len(self.twins)} chips twice ({self.twins[0][0]} and {self.twins[0][1]})" if self.twins else "",
            f"{len(self.items)} items at several sites ({self.items[0]})" if self.items else "",
        ]
        return f"{' - '.join(self.splits)}: {', '.join(f for f in found if f)}"


def find_leaks(store: StoredChips, *, column: str = "split", progress: Progress = silent) -> list[Leak]:
    """Compare every two splits of a store.

    Args:
        store: whole, or as far as it is built.
        column: of the manifest, by which chips are told apart.
        progress: told how many chips are looked at.

    Raises:
        PackageError: there is no such column, or a file of the store is missing or damaged; or it is no store.
    """
    given: Any = store
    if not isinstance(given, StoredChips):
        fix = "open it first: find_leaks(geomm.StoredChips(FOLDER))"
        raise PackageError("this is no opened chip store", where=repr(given)[:80], fix=fix)
    table = store.table
    if column not in table:
        raise PackageError(
            f"the store has no column {column}",
            why=f"it has {', '.join(table.columns)}",
            fix=f"use one of {', '.join(table.columns)}",
        )
    names, chips, found = table[column].tolist(), [*_chips(store, progress)], []
    for pair in combinations(table[column].dropna().unique(), 2):
        first, second = ([c for c, s in zip(chips, names, strict=True) if c and s == name] for name in pair)
        content = {c.content: c for c in second}
        alike = [(c, content[c.content]) for c in first if c.content in content]
        twins = tuple((a.number, b.number) for a, b in alike if _same(store, a, b))
        pixels = _shared(store, first, second)
        found.append(Leak(pair, _distance(store, first, second), pixels, twins, _items(store, first, second)))
    return found


@dataclass(frozen=True, slots=True)
class _Chip:
    """A chip, and the smallest rectangle around its usable pixels."""

    index: int
    number: int
    site: str
    crs: str
    origin: tuple[float, float, float, float]
    """Left and top of the chip, width and (negative) height of a pixel."""
    rows: tuple[int, int]
    """First usable one and the one after the last."""
    columns: tuple[int, int]
    """The same."""
    content: tuple[bytes, ...]
    """Checksums of its imagery."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of that rectangle."""
        left, top, right, down = self.origin
        (r0, r1), (c0, c1) = self.rows, self.columns
        return left + right * c0, top + down * r0, left + right * c1, top + down * r1


def _chips(store: StoredChips, progress: Progress) -> Iterator[_Chip | None]:
    """Yield the chips; None for those without a usable pixel."""
    for index, row in enumerate(store.table.itertuples()):
        used = store.usable(index)
        rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
        progress("look at chips", index + 1, len(store))
        yield (
            _Chip(
                index,
                int(row.chip),
                row.site,
                row.crs,
                (row.origin_x, row.origin_y, row.resolution, row.resolution_y),
                (int(rows[0]), int(rows[-1]) + 1),
                (int(columns[0]), int(columns[-1]) + 1),
                store.content(index),
            )
            if rows.size
            else None
        )


def _same(store: StoredChips, a: _Chip, b: _Chip) -> bool:
    """Tell whether two chips of the same checksums have the same imagery indeed."""
    one, other = store.read([a.index]), store.read([b.index])
    return all(np.array_equal(v, other.images[n]) for n, v in one.images.items())


@dataclass(frozen=True, slots=True)
class _Plane:
    """A CRS whose units are made metres as they are at a place; degrees are counted from its meridian."""

    crs: str
    middle: float | None
    scale: tuple[float, float]

    @classmethod
    def around(cls, chip: _Chip) -> _Plane:
        from pyproj import CRS, Geod, Transformer

        left, top, right, bottom = chip.box
        ground = Transformer.from_crs(chip.crs, "EPSG:4326", always_xy=True)
        lon, lat = ground.transform([left, right, left], [top, top, bottom])
        east, north = (Geod(ellps="WGS84").inv(lon[0], lat[0], lon[k], lat[k])[2] for k in (1, 2))
        middle = left if CRS(chip.crs).is_geographic else None
        return cls(chip.crs, middle, (east / abs(right - left), north / abs(top - bottom)))

    def metres(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn coordinates ``(..., 2)`` of the CRS into metres."""
        x, y = points[..., 0], points[..., 1]
        if self.middle is not None:
            x = (x - self.middle + 180.0) % 360.0 - 180.0
        return np.stack([x * self.scale[0], y * self.scale[1]], -1)

    def rectangles(self, chips: Sequence[_Chip]) -> NDArray[Any]:
        """Return the rectangles of chips of any CRS; their corners are moved, their edges stay straight."""
        import shapely
        from pyproj import Transformer

        shapes = np.empty(len(chips), object)
        for native in {c.crs for c in chips}:
            mine = [k for k, c in enumerate(chips) if c.crs == native]
            boxes = shapely.box(*np.array([chips[k].box for k in mine]).T)
            move = Transformer.from_crs(native, self.crs, always_xy=True)

            def moved(points: NDArray[np.float64], move: Any = move) -> NDArray[np.float64]:
                return self.metres(np.stack(move.transform(*points.T), -1))

            shapes[mine] = shapely.transform(boxes, moved)
        return shapes


def _distance(store: StoredChips, first: Sequence[_Chip], second: Sequence[_Chip]) -> float:
    """Return the least distance in metres, site by site of the first."""
    import shapely

    least = float("nan")
    for site in {c.site for c in first} if second else ():
        mine = [c for c in first if c.site == site]
        plane = _Plane.around(mine[0])
        here, there = plane.rectangles(mine), plane.rectangles(second)
        tree = shapely.STRtree(there)
        (a, b), far = tree.query_nearest(here, return_distance=True, all_matches=False)
        k = int(np.argmin(far))
        near = _gap(store, plane, mine[a[k]], second[b[k]], float(far[k]))
        a, b = tree.query(here, "dwithin", near)  # only these can be nearer still
        apart = shapely.distance(here[a], there[b])
        for k in np.argsort(apart):
            if apart[k] >= near:
                break
            near = min(near, _gap(store, plane, mine[a[k]], second[b[k]], float(apart[k])))
        least = float(np.fmin(least, near))
    return least


def _gap(store: StoredChips, plane: _Plane, a: _Chip, b: _Chip, rectangles: float) -> float:
    """Return the distance of two chips: between their usable pixels in one CRS, else between their rectangles."""
    from scipy.spatial import cKDTree

    if a.crs != b.crs:
        return rectangles
    centres, sizes = [], []
    for chip in (a, b):
        used = np.pad(store.usable(chip.index), 1)
        inner = used[:-2, 1:-1] & used[2:, 1:-1] & used[1:-1, :-2] & used[1:-1, 2:]
        rows, columns = np.nonzero(used[1:-1, 1:-1] & ~inner)  # pixels at the edge of what is usable
        left, top, right, down = chip.origin
        centres.append(plane.metres(np.stack([left + right * (columns + 0.5), top + down * (rows + 0.5)], -1)))
        sizes.append(np.abs([right, down]) * plane.scale)
    half = (sizes[0] + sizes[1]) / 2
    # The nearest squares are among those whose centres are nearly the nearest.
    tree = cKDTree(centres[1])
    far = np.asarray(tree.query(centres[0])[0])
    reach, least = far.min() + float(np.hypot(*half)), float(np.inf)
    for centre in centres[0][far <= reach]:
        across = np.abs(centres[1][tree.query_ball_point(centre, reach)] - centre)
        least = min(least, float(np.hypot(*np.maximum(across - half, 0.0).T).min()))
        if least == 0:
            break
    return least


def _shared(store: StoredChips, first: Sequence[_Chip], second: Sequence[_Chip]) -> int:
    """Count usable pixels of the first whose centres lie in usable pixels of the second."""
    import shapely
    from pyproj import Transformer

    count = 0
    for site in {c.site for c in first} if second else ():
        mine = [c for c in first if c.site == site]
        plane = _Plane.around(mine[0])
        for a, b in shapely.STRtree(plane.rectangles(second)).query(plane.rectangles(mine), "intersects").T:
            one, other = mine[a], second[b]
            rows, columns = np.nonzero(store.usable(one.index))
            x, y = (o + s * (n + 0.5) for o, s, n in zip(one.origin[:2], one.origin[2:], (columns, rows), strict=True))
            if other.crs != one.crs:
                x, y = Transformer.from_crs(one.crs, other.crs, always_xy=True).transform(x, y)
            used = store.usable(other.index)
            c, r = (np.floor((v - o) / s) for v, o, s in zip((x, y), other.origin[:2], other.origin[2:], strict=True))
            inside = (r >= 0) & (c >= 0) & (r < used.shape[0]) & (c < used.shape[1])
            count += int(np.count_nonzero(used[r[inside].astype(int), c[inside].astype(int)]))
    return count


def _items(store: StoredChips, first: Sequence[_Chip], second: Sequence[_Chip]) -> tuple[str, ...]:
    """Return the items of sites of the first that other sites of the second were made of too."""
    items = {site["site"]: set(site["items"]) for site in store.about["sites"]}
    pairs = product({c.site for c in first}, {c.site for c in second})
    return tuple(sorted({item for a, b in pairs if a != b for item in items[a] & items[b]}))
