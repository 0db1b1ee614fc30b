"""Build a static STAC catalog from a folder of GeoTIFFs."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomm.catalog.probe import Header, probe
from geomm.catalog.search import SENSORS_PROPERTY, Catalog, open_catalog, parse_interval
from geomm.errors import CatalogError, ConfigError, OutputError
from geomm.sensors import SENSORS, SensorSpec, get_sensor

_SENSORS = tuple(SENSORS.values())
SUFFIXES = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which files of a folder belong to a sensor."""

    sensor: SensorSpec
    pattern: re.Pattern[str]
    """Over the relative POSIX path; groups ``id`` and, for one band per file, ``band``."""
    bands: tuple[str, ...] = ()
    """Band names in file order, for files with several bands."""
    hint: str = "*.tif"
    """The pattern in words."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One file that belongs to an item."""

    item: str
    key: str
    sensor: str
    path: Path
    header: Header
    bands: tuple[str, ...]


def build_catalog(
    folder: str | Path,
    out: str | Path,
    *,
    sensors: Sequence[str] = ("generic",),
    definition: Mapping[str, Any] | None = None,
    datetime: str | None = None,
) -> Catalog:
    """Describe the GeoTIFFs of a folder as a static STAC catalog; the files stay where they are.

    Args:
        folder: searched with its subfolders for ``.tif``, ``.tiff`` and ``.jp2``.
        out: folder of the new catalog; an older catalog there is replaced.
        sensors: names from the table. Files named ``<item>_<band>.tif`` after a band of such a sensor become its
            bands; with ``generic`` every file is an item of its own.
        definition: instead of ``sensors``, a catalog definition (see ``catalogs/`` for examples): a list ``items``
            of ``{sensor, pattern, bands}`` where ``pattern`` holds ``{id}`` and optionally ``{band}``; ``datetime``;
            and ``properties`` by item id, ``"*"`` for all.
        datetime: instant, or interval ``start/end``, of all items; by default each file's own date.

    Returns:
        The new catalog, opened.

    Raises:
        CatalogError: no file fits, or an item has no date.
        GridError: a file has no CRS.
        ReadError: a file cannot be opened.
        OutputError: ``out`` holds something else than a catalog.
    """
    source, target = Path(folder).resolve(), Path(out).resolve()
    if not source.is_dir():
        raise CatalogError("the folder does not exist", where=str(folder))
    if target.exists() and any(target.iterdir()) and not (target / "catalog.json").is_file():
        raise OutputError("the output folder holds something else than a catalog", where=str(out), fix="name another")
    rules = _rules_of(definition) if definition else [_default_rule(get_sensor(name)) for name in sensors]
    found = list(_scan(source, rules))
    if not found:
        raise CatalogError(
            "no file fits",
            where=str(folder),
            why=f"looked for {'; '.join(r.hint for r in rules)}",
            fix="name the sensor (geomm doctor lists them) or give a catalog definition",
        )
    about = definition or {}
    return _write(
        found, target, source.name, when=datetime or about.get("datetime"), properties=about.get("properties", {})
    )


def _default_rule(sensor: SensorSpec) -> _Rule:
    if not sensor.bands:
        return _Rule(sensor, re.compile(r"(?:.*/)?(?P<id>[^/]+)\.(?i:tif|tiff|jp2)"))
    every, own = ({n for s in group for b in s.bands for n in (b.name, *b.assets)} for group in (_SENSORS, (sensor,)))
    # ST_B10 is a band of another sensor, never the B10 of an item whose name ends in _ST.
    longer = [n for n in every - own if any(n.endswith(f"_{mine}") for mine in own)]
    bands, others = ("|".join(sorted(map(re.escape, names), key=len, reverse=True)) for names in (own, longer))
    foreign = rf"(?![^/]*[_.\- ](?:{others})\.[^./]+$)" if longer else ""
    return _Rule(
        sensor,
        re.compile(rf"(?:.*/)?{foreign}(?P<id>[^/]+?)[_.\- ](?i:band)?(?P<band>{bands})\.(?i:tif|tiff|jp2)"),
        hint=f"<item>_<band>.tif with the bands {', '.join(b.name for b in sensor.bands)} of {sensor.name}",
    )


def _rules_of(definition: Mapping[str, Any]) -> list[_Rule]:
    extra = set(definition) - {"items", "datetime", "properties"}
    if extra:
        raise ConfigError("a catalog definition holds items, datetime and properties", why=f"unknown: {sorted(extra)}")
    rules = []
    for entry in definition.get("items", []):
        unknown = set(entry) - {"sensor", "pattern", "bands"}
        if unknown or not {"sensor", "pattern"} <= set(entry):
            raise ConfigError(
                "a catalog definition needs sensor and pattern (and bands)", where=str(entry), why=f"unknown {unknown}"
            )
        sensor = get_sensor(entry["sensor"])
        pattern = (
            re.escape(entry["pattern"]).replace(r"\{id\}", "(?P<id>[^/]+?)").replace(r"\{band\}", "(?P<band>[^/]+?)")
        )
        rules.append(_Rule(sensor, re.compile(pattern), tuple(entry.get("bands", ())), entry["pattern"]))
    return rules


