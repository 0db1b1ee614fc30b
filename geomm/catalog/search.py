"""Open a catalog and search it by place, time and sensor."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomm.catalog.probe import probe
from geomm.catalog.scene import BandSource, Scene
from geomm.errors import CatalogError
from geomm.radiometry import Calibration, sentinel2_offset
from geomm.sensors import SENSORS, BandSpec, SensorSpec, get_sensor
from geomm.types import BBox

SENSORS_PROPERTY = "geomm:sensors"
"""Item property by which :func:`geomm.build_catalog` says which sensors an item holds."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """An opened catalog. It holds items; searching it makes scenes."""

    href: str
    """Where it was opened."""
    items: tuple[Any, ...]
    """Its STAC items."""

    def __repr__(self) -> str:
        return f"Catalog({self.href!r}, {len(self.items)} items)"

    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that the items hold."""
        return tuple(s.name for s in SENSORS.values() if any(_holds(item, s) for item in self.items))

    def search(
        self,
        aoi: BBox | None = None,
        datetime: str | None = None,
        *,
        sensors: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Scene]:
        """Find scenes.

        Args:
            aoi: west, south, east, north in degrees; None for everywhere.
            datetime: an instant or an interval ``start/end`` in RFC 3339 (``..`` leaves an end open).
            sensors: names from the table; None for all that the catalog holds.
            ids: item ids; None for all.

        Returns:
            Scenes sorted by time, id and sensor; an empty list if nothing matches.

        Raises:
            UnknownNameError: a sensor that is not in the table.
            CatalogError: ``datetime`` cannot be understood, or ``aoi`` is not west, south, east, north.
        """
        wanted = [get_sensor(name) for name in (sensors if sensors is not None else self.sensors())]
        start, end = parse_interval(datetime)
        if aoi is not None and (aoi[0] > aoi[2] or aoi[1] > aoi[3] or not -90 <= aoi[1] <= aoi[3] <= 90):
            raise CatalogError(
                "the area of interest is not west, south, east, north in degrees",
                where=f"aoi {aoi}",
                fix="give longitude before latitude; areas across the antimeridian need two searches",
            )
        found = (
            _scene(item, sensor)
            for item in self.items
            if _matches(item, aoi, start, end) and (ids is None or item.id in ids)
            for sensor in wanted
            if _holds(item, sensor)
        )
        # A collection may hold items without a sensor, such as Landsat scenes whose thermal instrument was off.
        scenes = [scene for scene in found if scene.bands]
        return sorted(scenes, key=lambda s: (s.time, s.id, s.sensor))


def open_catalog(path: str | Path) -> Catalog:
    """Open a static STAC catalog, collection, item or item collection.

    Args:
        path: a JSON file, or a folder that holds ``catalog.json`` or ``collection.json``.

    Raises:
        CatalogError: nothing is there, or it is not STAC.
    """
    import pystac

    location = Path(path)
    if location.is_dir():
        found = [location / name for name in ("catalog.json", "collection.json") if (location / name).is_file()]
        if not found:
            raise CatalogError(
                "the folder holds no STAC catalog",
                where=str(path),
                why="neither catalog.json nor collection.json is there",
                fix=f"build one: geomm catalog build {path}",
            )
        location = found[0]
    try:
        root = pystac.read_file(str(location))
        items = root.get_items(recursive=True) if isinstance(root, pystac.Catalog) else [root]
        if isinstance(root, pystac.ItemCollection):
            items = root.items
        return Catalog(str(location), tuple(items))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pystac.STACError, pystac.STACTypeError) as error:
        raise CatalogError("the catalog cannot be read", where=str(path), why=str(error)) from error


