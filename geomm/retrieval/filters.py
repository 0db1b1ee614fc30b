"""Which rows may answer: by place, time and sensors."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.catalog import in_degrees, meant, parse_interval
from geomm.errors import CatalogError, ConfigError, GeommError, UnknownNameError, nearest
from geomm.retrieval.segment import Segment
from geomm.sensors import SENSORS

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SHARE = 65_536  # rows that a thread compares at a time
_PARTS = 16  # boxes with which every row is compared
_AREA = "give west, south, east, north in degrees, west greater than east across the antimeridian, or a geometry"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood."""

    areas: NDArray[np.float64]
    """``(A, 4)``: boxes of degrees; empty for everywhere."""
    parts: list[Any]
    """The exact area: any of these shapes."""
    rectangular: bool
    """Whether the boxes are the area."""
    span: NDArray[np.int64]
    """First and last microsecond since 1970."""
    sensors: frozenset[str]
    """Of which a row may be made; empty for any."""

    @classmethod
    def of(cls, aoi: Any, datetime: str | None, sensors: Sequence[str]) -> Filter | None:
        """Understand a filter; None if it lets everything through.

        Raises:
            ConfigError: it cannot be understood.
        """
        if isinstance(sensors, str):
            raise ConfigError("sensors is one text", where=repr(sensors), fix=f"give a list: [{sensors!r}]")
        if aoi is None and datetime is None and not sensors:
            return None
        areas, parts, rectangular = _area(aoi)
        try:
            start, end = parse_interval(datetime)
        except GeommError as error:
            raise ConfigError(error.what, where=error.where, why=error.why, fix=error.fix) from error
        limits = np.iinfo(np.int64)
        span = [limits.min if datetime is None else limits.min + 1, limits.max]  # a row without time is at no time
        for k, moment in enumerate((start, end)):
            if moment is not None:
                span[k] = (moment - _EPOCH) // dt.timedelta(microseconds=1)
        return cls(areas, parts, rectangular, np.array(span), frozenset(sensors))

    def warn_if_lacking(self, segments: Sequence[Segment]) -> None:
        """Tell, where no row matches, whether the index has no row of the sensors at all."""
        held = {text for g in segments for text in g.part.about["sensors"] if text.strip()}
        sets = [{s.strip() for s in text.split(",")} for text in held]
        fewest = min(map(sorted, sets), key=len, default=[])
        if self.sensors and held and not any(s <= self.sensors for s in sets):
            warnings.warn(
                f"No row of the index is of {', '.join(sorted(self.sensors))} alone; its rows are of "
                f"{' or '.join(sorted(held)[:8])}. Give all sensors of a row: sensors={fewest}.",
                stacklevel=5,
            )

    def check(self, segments: Sequence[Segment]) -> None:
        """Refuse names of sensors that look like a typo: neither the table nor any row has them, but nearly.

        Raises:
            UnknownNameError: there is one; the message guesses what was meant.
        """
        held = {s.strip() for g in segments for text in g.part.about["sensors"] for s in text.split(",") if s.strip()}
        for name in sorted(self.sensors - held - set(SENSORS)):
            if nearest(name, held | set(SENSORS)):
                raise UnknownNameError.of("sensor", name, held or SENSORS)

    def match(self, segment: Segment, pool: Executor) -> NDArray[np.bool_]:
        """Tell which rows of a segment match."""
        from geomm.retrieval.kernels import match

        rows, found = segment.filters, np.empty(len(segment), np.uint8)
        sets = [{s.strip() for s in text.split(",") if s.strip()} for text in segment.part.about["sensors"]]
        allowed = np.array([bool(s) and s <= self.sensors for s in sets] if self.sensors else [], bool)
        boxes = rows.view("f4").reshape(len(rows), -1)[:, :4]
        arguments = (boxes, rows["time"], rows["sensors"], self.areas, self.span, allowed, found)
        starts = range(0, len(rows), _SHARE)
        list(pool.map(lambda n: match(*arguments, n, min(n + _SHARE, len(rows))), starts))
        doubtful = np.flatnonzero(found == 1) if self.rectangular else np.flatnonzero(found)
        if doubtful.size:
            import shapely

            shapely.prepare(self.parts)
            for piece in np.split(doubtful, range(_SHARE, len(doubtful), _SHARE)):
                places = shapely.from_wkb(segment.table(piece).column("geometry").to_numpy(zero_copy_only=False))
                found[piece] = np.any([shapely.intersects(part, places) for part in self.parts], axis=0)
        return found > 0

    def warn_if_turned(self, segments: Sequence[Segment], pool: Executor) -> None:
        """Tell, where no row matches, whether some would with numbers of the area exchanged."""
        import shapely

        boxes, exchanged = meant([(west, south, east, north) for west, south, east, north in self.areas.tolist()])
        if boxes:
            parts = [shapely.box(*b) for b in boxes]
            other = replace(self, areas=np.array(boxes), parts=parts, rectangular=True)
            if any(other.match(s, pool).any() for s in segments):
                warnings.warn(
                    f"No row lies in the area, but some would with {exchanged} exchanged. "
                    f"Did you swap them? Search {tuple(round(v, 6) for v in boxes[0])}.",
                    stacklevel=5,
                )


def _area(aoi: Any) -> tuple[NDArray[np.float64], list[Any], bool]:
    """Return boxes that rows have to touch, the parts of the exact area, and whether the boxes are all of it."""
    import shapely

    if aoi is None:
        return np.empty((0, 4)), [], True
    if not isinstance(aoi, shapely.Geometry):
        try:
            shape = in_degrees(aoi)
        except CatalogError as error:
            raise ConfigError(error.what, where=error.where, why=error.why, fix=error.fix or _AREA) from error
        aoi = aoi if shape is None else shape
    if isinstance(aoi, shapely.Geometry):
        if aoi.is_empty or not aoi.is_valid:
            raise ConfigError("the area of interest is empty or not valid", where=aoi.wkt[:80], fix=_AREA)
        parts = shapely.get_parts(aoi)
        shapes = parts if len(parts) <= _PARTS else aoi
        return shapely.bounds(shapes).reshape(-1, 4), [aoi], False
    try:
        west, south, east, north = (float(v) for v in aoi)
    except (TypeError, ValueError) as error:
        raise ConfigError("the area of interest is no box", where=repr(aoi)[:80], why=str(error), fix=_AREA) from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ConfigError("the area of interest is no box of degrees", where=f"aoi {aoi}", fix=_AREA)
    pairs = [(west, 180.0), (-180.0, east)] if west > east else [(west, east)]
    boxes = [(w, south, e, north) for w, e in pairs]
    return np.array(boxes), [shapely.box(*b) for b in boxes], True  # their union would lose those of no width
