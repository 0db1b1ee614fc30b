"""Load scenes onto a grid, lazily."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from operator import getitem
from typing import Any, Literal

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geomm.catalog import Scene
from geomm.cube.arguments import check_codes, check_load, scenes_of
from geomm.cube.calibrate import CALIBRATION
from geomm.cube.grid import coords_of
from geomm.cube.items import told_items
from geomm.cube.plan import STATUS, Plan, reach, time_steps
from geomm.cube.read import SourceReader
from geomm.cube.show import Cube
from geomm.errors import CatalogError, GridError, MissingBandError, ReadError, SourceWarning, UnitError
from geomm.sensors import QualityRule, SensorSpec, get_sensor
from geomm.types import Modality


def load_cube(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    modalities: Mapping[str, Modality] | None = None,
    *,
    chunks: int = 512,
    quality: Literal["apply", "ignore"] | Sequence[int] = "apply",
    errors: Literal["report", "raise"] = "report",
    dtype: Literal["float32", "float64"] | None = None,
    reader: SourceReader | None = None,
) -> Cube:
    """Load scenes as a lazy cube.

    Args:
        scenes: of any sensors; those of one sensor, solar day and calibration become one time step, first valid
            pixel first (sorted by time and id). A pixel comes whole, with all its bands, from one scene.
        geobox: the one grid; see :func:`geomm.common_geobox`.
        modalities: name to sensor and bands; default one modality per sensor with all bands that its scenes share.
        chunks: block size in pixels along ``y`` and ``x``.
        quality: whether the sensor's own quality band, where scenes have it, makes pixels invalid; or which classes
            (Sentinel-2 SCL) or bits (Landsat QA_PIXEL) do.
        errors: ``report`` marks the pixels of a source that cannot be read in ``status`` and warns; ``raise`` raises.
        dtype: of the data, NaN where there is no pixel; default as stored, to which interpolated integers are rounded.
            Classes and bits stay as stored.
        reader: reads the sources; tests pass one that counts.

    Returns:
        One node per modality with ``data (time, band, y, x)`` in that dtype, ``status (time, y, x)`` (0 outside
        every source, 1 nodata, 2 excluded by the quality band, such as cloud, 3 source unreadable, 4 valid), ``valid``
        (True where usable) and the calibration; the root shares
        ``y`` and ``x``. Attributes ``sensor``, ``units``, ``kind``, ``items`` and ``times`` (ids by time step) and
        ``sources`` (item id and file of every band).

    Raises:
        CatalogError: no scene, or none for a modality.
        ConfigError: an argument of another kind, such as a path in place of scenes.
        MissingBandError: a scene lacks a band.
        GridError: no scene overlaps the grid, or the grid is rotated.
        ReadError: at computing, a source that cannot be read, if ``errors`` is ``raise``.
    """
    scenes = scenes_of(scenes)
    check_load(geobox, modalities=modalities, chunks=chunks, quality=quality, errors=errors, dtype=dtype)
    wanted = modalities or {name: Modality(name) for name in dict.fromkeys(s.sensor for s in scenes)}
    settings: dict[str, Any] = {"chunk": chunks, "errors": errors, "reader": reader or SourceReader()}
    root = xr.Dataset(coords=coords_of(geobox))
    crs = root[["spatial_ref"]].coords  # a tree hands down y and x, but not what has no dimension
    plans = {name: _plan(name, m, scenes, geobox, quality, settings, dtype) for name, m in wanted.items()}
    nodes = {name: _node(plan).assign_coords(crs) for name, plan in plans.items()}
    return Cube.from_dict({"/": root, **nodes})


def _plan(
    name: str,
    modality: Modality,
    scenes: Sequence[Scene],
    geobox: GeoBox,
    quality: Any,
    settings: Mapping[str, Any],
    dtype: str | None,
) -> Plan:
    """Decide everything about a modality that can be decided without reading pixels."""
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
    one_unit(sensor, bands, name)
    rule = _rule(sensor, mine, quality)
    extra = (rule.band,) if rule and rule.band not in bands else ()
    located = [_located(s.only((*bands, *(b for b in extra if b in s.bands))), settings["reader"]) for s in mine]
    inside = [(s, w) for s in located if (w := _reach(s, geobox)) is not None]
    if not inside:
        raise GridError(
            "no scene overlaps the grid",
            where=f"sensor {sensor.name}, items {', '.join(s.id for s in mine[:3])}",
            why=f"the grid covers {_rounded(geobox.geographic_extent.boundingbox.bbox)}, "
            f"the first scene {_rounded(mine[0].bbox)}",
            fix="choose the grid from these scenes: common_geobox(scenes)",
        )
    windows = {id(s): w for s, w in inside}
    steps = time_steps([s for s, _ in inside], bands)
    types = {s.bands[b].dtype for s, _ in inside for b in bands} - {None}
    if dtype and not any(sensor.band(b).kind in ("class", "bits") for b in bands):
        types, fill = {dtype}, (float("nan"),) * len(bands)
    else:
        fill = tuple(_fill(inside[0][0].bands[b].nodata, types) for b in bands)
    return Plan(
        geobox=geobox,
        sensor=sensor.name,
        bands=bands,
        steps=tuple(map(tuple, steps)),
        windows=tuple(tuple(windows[id(s)] for s in step) for step in steps),
        dtype=str(np.result_type(*types)) if types else "float32",
        fill=fill,
        rule=rule,
        invalid=None if isinstance(quality, str) else tuple(quality),
        **settings,
    )


def _node(plan: Plan) -> xr.Dataset:
    """Wrap a plan into lazy arrays: one task per block and time step, whatever the number of bands."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    sensor = get_sensor(plan.sensor)
    height, width = plan.geobox.shape
    along = [tuple(min(plan.chunk, n - k) for k in range(0, n, plan.chunk)) for n in (height, width)]
    keys = [(t, r, c) for t in range(len(plan.steps)) for r in range(len(along[0])) for c in range(len(along[1]))]
    token = tokenize(plan)
    read, data, status = (f"geomm-{part}-{token}" for part in ("read", "data", "status"))
    layers: dict[str, Any] = {
        read: {f"plan-{token}": plan, **{(read, *k): (Plan.block, f"plan-{token}", *k) for k in keys}},
        data: {(data, t, 0, r, c): (getitem, (read, t, r, c), 0) for t, r, c in keys},
        status: {(status, t, r, c): (getitem, (read, t, r, c), 1) for t, r, c in keys},
    }
    times = (1,) * len(plan.steps)

    def array(name: str, chunks: Any, dtype: Any) -> Any:
        graph = HighLevelGraph({name: layers[name], read: layers[read]}, {name: {read}, read: set()})
        return da.Array(graph, name, chunks, dtype=dtype)

    table = np.array([[_coefficients(s[0], b) for b in plan.bands] for s in plan.steps], dtype="float64")
    how = xr.DataArray(
        array(status, (times, *along), "uint8"),
        dims=("time", "y", "x"),
        attrs={"flag_values": list(STATUS.values()), "flag_meanings": " ".join(STATUS)},
    )
    stamps = np.array([s[0].time.replace(tzinfo=None) for s in plan.steps], "datetime64[ns]")
    return xr.Dataset(
        {
            "data": (
                ("time", "band", "y", "x"),
                array(data, (times, (len(plan.bands),), *along), plan.dtype),
                _nodata(plan),
            ),
            "status": how,
            "valid": (how == STATUS["valid"]).drop_attrs(),
        },
        coords={
            "time": ("time", stamps),
            "band": list(plan.bands),
            **{key: (("time", "band"), table[..., k]) for k, key in enumerate(CALIBRATION)},
        },
        attrs={
            "sensor": plan.sensor,
            "units": one_unit(sensor, plan.bands, plan.sensor),
            "kind": sensor.band(plan.bands[0]).kind,
            **_remark(sensor, plan),
            **told_items([[s.id for s in step] for step in plan.steps], stamps),
            "sources": [f"{s.id} {s.bands[b].href}" for step in plan.steps for s in step for b in s.bands],
        },
    )


