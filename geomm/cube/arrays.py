"""Arrays that somebody else opened, as a cube: of rioxarray, odc-stac or your own, lazy ones stay lazy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geomm.cube.arguments import check_arrays, check_even
from geomm.cube.calibrate import CALIBRATION
from geomm.cube.grid import SNAP_TOLERANCE, coords_of
from geomm.cube.items import told_items
from geomm.cube.load import one_unit
from geomm.cube.plan import STATUS, usable
from geomm.cube.show import Cube
from geomm.errors import ConfigError, GridError, MissingBandError
from geomm.radiometry import Calibration
from geomm.sensors import RESAMPLING, SensorSpec, get_sensor
from geomm.types import Modality

type Array = xr.DataArray | xr.Dataset
"""Imagery with coordinates in a CRS; the variables of a data set are its bands."""


def from_xarray(
    arrays: Mapping[str, Array],
    sensors: Mapping[str, str | Modality] | None = None,
    *,
    geobox: GeoBox | None = None,
    time: str | dt.datetime | np.datetime64 | None = None,
    calibration: Mapping[str, Calibration] | None = None,
) -> Cube:
    """Make a cube of arrays that are on one grid already.

    Args:
        arrays: name of a modality to its array: ``y`` and ``x`` in a CRS, with or without ``band`` and ``time``, as
            ``rioxarray.open_rasterio`` and ``odc.stac.load`` give them. Nothing is read.
        sensors: name of a modality to its sensor, default ``generic``; or to a :class:`geomm.Modality`, whose bands are
            chosen by name where the array names them, else are the names of the array's bands in their order.
        geobox: the grid, default that of the first array; larger arrays on its lattice are cut to it.
        time: of arrays without any; default the first time of the others.
        calibration: of modalities whose stored numbers are calibrated otherwise. Without: coordinates ``scale``,
            ``offset``, ``k1`` and ``k2``, or ``scale_factor`` and ``add_offset``, of the array; else none where it
            holds floats, which are taken for physical values, and that of the sensor where it holds integers, or those
            of its file with NaN for nodata (``masked=True``).

    Returns:
        What :func:`geomm.load_cube` returns: ``data``, ``status`` and ``valid`` of every modality. A pixel is valid if
        no band of it is NaN or nodata (``_FillValue``, else that of the sensor), and the sensor's own quality band, if
        the array has it, says so too.

    Raises:
        ConfigError: no array, no time, other dimensions.
        GridError: an array without a CRS, or on another grid; the message says how to bring it there.
        MissingBandError: its bands are not named, or not those of the sensor.
        UnitError: the bands of a modality are in several units.
    """
    check_arrays(arrays, sensors or {}, calibration or {})
    chosen = {n: _modality((sensors or {}).get(n, "generic")) for n in arrays}
    known = {n: _standard(n, array) for n, array in arrays.items()}
    target = geobox or _upright(next(iter(known.values()))).odc.geobox
    placed = {n: _on_grid(n, array, target, chosen[n]) for n, array in known.items()}
    when = _stamp(time, placed)
    nodes = {
        n: _node(n, array.assign_coords(time=[when]) if "time" not in array.coords else array, chosen[n],
                 (calibration or {}).get(n))
        for n, array in placed.items()
    }  # fmt: skip
    return Cube.from_dict({"/": xr.Dataset(coords=coords_of(target)), **nodes})


def _modality(given: str | Modality) -> Modality:
    return given if isinstance(given, Modality) else Modality(given)


def _standard(name: str, given: Array) -> xr.DataArray:
    """Return an array with dimensions ``time``, ``band``, ``y`` and ``x``."""
    import odc.geo.xr  # noqa: F401 - the accessor

    array = _stacked(given) if isinstance(given, xr.Dataset) else given
    if not isinstance(array, xr.DataArray):
        raise ConfigError(f"modality {name} is no array", where=type(given).__name__, fix="a DataArray or a Dataset")
    check_even(array)
    grid = array.odc.geobox
    if grid is None or grid.crs is None or not isinstance(grid, GeoBox):
        raise GridError(
            f"the array of {name} has no grid",
            why=f"its dimensions are {', '.join(map(str, array.dims))}, without regular coordinates or without a CRS",
            fix=f'say which it is: arrays["{name}"].odc.assign_crs("EPSG:32632")',
        )
    rows, columns = array.odc.spatial_dims
    array = array.rename({a: b for a, b in ((rows, "y"), (columns, "x")) if a != b})
    other = set(array.dims) - {"time", "band", "y", "x"}
    if other:
        raise ConfigError(
            f"the array of {name} has a dimension too many",
            why=", ".join(map(str, sorted(other, key=str))),
            fix="choose one of it (.isel), or rename it to time or band",
        )
    if "time" in array.coords and "time" not in array.dims:
        array = array.expand_dims("time")
    array = array if "time" in array.dims else array.expand_dims("time")
    array = array if "band" in array.dims else array.expand_dims("band")
    return array.transpose("time", "band", "y", "x")


def _stacked(given: xr.Dataset) -> xr.DataArray:
    """Return the variables of a data set as bands, with the attributes that they share."""
    parts = [v for v in given.data_vars.values() if {"x", "longitude", "lon"} & set(map(str, v.dims))]
    if not parts:
        raise ConfigError(
            "the data set has no imagery",
            why=f"its variables are {', '.join(map(str, given)) or 'none'}",
            fix="give variables of y and x, one for each band",
        )
    nodata = {str(p.odc.nodata) for p in parts}
    if len(nodata) > 1:
        parts = [p.where(p != p.odc.nodata) if p.odc.nodata is not None else p for p in parts]
    whole = xr.concat(parts, "band", combine_attrs="drop_conflicts", coords="minimal", compat="override")
    whole = whole.assign_coords(band=[str(p.name) for p in parts])
    if len(nodata) == 1 and parts[0].odc.nodata is not None:
        whole.attrs["_FillValue"] = parts[0].odc.nodata
    return whole


def _upright(array: xr.DataArray) -> xr.DataArray:
    """Return an array whose rows go south, as those of every cube."""
    return array.isel(y=slice(None, None, -1)) if array.odc.geobox.resolution.y > 0 else array


def _on_grid(name: str, given: xr.DataArray, target: GeoBox, modality: Modality) -> xr.DataArray:
    """Return the part of an array that is a grid.

    Raises:
        GridError: it does not lie on it.
    """
    array = _upright(given)
    grid = array.odc.geobox
    step = ~grid.affine @ target.affine
    row, column = round(step.f), round(step.c)
    moved = max(abs(step.f - row), abs(step.c - column))
    height, width = (int(n) for n in target.shape)
    scaled = max(abs(step.a - 1) * width, abs(step.e - 1) * height, abs(step.b) * height, abs(step.d) * width)
    inside = 0 <= row <= grid.shape[0] - height and 0 <= column <= grid.shape[1] - width
    if grid.crs != target.crs or max(moved, scaled) > SNAP_TOLERANCE or not inside:
        kind = get_sensor(modality.sensor).band(next(iter(modality.bands), "1")).kind if modality.bands else None
        finer, coarser = RESAMPLING[kind or "continuous"]
        how = {"conservative": "average", "or": "nearest"}.get(coarser if abs(step.a) > 1 else finer, finer)
        raise GridError(
            f"the array of {name} is not on the grid of the cube",
            why=f"it is {_told(grid)}; the grid is {_told(target)}",
            fix=f'bring it there: arrays["{name}"].odc.reproject(geobox, resampling="{how}"), classes by "nearest"; '
            "or load its files by geomm.load_cube, which resamples every band by its kind",
        )
    array = array.isel(y=slice(row, row + height), x=slice(column, column + width))
    return array.drop_vars(["y", "x"], errors="ignore").assign_coords(coords_of(target))


def _told(grid: GeoBox) -> str:
    a = grid.affine
    return f"{grid.shape[0]} x {grid.shape[1]} pixels of {a.a:g} x {a.e:g} from {a.c:.10g}, {a.f:.10g} in {grid.crs}"


def _stamp(time: str | dt.datetime | np.datetime64 | None, arrays: Mapping[str, xr.DataArray]) -> np.datetime64:
    """Return the time of arrays without any.

    Raises:
        ConfigError: it is not known.
    """
    if time is None:
        times = [a["time"].to_numpy().min() for a in arrays.values() if "time" in a.coords]
        if times:
            return np.datetime64(min(times), "ns")
        raise ConfigError("the time of the imagery is not known", fix='give it: time="2024-05-31"')
    if isinstance(time, np.datetime64):
        return np.datetime64(time, "ns")
    try:
        moment = dt.datetime.fromisoformat(time) if isinstance(time, str) else time
        plain = moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, AttributeError) as error:
        fix = 'write time="2024-05-31T10:00Z", or give a datetime'
        raise ConfigError("the time cannot be understood", where=repr(time)[:60], fix=fix) from error
    return np.datetime64(plain, "ns")


def _node(name: str, array: xr.DataArray, modality: Modality, given: Calibration | None) -> xr.Dataset:
    """Return the node of a modality."""
    sensor = get_sensor(modality.sensor)
    rule = sensor.quality
    array = array.assign_coords(band=_names(name, array, sensor, modality))
    quality = array.sel(band=rule.band) if rule is not None and rule.band in array["band"].to_numpy() else None
    wanted = modality.bands and tuple(sensor.band(b).name for b in modality.bands)
    skip = rule.band if rule is not None else None
    bands = wanted or tuple(str(b) for b in array["band"].to_numpy() if b != skip)
    data = array.sel(band=list(bands))
    status = _status(data, sensor, bands)
    if quality is not None and rule is not None:
        flags = xr.apply_ufunc(
            lambda v: usable(rule, v.astype(np.uint16), None), quality, dask="parallelized", output_dtypes=[bool]
        )
        status = status.where(flags | (status != STATUS["valid"]), np.uint8(STATUS["quality"]))
    status = status.transpose("time", "y", "x").drop_vars("band", errors="ignore")
    status.attrs = {"flag_values": list(STATUS.values()), "flag_meanings": " ".join(STATUS)}
    table = _table(data, sensor, bands, given)
    kept = {k: data.coords[k] for k in ("time", "y", "x", "spatial_ref")}
    told = {} if data.odc.nodata is None else {"nodata": data.odc.nodata}
    return xr.Dataset(
        {
            "data": data.reset_coords(drop=True).drop_attrs(deep=False).assign_attrs(told),
            "status": status.reset_coords(drop=True),
            "valid": (status == STATUS["valid"]).reset_coords(drop=True).drop_attrs(deep=False),
        },
        coords={
            **kept,
            "time": ("time", data["time"].to_numpy().astype("datetime64[ns]")),
            "band": list(bands),
            **{key: (("time", "band"), table[..., k]) for k, key in enumerate(CALIBRATION)},
        },
        attrs={
            "sensor": sensor.name,
            "units": one_unit(sensor, bands, name),
            "kind": sensor.band(bands[0]).kind,
            **told_items([[] for _ in range(data.sizes["time"])], data["time"].to_numpy().astype("datetime64[ns]")),
            "sources": [],
        },
    ).drop_encoding()


def _names(name: str, array: xr.DataArray, sensor: SensorSpec, modality: Modality) -> list[str]:
    """Return the names that a sensor has for the bands of an array.

    Raises:
        MissingBandError: the array does not name them, or they are not the sensor's.
    """
    told = array["band"].to_numpy().tolist() if "band" in array.coords else []
    described = array.attrs.get("long_name")
    if not all(isinstance(t, str) for t in told) or not told:
        numbered = isinstance(described, (tuple, list)) and len(described) == array.sizes["band"]
        told = [str(d) for d in described] if numbered and described is not None else []
    by_name = {key: b.name for b in sensor.bands for key in (*b.assets, b.name)}
    if told and all(t in by_name or not sensor.bands for t in told):
        names = [by_name.get(t, t) for t in told]
    else:
        offered = modality.bands or (sensor.band_names() if sensor.bands else ())
        names = [sensor.band(b).name for b in offered] or [str(k + 1) for k in range(array.sizes["band"])]
    lacking = [b for b in modality.bands if sensor.band(b).name not in names]
    if len(names) != array.sizes["band"] or lacking or len(set(names)) < len(names):
        raise MissingBandError(
            f"it is not known which band of {name} is which",
            where=f"sensor {sensor.name}, {array.sizes['band']} bands, named {', '.join(told) or 'by nothing'}",
            why=f"wanted {', '.join(modality.bands or sensor.band_names())}",
            fix=f'name them: arrays["{name}"].assign_coords(band=[...]), or Modality("{sensor.name}", (...)) in order',
        )
    return names


def _status(data: xr.DataArray, sensor: SensorSpec, bands: Sequence[str]) -> xr.DataArray:
    """Return the status of every pixel: valid where every band is."""
    declared = data.odc.nodata
    good = data.notnull() if data.dtype.kind == "f" else xr.ones_like(data, bool)
    nodata = [sensor.band(b).nodata if declared is None else float(declared) for b in bands]
    if any(v is not None and np.isfinite(v) for v in nodata):
        stored = xr.DataArray([np.nan if v is None else v for v in nodata], dims="band")
        good &= data != stored
    physical = data.dtype.kind == "f" and declared is None
    limits = [None if physical else sensor.band(b).valid_range for b in bands]
    if any(v is not None for v in limits):
        low, high = (xr.DataArray([v[k] if v else (-np.inf, np.inf)[k] for v in limits], dims="band") for k in (0, 1))
        good &= (data >= low) & (data <= high)
    whole: xr.DataArray = good.all("band").astype(np.uint8)
    return whole * np.uint8(STATUS["valid"] - STATUS["nodata"]) + np.uint8(STATUS["nodata"])


def _as_stored(data: xr.DataArray) -> bool:
    """Return whether floats are the whole numbers of a file, with NaN for nodata, as ``masked=True`` gives them."""
    kind = data.encoding.get("rasterio_dtype", data.encoding.get("dtype"))
    scaled = (data.encoding.get("scale_factor", 1.0), data.encoding.get("add_offset", 0.0)) != (1.0, 0.0)
    return kind is not None and np.dtype(kind).kind in "iu" and not scaled


def _table(data: xr.DataArray, sensor: SensorSpec, bands: Sequence[str], given: Calibration | None) -> np.ndarray:
    """Return the calibration ``(time, band, coefficient)``."""
    shape = (data.sizes["time"], len(bands))
    if given is None and all(k in data.coords for k in CALIBRATION):
        full = (data.coords[k].broadcast_like(data[..., 0, 0]).transpose("time", "band") for k in CALIBRATION)
        return np.stack([np.asarray(f.to_numpy(), np.float64) for f in full], -1)
    told = float(data.attrs.get("scale_factor", 1.0)), float(data.attrs.get("add_offset", 0.0))
    if given is None and told != (1.0, 0.0):  # which rioxarray says of every file that says nothing
        given = Calibration(*told)
    if given is None and data.dtype.kind == "f" and not _as_stored(data):
        given = Calibration()
    found = [given or sensor.band(b).calibration for b in bands]
    rows = [[c.scale, c.offset, *(np.nan if k is None else k for k in (c.k1, c.k2))] for c in found]
    return np.broadcast_to(np.array(rows, np.float64), (*shape, len(CALIBRATION))).copy()
