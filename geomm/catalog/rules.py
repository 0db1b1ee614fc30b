"""Which files of a folder belong to which item and sensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomm.catalog.probe import Header, probe
from geomm.errors import CatalogError, ConfigError, did_you_mean
from geomm.radiometry import Calibration
from geomm.sensors import SENSORS, SensorSpec, get_sensor

SUFFIXES = (".tif", ".tiff", ".jp2")
_KEYS = {"sensor", "pattern", "bands", "nodata", "id", "datetime", "scale", "offset"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Which files of a folder belong to a sensor."""

    sensor: SensorSpec
    pattern: re.Pattern[str]
    """Over the relative POSIX path; groups ``id`` and, for one band per file, ``band``."""
    bands: Mapping[str, int] | None = None
    """Band name to number in the file, for files with several bands; None for all bands of the sensor in order."""
    whole: bool = False
    """Whether ``bands`` are all that a file may hold."""
    calibration: Calibration | None = None
    """Stored number to physical value, where it is not that of the sensor."""
    nodata: tuple[float, ...] = ()
    """Stored values that mean a missing pixel, beside those that the files declare."""
    item: str = "{id}"
    """Item id, from the one in the path."""
    datetime: str | None = None
    """Instant or interval of the items."""
    hint: str = "*.tif"
    """The pattern in words."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file that belongs to an item."""

    item: str
    """Item id."""
    name: str
    """What the path says in place of ``{id}``."""
    key: str
    """Asset key."""
    path: Path
    """The file."""
    header: Header
    """What it says of itself."""
    bands: Mapping[int, str]
    """Number in the file to band name."""
    rule: Rule
    """Why it belongs."""


def default_rule(sensor: SensorSpec) -> Rule:
    """Return the rule for files named after a band; for ``generic``, any file."""
    if not sensor.bands:
        return Rule(sensor, re.compile(r"(?:.*/)?(?P<id>[^/]+)\.(?i:tif|tiff|jp2)"))
    every, own = (
        {n for s in group for b in s.bands for n in (b.name, *b.assets)} for group in (SENSORS.values(), (sensor,))
    )
    # ST_B10 is a band of another sensor, never the B10 of an item whose name ends in _ST.
    longer = [n for n in every - own if any(n.endswith(f"_{mine}") for mine in own)]
    bands, others = ("|".join(sorted(map(re.escape, names), key=len, reverse=True)) for names in (own, longer))
    foreign = rf"(?![^/]*[_.\- ](?:{others})\.[^./]+$)" if longer else ""
    # sr_band2 and the like are products of another level than band2, with other numbers in them.
    foreign += r"(?![^/]*_(?i:sr|toa|bt|st)_band)"
    return Rule(
        sensor,
        re.compile(
            rf"(?:.*/)?{foreign}(?P<id>[^/]+?)[_.\- ](?:(?P<band>{bands})|(?i:band)(?P<number>\d+))\.(?i:tif|tiff|jp2)"
        ),
        hint=f"<item>_<band>.tif with the bands {', '.join(b.name for b in sensor.bands)} of {sensor.name}",
    )


def parse_rules(definition: Mapping[str, Any]) -> list[Rule]:
    """Read the rules of a catalog definition.

    Raises:
        ConfigError: it has keys that mean nothing, or lacks some.
        UnknownNameError: it names a sensor that is not in the table.
    """
    given: Any = definition
    if not isinstance(given, Mapping):
        fix = f"read the file first: definition=yaml.safe_load(open({str(given)[:80]!r}))"
        raise ConfigError("a catalog definition is a mapping", where=repr(given)[:80], fix=fix)
    known = ("items", "datetime", "properties")
    extra = sorted(str(k) for k in set(definition) - set(known))
    if extra:
        raise ConfigError(
            "a catalog definition holds items, datetime and properties",
            why=f"unknown: {extra}",
            fix=did_you_mean(extra[0], known, "remove these keys; examples are in catalogs/"),
        )
    items = definition.get("items", [])
    if not isinstance(items, list) or not all(isinstance(e, Mapping) for e in items):
        fix = 'write a list: {"items": [{"sensor": "landcover", "pattern": "{id}.tif"}]}'
        raise ConfigError("the items of a catalog definition are a list of mappings", where=repr(items)[:80], fix=fix)
    rules = []
    for entry in items:
        if set(entry) - _KEYS or not all(isinstance(entry.get(k), str) for k in ("sensor", "pattern")):
            raise ConfigError(
                f"a catalog definition needs sensor and pattern, and may have {', '.join(sorted(_KEYS))}",
                where=str(entry)[:80],
                why=f"unknown {sorted(map(str, set(entry) - _KEYS))}",
                fix="correct the keys; examples are in catalogs/",
            )
        bands, each = entry.get("bands"), "[^/]+?"
        if "{band}" in entry["pattern"] and bands is not None:  # a file for each of them
            each, bands = "|".join(map(re.escape, bands)), None
        pattern = re.escape(entry["pattern"]).replace(r"\{id\}", "(?P<id>[^/]+?)")
        pattern = pattern.replace(r"\{band\}", f"(?P<band>{each})")
        whole = bands is not None and not isinstance(bands, Mapping)
        if whole:
            bands = {name: number for number, name in enumerate(bands, start=1)}
        stated = {"scale", "offset"} & set(entry)
        rules.append(
            Rule(
                get_sensor(entry["sensor"]),
                re.compile(pattern),
                bands,
                whole,
                Calibration(float(entry.get("scale", 1.0)), float(entry.get("offset", 0.0))) if stated else None,
                tuple(float(v) for v in entry.get("nodata", ())),
                entry.get("id", "{id}"),
                None if entry.get("datetime") is None else str(entry["datetime"]),
                entry["pattern"],
            )
        )
    return rules


def scan(folder: Path, rules: Sequence[Rule]) -> Iterator[Found]:
    """Find the files of a folder and its subfolders that belong to a sensor.

    Raises:
        CatalogError: a file has other bands than its rule says.
        GridError: a file is not georeferenced.
        ReadError: a file cannot be opened.
    """
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        for rule in rules:
            match = rule.pattern.fullmatch(path.relative_to(folder).as_posix())
            if match is None:
                continue
            named = match.groupdict()
            single = named.get("band") or (f"B{named['number']}" if named.get("number") else None)
            if named.get("number") and single not in {b.name for b in rule.sensor.bands}:
                continue
            header = probe(path)
            if single is not None:
                band = rule.sensor.band(single).name
                bands = {1: band}
            else:
                band = rule.sensor.name
                bands = _bands(rule, header, path)
            yield Found(rule.item.replace("{id}", match["id"]), match["id"], band, path, header, bands, rule)


def _bands(rule: Rule, header: Header, path: Path) -> dict[int, str]:
    count = len(header.dtypes)
    if rule.bands is not None:
        bands = {number: name for name, number in rule.bands.items()}
        if (len(bands) != count) if rule.whole else (max(bands) > count):
            raise _other_number(path, count, f"{max(bands)} expected ({', '.join(rule.bands)})")
        return bands
    names = header.descriptions if not rule.sensor.bands else rule.sensor.band_names()
    if len(names) != count:
        raise _other_number(path, count, f"{len(names)} expected ({', '.join(names)})")
    return dict(enumerate(names, start=1))


def _other_number(path: Path, count: int, expected: str) -> CatalogError:
    return CatalogError(
        "the file has another number of bands than the sensor",
        where=str(path),
        why=f"{count} in the file, {expected}",
        fix="list the bands of the file in a catalog definition, or as name: number those that you want",
    )