def _nodata(plan: Plan) -> dict[str, float]:
    """Return what rioxarray and odc-geo call nodata, where the files declare one number for all bands."""
    declared = [plan.steps[0][0].bands[b].nodata for b in plan.bands]
    fill = plan.fill[0]
    same = all(str(f) == str(fill) for f in plan.fill)
    told = same and (np.isnan(fill) or all(fill in numbers for numbers in declared))
    return {"nodata": fill} if told else {}


def _remark(sensor: SensorSpec, plan: Plan) -> dict[str, str]:
    """Say so where top-of-atmosphere reflectance could not be brought to the sun in the zenith."""
    scenes = [s for step in plan.steps for s in step]
    nominal = any(s.bands[b].calibration == sensor.band(b).calibration for s in scenes for b in plan.bands)
    if not (sensor.top_of_atmosphere and nominal):
        return {}
    return {"remark": "the sun's elevation is unknown: reflectance is too low by its sine"}


def _offered(scenes: Sequence[Scene], sensor: SensorSpec) -> tuple[str, ...]:
    """Bands that every scene has, without the quality band."""
    skip = sensor.quality.band if sensor.quality else None
    shared = tuple(b for b in scenes[0].bands if b != skip and all(b in s.bands for s in scenes))
    if not shared:
        raise MissingBandError(
            "the scenes share no band",
            where=f"sensor {sensor.name}, items {', '.join(s.id for s in scenes[:3])}",
            why="; ".join(f"{s.id}: {', '.join(s.bands)}" for s in scenes[:3]),
            fix="name the bands of the modality, or search for other scenes",
        )
    return shared