def _scan(folder: Path, rules: Sequence[_Rule]) -> Iterator[_Found]:
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        for rule in rules:
            match = rule.pattern.fullmatch(path.relative_to(folder).as_posix())
            if match is None:
                continue
            header = probe(path)
            single = match.groupdict().get("band")
            if single is not None:
                band = rule.sensor.band(single).name
                yield _Found(match["id"], band, rule.sensor.name, path, header, (band,))
            else:
                names = rule.bands or (header.descriptions if not rule.sensor.bands else rule.sensor.band_names())
                if len(names) != len(header.dtypes):
                    raise CatalogError(
                        "the file has another number of bands than the sensor",
                        where=str(path),
                        why=f"{len(header.dtypes)} in the file, {len(names)} expected ({', '.join(names)})",
                        fix="list the bands of the file in a catalog definition",
                    )
                yield _Found(match["id"], rule.sensor.name, rule.sensor.name, path, header, tuple(names))


def _write(
    found: Sequence[_Found], target: Path, title: str, *, when: str | None, properties: Mapping[str, Any]
) -> Catalog:
    """Write the catalog aside, then move it into place."""
    import pystac

    staging = target.parent / f"geomm-staging-{os.getpid()}"  # same depth as target: relative hrefs stay right
    catalog = pystac.Catalog(id=_identifier(title), description=f"Imagery of {title}, catalogued by geomm")
    groups: dict[str, list[_Found]] = {}
    for file in found:
        groups.setdefault(file.item, []).append(file)
    for name, files in groups.items():
        item = _item(name, files, when)
        item.properties |= {**properties.get("*", {}), **properties.get(name, {})}
        catalog.add_item(item)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        catalog.normalize_hrefs(str(staging))
        catalog.make_all_asset_hrefs_relative()
        catalog.save(pystac.CatalogType.SELF_CONTAINED)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except OSError as error:
        raise OutputError("the catalog cannot be written", where=str(target), why=str(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return open_catalog(target)


def _item(name: str, files: Sequence[_Found], when: str | None) -> Any:
    import pystac
    from shapely.geometry import box, mapping

    boxes = [f.header.bbox for f in files]
    bbox = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    start, end = _interval(files, when)
    item = pystac.Item(
        _identifier(name),
        mapping(box(*bbox)),
        list(bbox),
        start if start == end else None,
        {SENSORS_PROPERTY: sorted({f.sensor for f in files})},
        start_datetime=None if start == end else start,
        end_datetime=None if start == end else end,
    )
    item.stac_extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    for file in files:
        header = file.header
        entries = []
        for band, dtype in zip(file.bands, header.dtypes, strict=True):
            entry: dict[str, Any] = {"name": band, "data_type": dtype}
            if header.nodata is not None:
                entry["nodata"] = "nan" if header.nodata != header.nodata else header.nodata
            entries.append(entry)
        item.add_asset(
            file.key,
            pystac.Asset(
                str(file.path),
                media_type=pystac.MediaType.JPEG2000 if file.path.suffix == ".jp2" else pystac.MediaType.GEOTIFF,
                roles=["data"],
                extra_fields={
                    "bands": entries,
                    "proj:code" if header.crs.startswith("EPSG:") else "proj:wkt2": header.crs,
                    "proj:transform": list(header.transform),
                    "proj:shape": list(header.shape),
                },
            ),
        )
    return item


def _interval(files: Sequence[_Found], when: str | None) -> tuple[dt.datetime, dt.datetime]:
    if when is not None:
        start, end = parse_interval(when)
        if start is None or end is None:
            raise CatalogError("the date of a catalog needs both ends", where=when, fix="write start/end")
        return (start, start) if "/" not in when else (start, end)
    for file in files:
        tags = file.header.tags
        stamp = tags.get("TIFFTAG_DATETIME", "").replace(":", "-", 2) or tags.get("datetime", "")[:19]
        digits = re.search(r"(?<!\d)((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)", file.path.stem)
        text = stamp or ("-".join(digits.groups()) if digits else "")
        if text:
            moment = dt.datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return moment, moment
    raise CatalogError(
        "the item has no date",
        where=", ".join(f.path.name for f in files[:3]),
        why="neither the files' tags nor their names hold one",
        fix="say when: --datetime 2024-05-31 (or an interval start/end)",
    )


def _identifier(name: str) -> str:
    """Make a name safe for paths and STAC ids."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "item"
