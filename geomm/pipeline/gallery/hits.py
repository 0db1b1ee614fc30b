"""What a hit is, as people read it: one record per row of a table of hits, whichever columns it has."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomm.errors import ConfigError
from geomm.pages.words import plain

HEAD = ("rank", "score", "chip", "time", "place", "sensors", "text")
"""Columns of :func:`hits_table`."""
SHORT = 60
"""Characters of a text in a table."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One hit, in words."""

    rank: int
    """From 1, the best."""
    name: str
    """Identity of what was found; empty where unknown."""
    score: float
    """Higher is better; NaN where unknown."""
    time: str
    """Date and time in UTC, first and last of several; empty where unknown."""
    sensors: tuple[str, ...]
    """Names of what it was seen by."""
    text: str
    """What is written of the place; empty where nothing is."""
    derived: bool
    """Whether a program made the text, of a map of classes for example."""
    items: tuple[str, ...]
    """Addresses or names of STAC items."""
    shape: Any
    """Footprint in degrees; None where unknown."""

    @property
    def centre(self) -> tuple[float, float] | None:
        """Longitude and latitude of the middle of the footprint."""
        if self.shape is None:
            return None
        (middle,) = (s.centroid for s in unwrapped([self.shape]))
        return (middle.x + 180.0) % 360.0 - 180.0, middle.y

    @property
    def place(self) -> str:
        """The centre in words; empty where unknown."""
        if self.centre is None:
            return ""
        lon, lat = self.centre
        return f"{abs(lat):.4f}° {'S' if lat < 0 else 'N'}, {abs(lon):.4f}° {'W' if lon < 0 else 'E'}"


def read_hits(table: Any) -> list[Hit]:
    """Return the hits of a table.

    Args:
        table: GeoDataFrame in EPSG:4326, best first, with any of the columns ``id, score, datetime, sensors, text,
            derived, items``; several sensors are a list, or joined by commas as an index has them.

    Raises:
        ConfigError: the table has another CRS or none.
    """
    if len(table) and (table.crs is None or table.crs.to_epsg() != 4326):
        raise ConfigError("hits are in degrees", why=f"CRS {table.crs}", fix='hits.to_crs("EPSG:4326")')
    columns = {
        n: table[n].tolist() for n in ("id", "score", "datetime", "sensors", "text", "derived", "items") if n in table
    }
    rows = [{n: values[k] for n, values in columns.items()} for k in range(len(table))]
    return [
        Hit(
            rank,
            "" if _missing(row.get("id")) else plain(row["id"]),
            math.nan if _missing(row.get("score")) else float(row["score"]),
            _time(row.get("datetime")),
            tuple(plain(s) for names in _listed(row.get("sensors")) for s in str(names).split(",") if s),
            "" if _missing(row.get("text")) else plain(row["text"]),
            not _missing(row.get("derived")) and bool(row["derived"]),
            tuple(map(str, _listed(row.get("items")))),
            None if shape is None or shape.is_empty else shape,
        )
        for rank, (row, shape) in enumerate(zip(rows, table.geometry if len(table) else [], strict=True), 1)
    ]


def hits_table(hits: Any) -> list[list[str]]:
    """Return a line per hit for a terminal, with the cells of :data:`HEAD`; without control characters.

    Args:
        hits: see :func:`read_hits`.
    """
    return [
        [
            str(hit.rank),
            score_text(hit.score),
            hit.name or "-",
            hit.time or "-",
            hit.place or "-",
            ", ".join(hit.sensors) or "-",
            (_shortened(hit.text) + (" (derived)" if hit.derived else "")) if hit.text else "-",
        ]
        for hit in read_hits(hits)
    ]


def score_text(score: float) -> str:
    """Return a score with three digits, a dash where it is unknown."""
    return "-" if math.isnan(score) else f"{score:.3f}"


def unwrapped(shapes: Iterable[Any]) -> list[Any]:
    """Return shapes in degrees beside each other: around longitude 180, those in the west are moved to the east."""
    import shapely

    found = list(shapes)
    east = shapely.get_coordinates(found)[:, 0]
    if np.ptp(east % 360.0) < np.ptp(east):
        return [shapely.transform(s, lambda p: np.stack([p[:, 0] % 360.0, p[:, 1]], -1)) for s in found]
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1].rsplit(" ", 1)[0].rstrip(" ,;.") + "…"


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or (bool(pd.api.types.is_scalar(value)) and bool(pd.isna(value)))


def _listed(value: object) -> list[object]:
    """Return what a cell lists; one text is a list of one, a mapping that of its values."""
    if _missing(value):
        return []
    if isinstance(value, Mapping):
        return [v for v in value.values() if not _missing(v)]
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] if str(value) else []
    return [v for v in value if not _missing(v) and str(v)]


def _time(value: object) -> str:
    each = list(dict.fromkeys(map(_moment, _listed(value))))
    return each[0] if len(each) == 1 else f"{min(each)} to {max(each)}" if each else ""


def _moment(value: Any) -> str:
    """Return a moment in UTC, to the minute; texts that are none stay as they are."""
    import pandas as pd

    try:
        moment = pd.Timestamp(value)
    except (ValueError, TypeError):
        return plain(value)
    moment = moment.tz_localize(dt.UTC) if moment.tzinfo is None else moment.tz_convert(dt.UTC)
    return str(moment.strftime("%Y-%m-%d %H:%M UTC"))
