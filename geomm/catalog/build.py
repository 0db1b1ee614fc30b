"""Build a static STAC catalog from a folder of GeoTIFFs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geomm.catalog.areas import footprint_of
from geomm.catalog.checksum import state_files
from geomm.catalog.criteria import names_of, parse_interval
from geomm.catalog.interpret import SENSORS_PROPERTY
from geomm.catalog.mtl import Metadata, parse_mtl
from geomm.catalog.rules import Found, default_rule, parse_rules, scan
from geomm.catalog.scene import Grid
from geomm.catalog.search import Catalog, open_catalog
from geomm.errors import CatalogError, OutputError
from geomm.radiometry import Calibration
from geomm.sensors import SensorSpec, get_sensor
from geomm.whole import whole_folder


def build_catalog(
    folder: str | Path,
    out: str | Path,
    *,
    sensors: Sequence[str] = ("generic",),
    definition: Mapping[str, Any] | None = None,
    datetime: str | dt.date | None = None,
    checksums: bool = False,
) -> Catalog:
    """Describe the GeoTIFFs of a folder as a static STAC catalog; the files stay where they are.

    Args:
        folder: searched with its subfolders for ``.tif``, ``.tiff`` and ``.jp2``.
        out: folder of the new catalog; an older catalog there is replaced.
        sensors: names from the table. Files named ``<item>_<band>.tif`` after a band of such a sensor become its
            bands; with ``generic`` every file is an item of its own.
        definition: instead of ``sensors``, a catalog definition (see ``catalogs/`` for examples): a list ``items`` of
            ``{sensor, pattern, bands, nodata, id, datetime, scale, offset}``; ``datetime`` of all others; and
            ``properties`` by item id, ``"*"`` for all. ``pattern`` holds ``{id}`` and optionally ``{band}``; ``bands``
            names the bands of the file in order, some of them as name to number, or what ``{band}`` may be; ``nodata``
            lists values that mean a missing pixel beside those that the files declare; ``id`` makes the item's id from
            ``{id}``; ``scale`` and ``offset`` go before the sensor's calibration.
        datetime: instant, or interval ``start/end``, of all items; by default each file's own date.
        checksums: read every file whole and state its SHA-256 and size: whoever reads the catalog then refuses files
            that were damaged or exchanged.

    Returns:
        The new catalog, opened.

    Raises:
        CatalogError: no file fits, or an item has no date.
        GridError: a file has no CRS.
        ReadError: a file cannot be opened.
        OutputError: ``out`` holds something else than a catalog.
    """
    sensors = names_of(sensors)
    folders: tuple[Any, ...] = (folder, out)
    if not all(isinstance(f, (str, Path)) for f in folders):
        fix = "give two: build_catalog('imagery', 'my-catalog')"
        raise CatalogError("the folders are no paths", where=repr(folders)[:80], fix=fix)
    source, target = Path(folder).resolve(), Path(out).resolve()
    if source.is_file():
        fix = f"give the folder that it lies in: build_catalog({str(source.parent)!r}, ...)"
        raise CatalogError("a catalog is built of a folder, and this is a file", where=str(folder), fix=fix)
    if not source.is_dir():
        raise CatalogError(
            "the folder does not exist",
            where=str(folder),
            fix="give the folder that holds the GeoTIFFs; a relative path counts from the current folder",
        )
    _check_target(source, target)
    rules = parse_rules(definition) if definition else [default_rule(get_sensor(name)) for name in sensors]
    found = list(scan(source, rules))
    if not found:
        raise CatalogError(
            "no file fits",
            where=str(folder),
            why=f"looked for {'; '.join(r.hint for r in rules)}",
            fix="name the sensor (geomm sensors lists them) or give a catalog definition",
        )
    about = definition or {}
    when, properties = datetime or about.get("datetime"), about.get("properties", {})
    return _write(found, target, source.name, when=when, properties=properties, hashed=checksums)


def _check_target(source: Path, target: Path) -> None:
    """Refuse a folder whose content would be lost: the catalog replaces what is there."""
    if source == target or target in source.parents:
        raise OutputError(
            "the catalog cannot lie where the imagery lies",
            where=str(target),
            why="an older catalog in its folder is replaced as a whole",
            fix="name another folder for the catalog",
        )
    if target.exists() and not target.is_dir():
        raise OutputError(
            "the output is a file", where=str(target), fix="name a folder that does not exist yet: --out my-catalog"
        )
    others = [p for p in target.rglob("*") if p.is_file() and p.suffix != ".json"] if target.exists() else []
    if others or (target.exists() and any(target.iterdir()) and not (target / "catalog.json").is_file()):
        raise OutputError(
            "the output folder holds something else than a catalog",
            where=str(target),
            why=f"for example {others[0].name}" if others else "it has no catalog.json",
            fix="name a new folder: --out my-catalog",
        )


def _write(
    found: Sequence[Found], target: Path, title: str, *, when: Any, properties: Mapping[str, Any], hashed: bool
) -> Catalog:
    """Write the catalog aside, then move it into place."""
    import pystac

    catalog = pystac.Catalog(id=_identifier(title), description=f"Imagery of {title}, catalogued by geomm")
    groups = _groups(found)
    for name, files in groups.items():
        item = _item(name, files, files[0].rule.datetime or when)
        item.properties |= {**properties.get("*", {}), **properties.get(name, {})}
        if hashed:
            state_files(item)
        catalog.add_item(item)
    try:
        with whole_folder(target) as aside:  # at the same depth as the target: relative hrefs stay right
            catalog.normalize_hrefs(f"{aside}/")  # a name with a dot and no slash is a file to pystac
            catalog.make_all_asset_hrefs_relative()
            catalog.save(pystac.CatalogType.SELF_CONTAINED)
    except OSError as error:
        raise OutputError(
            "the catalog cannot be written",
            where=str(target),
            why=str(error),
            fix="name another folder with --out, or free the disk and correct the permissions of this one",
        ) from error
    return open_catalog(target)


def _groups(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Put the files of an item together.

    Files of one name in several folders are items of their own, named after their folders too.
    """
    groups: dict[str, list[Found]] = {}
    for file in found:
        groups.setdefault(_identifier(file.item), []).append(file)
    for name, files in list(groups.items()):
        paths: dict[str, set[Path]] = {}
        for file in files:
            paths.setdefault(file.key, set()).add(file.path)
        if all(len(p) == 1 for p in paths.values()):
            continue
        folders = {f.path.parent for f in files}
        if len(folders) < len(files) and any(len(p) > len(folders) for p in paths.values()):
            twice = next(sorted(p) for p in paths.values() if len(p) > 1)
            raise CatalogError(
                "two files are the same band of one item",
                where=f"item {name}: {twice[0]} and {twice[1]}",
                fix="give a catalog definition whose pattern tells them apart",
            )
        del groups[name]
        for file in files:
            groups.setdefault(_identifier(f"{file.path.parent.name}-{file.item}"), []).append(file)
    for name, files in groups.items():
        keys = {(f.key, f.path) for f in files}
        if len({k for k, _ in keys}) < len(keys):
            raise CatalogError(
                "two files are the same band of one item",
                where=f"item {name}",
                fix="rename one of them, or move it out of the folder",
            )
    return groups


