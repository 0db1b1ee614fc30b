"""Choose among times: one image of many, pixel by pixel, lazily."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm.cube.arguments import cube_of
from geomm.cube.calibrate import CALIBRATION, calibrated
from geomm.cube.items import items_of, told_items
from geomm.errors import CatalogError, ConfigError

FAR = 50
"""Pixels from the nearest cloud (or other invalid pixel) at which a pixel counts as free of it."""


def composite(
    cube: xr.DataTree,
    method: Literal["nearest", "median", "best"],
    *,
    date: str | None = None,
    within: float | None = None,
) -> Any:
    """Make one image of the times of a cube, in physical units.

    Args:
        cube: a cube, or a part of one with all its times.
        method: ``nearest`` takes each pixel's valid observation nearest to ``date``; ``median`` the median of its valid
            observations, band by band, and of classes the most frequent one (of equals the lowest code); ``best`` the
            valid observation farthest from anything invalid in its scene (cloud, shadow, nodata), up to 50 pixels, and
            of equals the one nearest to ``date``, or the first.
        date: such as ``2024-05-31``; needed for ``nearest``.
        within: greatest distance from ``date`` in days.

    Returns:
        The cube with one time step per modality: ``data`` in float32 and physical units, NaN where invalid; ``valid``;
        ``status`` (the greatest of all times); ``count (time, y, x)``, how many observations were valid; and, but for
        ``median``, ``observed (time, y, x)``, when the pixel was seen (NaT where never).

    Raises:
        CatalogError: a modality has no observation within the tolerance.
        ConfigError: an unknown method, a date that cannot be understood, ``nearest`` or ``within`` without ``date``.
    """
    cube = cube_of(cube)
    if method not in ("nearest", "median", "best"):
        raise ConfigError("unknown composite", where=f"method {method!r}", fix="write 'nearest', 'median' or 'best'")
    if date is None and (method == "nearest" or within is not None):
        raise ConfigError("the date is missing", why=f"composite {method!r} looks for what is near it", fix="give date")
    days: Any = within
    if days is not None and (isinstance(days, bool) or not isinstance(days, (int, float)) or not days >= 0):
        raise ConfigError("days are counted from 0", where=f"within {within!r}", fix="give days, for example within=10")
    target = None if date is None else _moment(date)
    nodes = {
        name: _node(name, _timed(name, node.to_dataset()), method, target, within)
        for name, node in cube.children.items()
    }  # fmt: skip
    return type(cube).from_dict({"/": cube.to_dataset(), **nodes})


def _moment(date: Any) -> np.datetime64:
    """Return a date as NumPy has it.

    Raises:
        ConfigError: it cannot be understood.
    """
    try:
        if isinstance(date, (str, dt.date, np.datetime64)):
            return np.datetime64(date, "ns")
        why = f"got {type(date).__name__}"
    except ValueError as error:
        why = str(error)
    raise ConfigError("the date cannot be understood", where=repr(date)[:60], why=why, fix="write '2024-05-31'")


def _timed(name: str, node: xr.Dataset) -> xr.Dataset:
    """Return a node with its times as a dimension, also where one was chosen.

    Raises:
        ConfigError: it has no time, or none is left.
    """
    if "time" not in node.coords or not node["time"].size:
        fix = "choose times that the cube has: .sel(time='2024-05'), and average after the composite"
        raise ConfigError("there is no time to choose among", where=f"modality {name}", fix=fix)
    if "time" in node.dims:
        return node
    steps = {key: value.expand_dims("time") for key, value in node.data_vars.items() if {"y", "x"} <= set(value.dims)}
    return node.assign(steps)


def _node(name: str, node: xr.Dataset, method: str, target: np.datetime64 | None, within: float | None) -> xr.Dataset:
    times = node["time"].to_numpy()
    order = np.arange(times.size)
    if target is not None:
        away = np.abs(times - target)
        order = np.argsort(away, kind="stable")
        if within is not None:
            order = order[away[order] <= np.timedelta64(round(within * 86400e9), "ns")]
    if not order.size:
        raise CatalogError(
            "no observation is near enough",
            where=f"modality {name}, {str(target)[:10]} within {within:g} days",
            why=f"there are {', '.join(sorted({str(t)[:10] for t in times}))}",
            fix="widen the tolerance or the search",
        )
    node = node.isel(time=order)
    physical = calibrated(node)
    fold = _mode if node.attrs.get("kind") in ("class", "bits") else _median
    valid = node["valid"]
    status, count = node["status"].max("time"), valid.sum("time").astype("uint16")
    if method == "median":
        whole = physical["data"].chunk(time=-1) if physical["data"].chunks else physical["data"]
        data = xr.apply_ufunc(fold, whole, input_core_dims=[["time"]], dask="parallelized", output_dtypes=["float32"])
        out = {"data": data, "valid": count > 0, "status": status, "count": count}
    else:
        out = {**_choose(physical["data"], valid, method), "status": status, "count": count}
    first = times[order[0]] if target is None else target
    stamped = {key: value.expand_dims(time=[first]) for key, value in out.items()}
    stamped["data"] = stamped["data"].transpose("time", "band", "y", "x").assign_attrs(_plain(node["data"].attrs))
    plain = dict(zip(CALIBRATION, (1.0, 0.0, np.nan, np.nan), strict=True))
    table = {key: (("time", "band"), np.full((1, node.sizes["band"]), value)) for key, value in plain.items()}
    items = list(dict.fromkeys(i for step in items_of(node.sortby("time")) for i in step))
    about = {**node.attrs, "composite": method, **told_items([items], [first])}
    result = xr.Dataset(stamped, attrs=about).assign_coords(table)
    result["status"].attrs = node["status"].attrs
    return result


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes without the number for nodata, which is NaN by now."""
    return {k: v for k, v in attrs.items() if k != "nodata"}