def parse_interval(text: str | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Parse an RFC 3339 instant or interval into UTC start and end; None is open.

    >>> parse_interval("2024-05-01/..")
    (datetime.datetime(2024, 5, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    if text is None:
        return None, None
    parts = text.split("/")
    if len(parts) > 2:
        raise CatalogError("the time interval has more than two ends", where=text, fix="write start/end")
    ends: list[dt.datetime | None] = []
    for last, part in enumerate(parts if len(parts) == 2 else parts * 2):
        if part in ("", ".."):
            ends.append(None)
            continue
        try:
            moment = dt.datetime.fromisoformat(part)
        except ValueError as error:
            raise CatalogError("the date cannot be understood", where=part, fix="write 2024-05-31") from error
        if last and len(part) == len("2024-05-31"):
            moment += dt.timedelta(days=1, microseconds=-1)
        ends.append(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))
    return ends[0], ends[1]


def _times(item: Any) -> tuple[dt.datetime, dt.datetime]:
    common = item.common_metadata
    start, end = common.start_datetime or item.datetime, common.end_datetime or item.datetime
    if start is None or end is None:
        raise CatalogError("the item has no time", where=f"item {item.id}", fix="give it datetime or both ends")
    return tuple(t if t.tzinfo else t.replace(tzinfo=dt.UTC) for t in (start, end))


def _matches(item: Any, aoi: BBox | None, start: dt.datetime | None, end: dt.datetime | None) -> bool:
    first, last = _times(item)
    if (start and last < start) or (end and first > end):
        return False
    if aoi is None:
        return True
    west, south, east, north = item.bbox
    return bool(west <= aoi[2] and east >= aoi[0] and south <= aoi[3] and north >= aoi[1])


def _holds(item: Any, sensor: SensorSpec) -> bool:
    declared = item.properties.get(SENSORS_PROPERTY)
    return sensor.name in declared if declared is not None else item.collection_id in sensor.collections


def _scene(item: Any, sensor: SensorSpec) -> Scene:
    return Scene(
        item.id,
        sensor.name,
        _times(item)[0],
        tuple(item.bbox),
        item.geometry,
        dict(_bands(item, sensor)),
        item.get_self_href() or "",
        item.properties.get("description", ""),
    )


def _bands(item: Any, sensor: SensorSpec) -> Iterator[tuple[str, BandSource]]:
    """Yield the bands of a sensor that an item offers, under the names of the table."""
    entries = list(_entries(item))
    if not sensor.bands:
        named = {(id(asset), index): (name, asset, index) for name, asset, index in entries}  # the last name counts
        for name, asset, index in named.values():
            yield name, _source(item, asset, index, sensor.band(name))
        return
    for band in sensor.bands:
        for key in (band.name, *band.assets):
            match = next(((asset, index) for name, asset, index in entries if name == key), None)
            if match is not None:
                yield band.name, _source(item, *match, band)
                break


def _entries(item: Any) -> Iterable[tuple[str, Any, int]]:
    """Yield every addressable band of an item: band names of multi-band assets first, then asset keys."""
    for key, asset in item.assets.items():
        if asset.roles is not None and not {"data", "label", "reflectance", "temperature"} & set(asset.roles):
            continue
        named = asset.extra_fields.get("bands", [])
        if len(named) > 1:
            yield from ((entry.get("name", f"{key}.{i}"), asset, i) for i, entry in enumerate(named, start=1))
        else:
            yield key, asset, 1
            if named and named[0].get("name", key) != key:
                yield named[0]["name"], asset, 1


def _source(item: Any, asset: Any, index: int, band: BandSpec) -> BandSource:
    """Collect what item, table and (only where both are silent) file say of one band."""
    href = asset.get_absolute_href() or asset.href

    def look(key: str) -> Any:
        return asset.extra_fields.get(key, item.properties.get(key))

    entries = asset.extra_fields.get("raster:bands") or asset.extra_fields.get("bands") or [{}]
    entry = entries[index - 1] if index <= len(entries) else {}
    crs = look("proj:code") or (f"EPSG:{look('proj:epsg')}" if look("proj:epsg") else look("proj:wkt2"))
    transform, shape = look("proj:transform"), look("proj:shape")
    dtype, nodata = entry.get("data_type", asset.extra_fields.get("data_type", band.dtype)), entry.get("nodata")
    if not (crs and transform and shape and dtype):
        header = probe(href)
        crs, transform, shape = crs or header.crs, transform or header.transform, shape or header.shape
        dtype, nodata = dtype or header.dtypes[index - 1], header.nodata if nodata is None else nodata
    return BandSource(
        href,
        index,
        str(dtype),
        band.nodata if nodata is None else float(nodata),
        _calibration(item, band, entry),
        str(crs),
        tuple(transform[:6]),
        tuple(shape),
    )


def _calibration(item: Any, band: BandSpec, entry: dict[str, Any]) -> Calibration:
    """Return the nominal calibration, corrected by what the item says (Sentinel-2 offset)."""
    nominal = band.calibration
    if band.unit != "reflectance" or nominal.scale != 1e-4:
        return nominal
    offset, scale = entry.get("offset"), entry.get("scale", nominal.scale)
    dn = sentinel2_offset(
        baseline=item.properties.get("s2:processing_baseline"),
        override=item.properties.get("geomm:s2_offset"),
        boa_offset_applied=item.properties.get("earthsearch:boa_offset_applied"),
        metadata_offset_dn=None if offset is None else offset / scale,
    )
    if dn is None:
        warnings.warn(
            f"Item {item.id}: the Sentinel-2 processing baseline is unknown, no offset is applied. State it in the "
            "item (s2:processing_baseline), or the offset in DN itself (geomm:s2_offset).",
            stacklevel=2,
        )
    return Calibration(nominal.scale, (dn or 0.0) * nominal.scale)