def _item(name: str, files: Sequence[Found], when: Any) -> Any:
    import pystac

    boxes = [f.header.bbox for f in files]
    south, north = min(b[1] for b in boxes), max(b[3] for b in boxes)
    crossing = [b for b in boxes if b[0] > b[2]]
    bbox = (min(b[0] for b in crossing or boxes), south, max(b[2] for b in crossing or boxes), north)
    metadata = _metadata(files)
    start, end = _interval(files, when, metadata)
    about: dict[str, Any] = {SENSORS_PROPERTY: sorted({f.rule.sensor.name for f in files})}
    if metadata is not None:
        about |= {"platform": metadata.platform, "view:sun_elevation": metadata.sun_elevation}
    item = pystac.Item(
        _identifier(name),
        footprint_of(bbox),
        list(bbox),
        start if start == end else None,
        about,
        start_datetime=None if start == end else start,
        end_datetime=None if start == end else end,
    )
    item.stac_extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    for file in files:
        header = file.header
        entries = []
        for k, dtype in enumerate(header.dtypes):
            band = file.bands.get(k + 1)
            entry: dict[str, Any] = {"name": band or f"unnamed{k + 1}", "data_type": dtype}
            if header.nodata is not None:
                entry["nodata"] = "nan" if header.nodata != header.nodata else header.nodata
            if file.rule.nodata:
                entry["geomm:nodata"] = list(file.rule.nodata)
            if (header.scales[k], header.offsets[k]) != (1.0, 0.0):
                entry |= {"scale": header.scales[k], "offset": header.offsets[k]}
            calibration = _calibration(file.rule.sensor, band, metadata) if band else None
            if file.rule.calibration is not None and band:
                calibration = file.rule.calibration
            if calibration is not None:
                known = {f: v for f, v in dataclasses.asdict(calibration).items() if v is not None}
                entry["geomm:calibration"] = known
            entries.append(entry)
        item.add_asset(
            file.key,
            pystac.Asset(
                str(file.path),
                media_type=pystac.MediaType.JPEG2000 if file.path.suffix == ".jp2" else pystac.MediaType.GEOTIFF,
                roles=["data"],
                extra_fields={
                    "bands": entries,
                    **_projection(header.grid),
                },
            ),
        )
    return item