def _located(scene: Scene, reader: SourceReader) -> Scene:
    """Fill in from the files what the catalog does not say; a file that cannot be opened is left for the block."""
    found = {}
    for name, source in scene.bands.items():
        if source.grid is None or source.dtype is None:
            try:
                layout = reader.layout(source)
            except ReadError:
                continue
            grid, dtype = source.grid or layout.grid, source.dtype or layout.dtypes[source.index - 1]
            found[name] = dataclasses.replace(source, grid=grid, dtype=dtype)
    return dataclasses.replace(scene, bands={**scene.bands, **found}) if found else scene


def _reach(scene: Scene, geobox: GeoBox) -> Any:
    """Return the window in which any band of a scene may have pixels."""
    windows = [w for g in {s.grid for s in scene.bands.values()} if (w := reach(g, scene.bbox, geobox)) is not None]
    return max(windows, key=lambda w: w.height * w.width, default=None)


def _rule(sensor: SensorSpec, scenes: Sequence[Scene], quality: Any) -> QualityRule | None:
    """Return the quality rule if any scene can follow it; warn of those that cannot."""
    rule = sensor.quality
    if rule is None or quality == "ignore":
        return None
    if not isinstance(quality, str):
        check_codes(quality, rule)
    lacking = [s.id for s in scenes if rule.band not in s.bands]
    if lacking and len(lacking) < len(scenes):
        warnings.warn(
            f"{len(lacking)} of {len(scenes)} scenes of {sensor.name} have no {rule.band} ({', '.join(lacking[:3])}): "
            "their clouds stay valid.",
            SourceWarning,
            stacklevel=4,
        )
    return rule if len(lacking) < len(scenes) else None


def _fill(nodata: tuple[float, ...], types: set[Any]) -> float:
    """What stands where there is no pixel: the first nodata value that the dtype can hold, else 0 or NaN."""
    kind = np.result_type(*types) if types else np.dtype("float32")
    if kind.kind == "f":
        return nodata[0] if nodata else float("nan")
    limits = np.iinfo(kind)
    return next((v for v in nodata if np.isfinite(v) and limits.min <= v <= limits.max), 0.0)


def _coefficients(scene: Scene, band: str) -> tuple[float, float, float, float]:
    c = scene.bands[band].calibration
    k1, k2 = (float("nan") if k is None else k for k in (c.k1, c.k2))
    return c.scale, c.offset, k1, k2


def one_unit(sensor: SensorSpec, bands: Sequence[str], name: str) -> str:
    """Return the unit of some bands of a modality.

    Raises:
        UnitError: there are several.
    """
    units = {sensor.band(b).unit for b in bands}
    if len(units) > 1:
        raise UnitError(
            "one modality holds one unit",
            where=f"modality {name}, sensor {sensor.name}",
            why=f"its bands are in {', '.join(sorted(units))}",
            fix="make a modality of each unit",
        )
    return units.pop()


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)
