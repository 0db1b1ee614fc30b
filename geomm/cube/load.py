"""Load scenes onto a grid, lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geomm import radiometry
from geomm.catalog import Scene, to_stac_items
from geomm.cube.grid import aligned, source_geobox
from geomm.cube.read import CheckedDriver
from geomm.errors import CatalogError, ConfigError, GridError, UnitError
from geomm.sensors import RESAMPLING, SensorSpec, get_sensor
from geomm.types import Modality

CALIBRATION = ("scale", "offset", "k1", "k2")


def load_cube(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    modalities: Mapping[str, Modality] | None = None,
    *,
    chunks: int = 512,
    quality: Literal["apply", "ignore"] = "apply",
    driver: CheckedDriver | None = None,
) -> xr.DataTree:
    """Load scenes as a lazy cube.

    Args:
        scenes: of any sensors; those of one sensor, solar day and calibration become one time step, first valid
            pixel first (sorted by time and id).
        geobox: the one grid; see :func:`geomm.common_geobox`.
        modalities: name to sensor and bands; default one modality per sensor with all bands that its scenes share.
        chunks: block size in pixels along ``y`` and ``x``.
        quality: whether the sensor's own quality band, where scenes have it, makes pixels invalid.
        driver: reads the sources; tests pass one that counts.

    Returns:
        One node per modality with ``data (time, band, y, x)``, ``valid (time, y, x)`` and the calibration; the
        root shares ``y`` and ``x``. Attributes ``sensor``, ``units``, ``kind`` and ``items`` (sources in order).

    Raises:
        CatalogError: no scene for a modality.
        MissingBandError: a scene lacks a band.
        GridError: no scene overlaps the grid, or backscatter in dB would have to be resampled.
        ReadError: at computing, a source that cannot be read.
    """
    reserved = {"x", "y", "time", "band", "spatial_ref"} & set(modalities or ())
    if reserved:
        raise ConfigError(f"a modality cannot be named {min(reserved)}", why="it is the name of a coordinate")
    wanted = modalities or {name: Modality(name) for name in dict.fromkeys(s.sensor for s in scenes)}
    options: dict[str, Any] = {"quality": quality, "chunks": chunks, "driver": driver or CheckedDriver()}
    nodes = {name: _load(name, modality, scenes, geobox, **options) for name, modality in wanted.items()}
    root = xr.Dataset(coords=xr_coords(geobox))
    return xr.DataTree.from_dict({"/": root, **nodes})


def calibrated(cube: xr.DataTree | xr.Dataset) -> Any:
    """Return the cube in physical units, lazily: float32, NaN where invalid, without the calibration coordinates."""
    if isinstance(cube, xr.DataTree):
        return xr.DataTree.from_dict(
            {"/": cube.to_dataset(), **{n: calibrated(c.to_dataset()) for n, c in cube.children.items()}}
        )
    parts = [cube[name] for name in CALIBRATION]
    planck = bool(np.isfinite(cube.k1).any())
    value = radiometry.to_physical(cube.data.astype("float32"), *(parts if planck else parts[:2]))
    physical = value.where(cube.valid).astype("float32").transpose(*cube.data.dims)
    return cube.drop_vars(CALIBRATION).assign(data=physical.assign_attrs(cube.data.attrs))


def _load(
    name: str,
    modality: Modality,
    scenes: Sequence[Scene],
    geobox: GeoBox,
    *,
    chunks: int,
    quality: str,
    driver: CheckedDriver,
) -> xr.Dataset:
    import odc.stac

    sensor = get_sensor(modality.sensor)
    mine = [s for s in scenes if s.sensor == sensor.name]
    if not mine:
        raise CatalogError(
            f"there is no scene for modality {name}",
            where=f"sensor {sensor.name}",
            why=f"the scenes are of {', '.join(sorted({s.sensor for s in scenes})) or 'nothing'}",
            fix="widen the search or drop the modality",
        )
    bands = tuple(sensor.band(b).name for b in modality.bands) or _offered(mine, sensor)
    for scene in mine:
        _check(scene.only(bands), sensor, geobox, name)
    mine = _overlapping(mine, geobox)
    rule = sensor.quality if quality == "apply" and all(_has_quality(s, sensor) for s in mine) else None
    to_read = (*bands, rule.band) if rule and rule.band not in bands else bands

    groups = _time_steps(mine, bands)
    step = {id(scene): k for k, group in enumerate(groups) for scene in group}
    ordered = [scene for group in groups for scene in group]
    items, address = to_stac_items(ordered, to_read)
    pixels = odc.stac.load(
        items,
        bands=[address[b] for b in to_read],
        geobox=geobox,
        groupby=lambda _item, _parsed, index: step[id(ordered[index])],
        resampling={address[b]: _resampling(sensor, b, mine[0], geobox) for b in to_read},
        chunks={"time": 1, "x": chunks, "y": chunks},
        driver=driver,
    )
    layers = {b: pixels[address[b]].drop_vars("spatial_ref", errors="ignore") for b in to_read}
    valid = xr.concat([_present(layers[b]) for b in bands], "band", **_EXACT).all("band")
    if rule:
        usable = radiometry.valid_from_qa_pixel if rule.rule == "qa_pixel" else radiometry.valid_from_scl
        valid = valid & usable(layers[rule.band])
    data = xr.concat([layers[b] for b in bands], "band", **_EXACT).transpose("time", "band", "y", "x")
    data.attrs.clear()
    table = np.array([[_coefficients(group[0], b) for b in bands] for group in groups], dtype="float64")
    first = sensor.band(bands[0])
    return xr.Dataset(
        {"data": data, "valid": valid.transpose("time", "y", "x")},
        coords={
            "band": list(bands),
            **{key: (("time", "band"), table[..., k]) for k, key in enumerate(CALIBRATION)},
        },
        attrs={
            "sensor": sensor.name,
            "units": _one_unit(sensor, bands, name),
            "kind": first.kind,
            "items": [[s.id for s in group] for group in groups],
            "hrefs": [s.href for s in ordered],
        },
    ).drop_vars("spatial_ref", errors="ignore")


def _offered(scenes: Sequence[Scene], sensor: SensorSpec) -> tuple[str, ...]:
    """Bands that every scene has, without the quality band."""
    skip = sensor.quality.band if sensor.quality else None
    return tuple(b for b in scenes[0].bands if b != skip and all(b in s.bands for s in scenes))


_EXACT: dict[str, Any] = {"coords": "minimal", "compat": "override", "join": "override"}


def _check(scene: Scene, sensor: SensorSpec, geobox: GeoBox, name: str) -> None:
    """Refuse what can only be loaded wrongly: dB on another grid (mean of logarithms)."""
    for band, source in scene.bands.items():
        if sensor.band(band).kind == "db" and not aligned(source_geobox(source), geobox):
            raise GridError(
                "backscatter in dB cannot be resampled",
                where=f"modality {name}, item {scene.id}, band {band}",
                why="its pixels do not coincide with the grid, and the mean of decibels is biased low",
                fix="use the scene's own grid, or provide linear power",
            )


def _overlapping(scenes: Sequence[Scene], geobox: GeoBox) -> list[Scene]:
    extent = geobox.geographic_extent.boundingbox
    inside = [
        s
        for s in scenes
        if s.bbox[0] < extent.right and extent.left < s.bbox[2] and s.bbox[1] < extent.top and extent.bottom < s.bbox[3]
    ]
    if not inside:
        raise GridError(
            "no scene overlaps the grid",
            where=f"sensor {scenes[0].sensor}, items {', '.join(s.id for s in scenes[:3])}",
            why=f"the grid covers {tuple(round(v, 4) for v in extent.bbox)}, the first scene {scenes[0].bbox}",
            fix="choose the grid from these scenes: common_geobox(scenes)",
        )
    return inside


def _has_quality(scene: Scene, sensor: SensorSpec) -> bool:
    return sensor.quality is not None and sensor.quality.band in scene.bands


def _time_steps(scenes: Sequence[Scene], bands: Sequence[str]) -> list[list[Scene]]:
    """Group scenes of one solar day and one calibration, in order of time."""
    groups: dict[tuple[object, ...], list[Scene]] = {}
    for scene in sorted(scenes, key=lambda s: (s.time, s.id)):
        shift = np.timedelta64(round((scene.bbox[0] + scene.bbox[2]) / 2 / 15 * 3600), "s")
        day = (np.datetime64(scene.time.replace(tzinfo=None)) + shift).astype("datetime64[D]")
        groups.setdefault((str(day), *(str(scene.bands[b].calibration) for b in bands)), []).append(scene)
    return list(groups.values())


def _resampling(sensor: SensorSpec, band: str, scene: Scene, geobox: GeoBox) -> str:
    spec = sensor.band(band)
    native = source_geobox(scene.source(band))
    finer, coarser = RESAMPLING[spec.kind]
    if native.crs != geobox.crs:
        native = native.to_crs(geobox.crs)
    return coarser if abs(geobox.resolution.x) >= 1.5 * abs(native.resolution.x) else finer


def _present(layer: xr.DataArray) -> Any:
    nodata = layer.attrs.get("nodata")
    if layer.dtype.kind == "f":
        finite = np.isfinite(layer)
        return finite if nodata is None or np.isnan(nodata) else finite & (layer != nodata)
    assert nodata is not None
    return layer != nodata


def _coefficients(scene: Scene, band: str) -> tuple[float, float, float, float]:
    c = scene.bands[band].calibration
    return c.scale, c.offset, c.k1, c.k2


def _one_unit(sensor: SensorSpec, bands: Sequence[str], name: str) -> str:
    units = {sensor.band(b).unit for b in bands}
    if len(units) > 1:
        raise UnitError(
            "one modality holds one unit",
            where=f"modality {name}, sensor {sensor.name}",
            why=f"its bands are in {', '.join(sorted(units))}",
            fix="make a modality of each unit",
        )
    return units.pop()