def _choose(data: xr.DataArray, valid: xr.DataArray, method: str) -> dict[str, xr.DataArray]:
    """Fold the times, in order of preference, keeping for every pixel the observation of the greatest score."""
    chosen, score, seen = None, None, None
    for k in range(data.sizes["time"]):
        layer, good = data.isel(time=k, drop=True), valid.isel(time=k, drop=True)
        mine = _clearance(good) if method == "best" else good.astype("float32")
        when = xr.full_like(good, data["time"].to_numpy()[k], dtype="datetime64[ns]").where(good)
        if chosen is None or score is None or seen is None:
            chosen, score, seen = layer, mine, when
            continue
        better = mine > score
        chosen, score, seen = layer.where(better, chosen), mine.where(better, score), when.where(better, seen)
    assert chosen is not None
    assert score is not None
    assert seen is not None
    return {"data": chosen, "valid": score > 0, "observed": seen}


def _clearance(valid: xr.DataArray) -> xr.DataArray:
    """Distance in pixels to the nearest invalid pixel, at most ``FAR``; 0 where invalid."""
    blocks = valid.data
    if isinstance(blocks, np.ndarray):
        return valid.copy(data=_distance(blocks))
    depth = tuple(min(FAR, n - 1) for n in blocks.shape)
    return valid.copy(data=blocks.map_overlap(_distance, depth=depth, boundary=True, dtype="float32"))


def _distance(valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt

    if valid.all():
        return np.full(valid.shape, FAR, "float32")
    return np.asarray(np.minimum(distance_transform_edt(valid), FAR), "float32")


def _mode(values: NDArray[np.float32]) -> Any:
    """Return the most frequent value along the last axis, of equals the smallest; NaN where there is none."""
    best, most = np.full(values.shape[:-1], np.nan, "float32"), np.zeros(values.shape[:-1], np.int64)
    for k in range(values.shape[-1]):
        mine = values[..., k]
        count = (values == mine[..., None]).sum(-1)
        better = (count > most) | ((count == most) & (mine < best))
        best, most = np.where(better, mine, best), np.maximum(count, most)
    return best


def _median(values: NDArray[np.float32]) -> Any:
    known = np.isfinite(values)
    filled = np.where(known, values, np.inf)
    filled.sort(axis=-1)
    count = known.sum(axis=-1)
    low, high = (np.maximum(k, 0)[..., None] for k in ((count - 1) // 2, count // 2))
    pair = [np.take_along_axis(filled, np.minimum(k, values.shape[-1] - 1), -1)[..., 0] for k in (low, high)]
    return np.where(count > 0, (pair[0] + pair[1]) / 2, np.nan).astype("float32")
