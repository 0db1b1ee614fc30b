"""What a STAC item means: which sensors it holds, where each band lies, how its numbers become physical."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomm.catalog.mtl import Metadata, parse_mtl
from geomm.catalog.policy import POLICY, ReadPolicy, check, plain
from geomm.catalog.scene import BandSource, Grid, Scene
from geomm.catalog.web import text_of
from geomm.errors import CatalogError, UnsafeSourceError
from geomm.radiometry import Calibration, processing_baseline, sentinel2_offset, solar_corrected
from geomm.sensors import BandSpec, SensorSpec
from geomm.types import BBox

SENSORS_PROPERTY = "geomm:sensors"
"""Item property by which :func:`geomm.build_catalog` says which sensors an item holds."""
_MTL_BYTES = 2**22
"""The most that is read of an MTL file, which has some ten thousand."""
_NOT_IMAGERY = {"thumbnail", "overview", "metadata", "visual", "tiles"}
_KEPT = ("platform", "eo:cloud_cover", "sat:orbit_state", "sat:relative_orbit", "view:sun_elevation")


@dataclass(frozen=True, slots=True)
class Customs:
    """What a catalog does in its own way."""

    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Collection to the sensors of the table that it holds, besides those that the table knows."""
    signer: str = ""
    """Address that hands out access tokens, see :func:`geomm.catalog.sign.signed`."""
    sentinel2_offset: float | None = None
    """The catalog's word, or the user's, on the offset of Sentinel-2 in DN."""
    policy: ReadPolicy = POLICY
    """Which addresses its items may name."""
    unknown: set[str] = field(default_factory=set, compare=False)
    """Sentinel-2 items whose offset nothing told: the search warns of them."""


def holds(item: Any, sensor: SensorSpec, customs: Customs) -> bool:
    """Tell whether an item is of a sensor: by its own word, by collection and satellite, or by its properties."""
    declared = item.properties.get(SENSORS_PROPERTY)
    if declared is not None:
        return sensor.name in declared
    platform = str(item.properties.get("platform", item.properties.get("eo:platform", ""))).lower().replace("_", "-")
    if sensor.platforms and platform and platform not in sensor.platforms:
        return False
    if "mss" in [str(i).lower() for i in item.properties.get("instruments") or ()]:
        return False  # Landsat 4 and 5 carried it beside TM, and catalogs keep both in one collection
    named = customs.collections.get(item.collection_id or "", ())
    marked = any(item.properties.get(key) == value for key, value in sensor.marks)
    return sensor.name in named or item.collection_id in sensor.collections or (marked and not named)


def names_of(item: Any) -> frozenset[str]:
    """Return all names that an item has for its bands."""
    return frozenset(name for name, _, _ in _entries(item))


def offers(names: frozenset[str], sensor: SensorSpec) -> bool:
    """Tell whether names of bands are imagery of a sensor: some scenes of a collection lack the thermal bands."""
    quality = sensor.quality.band if sensor.quality else None
    bands = [b for b in sensor.bands if b.name != quality]
    return any(names & {b.name, *b.assets} for b in bands) if sensor.bands else bool(names)


def times(item: Any) -> tuple[dt.datetime, dt.datetime]:
    """Return start and end of an item.

    Raises:
        CatalogError: it has neither an instant nor both ends.
    """
    common = item.common_metadata
    start, end = common.start_datetime or item.datetime, common.end_datetime or item.datetime
    if start is None or end is None:
        raise CatalogError("the item has no time", where=f"item {item.id}", fix="give it datetime or both ends")
    return tuple(t if t.tzinfo else t.replace(tzinfo=dt.UTC) for t in (start, end))


def flat(bbox: Sequence[float]) -> BBox:
    """Return west, south, east, north of a box that may have heights."""
    half = len(bbox) // 2
    return float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])


def to_scene(item: Any, sensor: SensorSpec, customs: Customs) -> Scene:
    """Make the scene of one sensor from an item."""
    known = {key: item.properties[key] for key in _KEPT if item.properties.get(key) is not None}
    return Scene(
        item.id,
        sensor.name,
        times(item)[0],
        flat(item.bbox),
        item.geometry or {},
        dict(_bands(item, sensor, customs)),
        item.get_self_href() or "",
        item.properties.get("description") or item.properties.get("title") or "",
        item.collection_id or "",
        known,
    )