def _projection(grid: Grid) -> dict[str, Any]:
    """Return the fields of the projection extension; a file placed by control points has only its shape."""
    if grid.transform is None:
        return {"proj:shape": list(grid.shape)}
    key = "proj:code" if grid.crs.startswith("EPSG:") else "proj:wkt2"
    return {key: grid.crs, "proj:transform": list(grid.transform), "proj:shape": list(grid.shape)}


def _metadata(files: Sequence[Found]) -> Metadata | None:
    """Return what the MTL file beside the bands of a Landsat item says, if there is one."""
    if not any(f.rule.sensor.name.startswith("landsat") for f in files):
        return None
    for folder, name in dict.fromkeys((f.path.parent, f.name) for f in files):
        for suffix in ("json", "txt"):
            path = folder / f"{name}_MTL.{suffix}"
            if path.is_file():
                return parse_mtl(path.read_text(errors="replace"))
    return None


def _calibration(sensor: SensorSpec, band: str, metadata: Metadata | None) -> Calibration | None:
    """Return the calibration of a Level-1 band by its MTL; Level-2 and other products follow the table."""
    level1 = sensor.name.endswith("-l1") and sensor.band(band).kind in ("reflectance", "temperature")
    return metadata.calibration(band) if metadata is not None and level1 else None


def _interval(files: Sequence[Found], when: Any, metadata: Metadata | None) -> tuple[dt.datetime, dt.datetime]:
    if when is not None:
        start, end = parse_interval(when)
        if start is None or end is None:
            raise CatalogError("the date of a catalog needs both ends", where=str(when), fix="write start/end")
        return (start, start) if "/" not in str(when) else (start, end)
    if metadata is not None and metadata.time is not None:
        return metadata.time, metadata.time
    for file in files:
        tags = file.header.tags
        stamp = tags.get("TIFFTAG_DATETIME", "").replace(":", "-", 2)
        digits = re.search(r"(?<!\d)((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)", file.path.stem)
        # The name goes before the TIFF tag, which is often the day of processing.
        for text in (tags.get("datetime", "")[:19], "-".join(digits.groups()) if digits else "", stamp):
            try:
                moment = dt.datetime.fromisoformat(text)
            except ValueError:
                continue
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
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "item"
