"""From torchgeo: the files of its data sets as scenes for a cube."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Sequence
from typing import Any

from geomm.catalog import BandSource, Scene, parse_interval
from geomm.errors import CatalogError, ConfigError, SourceWarning
from geomm.sensors import SensorSpec, get_sensor


def from_torchgeo(dataset: Any, sensor: str | Sequence[str], *, time: str | dt.date | None = None) -> list[Scene]:
    """Return the files of a torchgeo ``RasterDataset`` as scenes, for :func:`geomm.load_cube`.

    Args:
        dataset: one file for every image, or one for every band (``separate_files``); of labels too
            (``is_image = False``, such as for the sensor ``landcover``); or an ``&`` or ``|`` of such data sets.
        sensor: what it is, for geomm; of several data sets, of each in their order.
        time: of files whose names hold no date, such as ``2020-06-01T10:10Z``; without, 1970, and a warning for images.

    Raises:
        CatalogError: its files do not say which bands they hold.
        ConfigError: as many sensors as data sets are needed; or it is no data set of files.
    """
    parts, when = _leaves(dataset), parse_interval(time)[0]
    names = list(sensor) if isinstance(sensor, Sequence) and not isinstance(sensor, str) else [sensor] * len(parts)
    odd = next((type(p).__name__ for p in parts if not hasattr(p, "filename_regex")), None)
    if len(names) != len(parts) or odd:
        raise ConfigError(
            "every data set of files has a sensor" if not odd else "the data set has no files",
            why=f"{len(names)} sensors, data sets {', '.join(type(p).__name__ for p in parts)}",
            fix="name a sensor for each; of plain files, geomm.build_catalog(FOLDER, OUT, sensors=[...])",
        )
    return [scene for part, name in zip(parts, names, strict=True) for scene in _scenes(part, get_sensor(name), when)]


def _leaves(dataset: Any) -> list[Any]:
    """Return the data sets of files that a data set is made of."""
    return [leaf for d in dataset.datasets for leaf in _leaves(d)] if hasattr(dataset, "datasets") else [dataset]


def _scenes(dataset: Any, spec: SensorSpec, when: dt.datetime | None) -> list[Scene]:
    scenes = []
    pattern = re.compile(dataset.filename_regex, re.VERBOSE)
    for number, (interval, row) in enumerate(dataset.index.to_crs("EPSG:4326").iterrows()):
        bands = tuple(getattr(dataset, "all_bands", ()) or dataset.bands or ())
        if not bands and len(spec.bands) == 1:
            bands = (spec.bands[0].name,)
        files = dict.fromkeys(bands, row.filepath) or {"1": row.filepath}
        found = pattern.match(str(row.filepath).rsplit("/", 1)[-1])
        if dataset.separate_files and found and "band" in found.groupdict():
            head, _, name = str(row.filepath).rpartition("/")
            start, end = found.span("band")
            files = {b: f"{head}/{name[:start]}{b}{name[end:]}" for b in bands}
        known = {key: b.name for b in spec.bands for key in (*b.assets, b.name)}
        if spec.bands and not set(files) <= set(known):
            raise CatalogError(
                "the data set's bands are not those of the sensor",
                where=f"{type(dataset).__name__}, sensor {spec.name}",
                why=f"it has {', '.join(files)}; the sensor has {', '.join(b.name for b in spec.bands)}",
                fix="name the bands: all_bands = (...) in its class",
            )
        name = f"{type(dataset).__name__}-{number}"
        sources = {
            known.get(str(band), str(band)): BandSource(
                str(href),
                1 if dataset.separate_files or not bands else bands.index(band) + 1,
                nodata=_nodata(dataset, spec, band),
                calibration=spec.band(band).calibration,
                item=name,
                asset=band,
            )
            for band, href in files.items()
        }
        scenes.append(
            Scene(
                name,
                spec.name,
                _time_of(dataset, interval, when, row.filepath),
                row.geometry.bounds,
                row.geometry.__geo_interface__,
                sources,
            )
        )
    return scenes


def _time_of(dataset: Any, interval: Any, when: dt.datetime | None, path: Any) -> dt.datetime:
    """Return the time of a file; torchgeo gives those without a date the whole of time."""
    if interval.left.year >= 1900:
        found: dt.datetime = interval.left.floor("us").to_pydatetime().replace(tzinfo=dt.UTC)
        return found
    if when is None and getattr(dataset, "is_image", True):
        warnings.warn(
            f"{path} has no date, {type(dataset).__name__}.filename_regex has no such group: its time is 1970. "
            'Give one: from_torchgeo(dataset, sensor, time="2020-06-01T10:10Z"), or a group (?P<date>...).',
            SourceWarning,
            stacklevel=4,
        )
    return when or dt.datetime(1970, 1, 1, tzinfo=dt.UTC)  # labels hold at any time


def _nodata(dataset: Any, spec: SensorSpec, band: str) -> tuple[float, ...]:
    """Return what a data set says is no data, else what the sensor's files have."""
    said = getattr(dataset, "nodata", None)
    value = spec.band(band).nodata if said is None else said
    return () if value is None else (float(value),)