def _bands(item: Any, sensor: SensorSpec, customs: Customs) -> Iterator[tuple[str, BandSource]]:
    """Yield the bands of a sensor that an item offers, under the names of the table."""
    entries = list(_entries(item))
    if not sensor.bands:
        named = {(id(asset), index): (name, asset, index) for name, asset, index in entries}  # the last name counts
        for name, asset, index in named.values():
            yield name, _source(item, asset, index, sensor.band(name), sensor, customs)
        return
    for band in sensor.bands:
        for key in (band.name, *band.assets):
            match = next(((asset, index) for name, asset, index in entries if name == key), None)
            if match is not None:
                yield band.name, _source(item, *match, band, sensor, customs)
                break


def _entries(item: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield every name that an item has for a band: asset keys, names in multi-band assets, other band names."""
    later: list[tuple[str, Any, int]] = []
    for key, asset in item.assets.items():
        kind = asset.media_type or ""
        if _NOT_IMAGERY & set(asset.roles or ()) or (kind and "tiff" not in kind and "jp2" not in kind):
            continue
        named = _dicts(asset.extra_fields.get("bands")) or _dicts(asset.extra_fields.get("eo:bands"))
        if len(named) > 1:
            yield from ((entry.get("name", f"{key}.{i}"), asset, i) for i, entry in enumerate(named, start=1))
            continue
        yield key, asset, 1
        if key.lower().endswith((".tif", ".tiff")):
            yield key.rpartition(".")[0], asset, 1
        later += [(name, asset, 1) for entry in named if (name := entry.get("name")) and name != key]
    yield from later


def _dicts(entries: Iterable[Any] | None) -> list[dict[str, Any]]:
    return [e for e in entries or () if isinstance(e, dict)]


def _source(item: Any, asset: Any, index: int, band: BandSpec, sensor: SensorSpec, customs: Customs) -> BandSource:
    """Collect what item and table say of one band; what both leave open the loader finds in the file."""

    def look(key: str) -> Any:
        return asset.extra_fields.get(key, item.properties.get(key))

    entries = _dicts(asset.extra_fields.get("raster:bands")) or _dicts(asset.extra_fields.get("bands"))
    entry = entries[index - 1] if index <= len(entries) else {}
    crs = look("proj:code") or (f"EPSG:{look('proj:epsg')}" if look("proj:epsg") else look("proj:wkt2"))
    transform, shape = asset.extra_fields.get("proj:transform"), asset.extra_fields.get("proj:shape")
    dtype = entry.get("data_type", asset.extra_fields.get("data_type", band.dtype))
    size = asset.extra_fields.get("file:size")
    declared = [entry.get("nodata"), band.nodata, *entry.get("geomm:nodata", ())]
    return BandSource(
        _address(item, asset, customs.policy),
        index,
        None if dtype is None else str(dtype),
        tuple(dict.fromkeys(float(v) for v in declared if v is not None and not np.isnan(float(v)))),
        None if "geomm:calibration" in entry else band.valid_range,
        _calibration(item, band, sensor, entry, customs),
        Grid(str(crs), tuple(transform[:6]), tuple(shape)) if crs and transform and shape else None,
        customs.signer,
        item.id,
        _key(item, asset),
        str(asset.extra_fields.get("file:checksum") or "").lower(),
        int(size) if isinstance(size, int | float) and size >= 0 else None,
        customs.policy,
    )


def _key(item: Any, asset: Any) -> str:
    for key, other in item.assets.items():
        if other is asset:
            return str(key)
    return ""


def _address(item: Any, asset: Any, policy: ReadPolicy) -> str:
    """Return the absolute address of an asset, if it may be followed.

    Raises:
        UnsafeSourceError: it may not.
    """
    try:
        href = asset.href if isinstance(asset.href, str) else ""
        if not href.startswith(("https://", "http://")):  # what is absolute already needs no look at the item
            href = asset.get_absolute_href() or href
        check(href, policy)
        if href != asset.href and ":" in asset.href:  # joined to a folder, a prefix of GDAL's is part of a path
            check(asset.href, policy)
    except UnsafeSourceError as error:
        key = _key(item, asset)
        error.where = f"item {plain(item.id)}, asset {plain(key)}, {error.where}"
        error.about |= {"item": item.id, "asset": key}
        raise
    return str(href)


def _calibration(
    item: Any, band: BandSpec, sensor: SensorSpec, entry: Mapping[str, Any], customs: Customs
) -> Calibration:
    """Return the nominal calibration, corrected by what the item says."""
    nominal, offset, scale = band.calibration, entry.get("offset"), entry.get("scale")
    if "geomm:calibration" in entry:
        return Calibration(**entry["geomm:calibration"])
    if sensor.name.startswith("sentinel2") and band.kind == "reflectance":
        metadata = None if offset is None else offset / (scale or nominal.scale)
        return Calibration(nominal.scale, _offset_dn(item, metadata, customs) * nominal.scale)
    if np.isnan(nominal.scale):  # a table cannot know it: the gains of TM and ETM+ change from scene to scene
        return _by_metadata(item, band, customs)
    sun = item.properties.get("view:sun_elevation", item.properties.get("eo:sun_elevation"))
    if sensor.top_of_atmosphere and band.kind == "reflectance" and sun is not None:
        return solar_corrected(nominal, float(sun))
    if (band.kind == "temperature" or not sensor.bands) and (scale, offset) != (None, None):
        return Calibration(float(scale or 1.0), float(offset or 0.0), nominal.k1, nominal.k2)
    return nominal


def _by_metadata(item: Any, band: BandSpec, customs: Customs) -> Calibration:
    found = _metadata(item, customs).calibration(band.name)
    if found is None:
        raise CatalogError(
            "the calibration is unknown",
            where=f"item {item.id}, band {band.name}",
            why="its MTL has no gains for it",
            fix="have the MTL file delivered again, or leave the band out of the modality",
        )
    return found


def _offset_dn(item: Any, metadata: float | None, customs: Customs) -> float:
    """Decide the offset of a Sentinel-2 item in DN; remember the item where nothing tells."""
    about = item.properties
    override = customs.sentinel2_offset
    dn = sentinel2_offset(
        baseline=processing_baseline(
            about.get("s2:processing_baseline"),
            about.get("s2:product_uri"),
            about.get("sentinel:product_id"),
            item.id,
        ),
        override=about.get("geomm:s2_offset") if override is None else override,
        source="gee_harmonized" if str(item.collection_id).endswith("_HARMONIZED") else "unknown",
        boa_offset_applied=about.get("earthsearch:boa_offset_applied", about.get("sentinel:boa_offset_applied")),
        metadata_offset_dn=metadata,
    )
    if dn is None:
        customs.unknown.add(item.id)
    return dn or 0.0


def _metadata(item: Any, customs: Customs) -> Metadata:
    """Read an item's MTL file."""
    asset = next((a for key, a in item.assets.items() if key.lower() in ("mtl.json", "mtl.txt", "mtl")), None)
    if asset is None:
        raise CatalogError(
            "the item has no MTL file",
            where=f"item {item.id}",
            why="its calibration is only there",
            fix="add the asset MTL.json or MTL.txt to the item, or use Level 2 products, which need none",
        )
    href = _address(item, asset, customs.policy)
    address = check(href, customs.policy)
    try:
        if address.kind != "local":
            return parse_mtl(text_of(href, customs.policy, most=_MTL_BYTES))
        path = Path(address.name)
        if not path.is_file() or path.stat().st_size > _MTL_BYTES:
            raise CatalogError(
                "the MTL file cannot be read",
                where=href,
                why=f"it is no file of at most {_MTL_BYTES} bytes",
                fix="have the MTL file delivered again",
            )
        return parse_mtl(path.read_text(errors="replace"))
    except (OSError, ValueError) as error:
        if isinstance(error, CatalogError | UnsafeSourceError):
            raise
        raise CatalogError(
            "the MTL file cannot be read", where=href, why=str(error), fix="have the MTL file delivered again"
        ) from error
