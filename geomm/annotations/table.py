"""A table of texts with footprints, and what of it is said of a window."""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomm.catalog import Grid, bounds_of, degrees_of, in_degrees, meant, parse_interval
from geomm.errors import CatalogError
from geomm.types import Window

COLUMNS = ("text", "answer", "derived", "datetime", "source", "geometry")
"""Columns of every table of annotations."""


@dataclass(frozen=True, slots=True)
class Note:
    """A text about a window."""

    text: str
    """What is said, or asked."""
    answer: str = ""
    """Answer, where the text is a question."""
    derived: bool = False
    """Whether it was made from labels rather than written by somebody."""
    time: dt.datetime | None = None
    """When it is true, UTC; None where that is unknown."""
    source: str = ""
    """File, item or image that it comes from."""
    share: float = 0.0
    """Part of the window that its footprint covers, 0 to 1; 0 for points."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """A table of texts with footprints."""

    table: Any
    """GeoDataFrame in WGS 84 with the columns :data:`COLUMNS`; ``datetime`` is NaT, ``answer`` empty where unknown."""

    @classmethod
    def of(cls, frame: Any, *, text: str = "text", time: str | None = None, source: str = "") -> Annotations:
        """Return the annotations that a GeoDataFrame holds; :attr:`table` is the way back.

        Args:
            frame: in any CRS; rows without a text or a place are left out. Its own columns ``answer``, ``derived`` and
                ``source`` are kept.
            text: column of the text.
            time: column of the time, if there is one.
            source: where the texts come from, for rows that do not say it.

        Raises:
            CatalogError: a column is missing, or the frame has no CRS; or it is no GeoDataFrame.
        """
        import pandas as pd

        if not hasattr(frame, "columns") or not hasattr(frame, "crs"):
            fix = 'geopandas.GeoDataFrame(table, geometry=points_from_xy(table["lon"], table["lat"]), crs="EPSG:4326")'
            raise CatalogError("annotations are a GeoDataFrame", where=type(frame).__name__, fix=fix)

        lacking = [c for c in (text, time) if c is not None and c not in frame]
        if lacking or frame.crs is None:
            raise CatalogError(
                f"the annotations have no {f'column {lacking[0]!r}' if lacking else 'CRS'}",
                where=source,
                why=f"there are {', '.join(map(str, frame.columns))}" if lacking else "",
                fix="name the column of the text, and of the time" if lacking else "set one with GeoDataFrame.set_crs",
            )
        kept = [c for c in ("answer", "derived", "source") if c in frame and c not in (text, time)]
        columns = {text: "text"} | ({time: "datetime"} if time else {}) | {c: c for c in kept}
        table = _named(frame)[[*columns, "geometry"]].rename(columns=columns)
        if time:
            try:
                table["datetime"] = pd.to_datetime(table["datetime"], utc=True, format="ISO8601")
            except ValueError as error:
                where, fix = f"column {time}", "write them as 2024-05-31 or 2024-05-31T10:10:00Z: pandas.to_datetime"
                raise CatalogError("the times cannot be understood", where=where, why=str(error), fix=fix) from error
        _on_globe(table, source)
        placed = np.isfinite(table.geometry.bounds).all(axis=1)  # neither missing, nor empty, nor of NaN
        table = table[table["text"].notna() & placed]
        table = table.set_geometry(table.geometry.make_valid()).to_crs("EPSG:4326")
        return complete(table if "source" in table else table.assign(source=source))

    def __len__(self) -> int:
        return len(self.table)

    def __add__(self, other: Annotations) -> Annotations:
        import pandas as pd

        parts = [t for t in (self.table, other.table) if len(t)]
        return Annotations(pd.concat(parts, ignore_index=True)) if parts else self

    def at(self, window: Any, time: str | dt.date | None = None, *, within: float | None = None) -> tuple[str, ...]:
        """Return the texts of a window, see :meth:`find`."""
        return tuple(note.text for note in self.find(window, time, within=within))

    def find(self, window: Any, time: str | dt.date | None = None, *, within: float | None = None) -> tuple[Note, ...]:
        """Return the notes whose footprint touches a window, the best covered first.

        Args:
            window: west, south, east, north in degrees (west greater than east across the antimeridian), a GeoBox such
                as that of a cube or of a chip, a geometry in degrees, or a table with a CRS.
            time: such as ``2024-05-31``; notes of an unknown time are always true. None for any time.
            within: greatest distance from ``time`` in days; default one day.

        Raises:
            CatalogError: the window or the time cannot be understood.
        """
        import pandas as pd
        import shapely

        area, moment = area_of(window), _moment(time, within)
        rows = self.table.iloc[np.sort(self.table.sindex.query(area, predicate="intersects"))]
        if not len(rows):
            self._warn_if_swapped(area)
        if moment is not None:
            away = (rows["datetime"] - moment).abs()
            rows = rows[rows["datetime"].isna() | (away <= pd.Timedelta(days=1.0 if within is None else within))]
        share = shapely.area(shapely.intersection(rows.geometry.to_numpy(), area)) / max(area.area, 1e-300)
        order = np.argsort(-share, kind="stable")
        return tuple(
            Note(
                str(row.text),
                str(row.answer),
                bool(row.derived),
                None if pd.isna(row.datetime) else row.datetime.to_pydatetime(),
                str(row.source),
                float(part),
            )
            for row, part in zip(rows.iloc[order].itertuples(), share[order], strict=True)
        )

    def _warn_if_swapped(self, area: Any) -> None:
        """Tell whether there would be notes in a box with numbers exchanged, which lies beside all notes as it is."""
        import shapely

        if not len(self.table) or shapely.box(*self.table.total_bounds).intersects(area):
            return
        boxes, exchanged = meant([tuple(part.bounds) for part in shapely.get_parts(area)])
        for box in boxes:
            if len(self.table.sindex.query(shapely.box(*box), predicate="intersects")):
                told = f"Nothing is said of the window, but it would be with {exchanged} exchanged. "
                warnings.warn(told + f"Did you swap them? Give {tuple(round(v, 6) for v in box)}.", stacklevel=3)
                return


def complete(table: Any) -> Annotations:
    """Give a table all columns, with their types."""
    import pandas as pd

    table = table.reset_index(drop=True)
    for name, missing in (("answer", ""), ("derived", False), ("datetime", pd.NaT), ("source", "")):
        if name not in table:
            table[name] = missing
    table["datetime"] = pd.to_datetime(table["datetime"], utc=True).astype("datetime64[us, UTC]")
    return Annotations(table[list(COLUMNS)])


def _named(frame: Any) -> Any:
    """Return a table whose places are in the column ``geometry``."""
    return frame if frame.geometry.name == "geometry" else frame.rename_geometry("geometry")


def _on_globe(table: Any, source: str) -> None:
    """Refuse degrees that are none.

    Raises:
        CatalogError: latitudes beyond the poles, or longitudes that go round twice.
    """
    west, south, east, north = table.total_bounds
    if table.crs.is_geographic and (max(-south, north) > 90.0 or max(-west, east) > 360.0):
        raise CatalogError(
            "the annotations lie beside the globe",
            where=f"{source}, bounds {tuple(round(float(v), 3) for v in (west, south, east, north))}",
            why="latitudes go from -90 to 90 degrees",
            fix="did you swap lon and lat? If the file is in metres, set its CRS",
        )


def area_of(window: Any) -> Any:
    """Return a window as a geometry in degrees."""
    import shapely

    if hasattr(window, "geographic_extent"):
        box = degrees_of(Grid(str(window.crs), tuple(window.affine[:6]), tuple(window.shape)))
        if box[0] <= box[2]:
            return window.geographic_extent.geom
        window = box  # across the antimeridian an outline of degrees would span the globe
    if isinstance(window, Window):
        fix = "give its part of the grid: grid[chip.read.slices]"
        raise CatalogError("a window of pixels is no place on the ground", where=str(window), fix=fix)
    area = in_degrees(window)
    if area is not None:
        return area
    west, south, east, north = bounds_of(window)
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180.0, north), shapely.box(-180.0, south, east, north)])


def _moment(time: Any, within: Any) -> dt.datetime | None:
    """Return a time, once it is one alone and the distance from it a number of days."""
    days = isinstance(within, (int, float, np.integer, np.floating)) and not isinstance(within, bool)
    if within is not None and not (days and within >= 0):
        fix = "give a number of days of at least 0, for example within=1"
        raise CatalogError("the distance in time is no number of days", where=f"within {within!r}"[:80], fix=fix)
    start, end = parse_interval(time)
    if isinstance(time, str) and "/" in time:
        fix = "give one time, and how far from it a text may be: find(window, '2024-05-31', within=15)"
        raise CatalogError("texts are looked for at one time", where=f"time {time!r}", why="an interval", fix=fix)
    return start if start is not None else end
