"""Predictions as xarray: a whole map in memory, for notebooks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.cube import coords_of, geobox_of
from geomm.cube.memory import free_bytes
from geomm.cube.plots.flags import flags_of
from geomm.errors import ConfigError, GridError
from geomm.prediction.run import Models, predict
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock
from geomm.types import LayerSpec, Prediction, Window

if TYPE_CHECKING:
    import xarray as xr


def predict_map(
    cube: xr.DataTree,
    package: Models,
    settings: PredictSettings | None = None,
    *,
    client: Any | None = None,
    on_block: OnBlock | None = None,
) -> xr.Dataset:
    """Predict a cube with a packaged model, or the average of several, and return the whole map.

    Args:
        cube: lazy; of the imagery only what a block or two need is in memory at a time.
        package: as for :func:`geomm.predict`.
        settings: by default those that fit the model and the grid, see :func:`geomm.settings_for`.
        client: of ``dask.distributed``, to let its workers do it.
        on_block: progress.

    Returns:
        One array for every layer, as :func:`to_xarray` gives them.

    Raises:
        ContractError: the cube does not meet the contract of the model.
        ConfigError: the map does not fit into memory; :func:`geomm.write_products` writes it block by block.
    """
    return to_xarray(predict(cube, package, settings, client=client, on_block=on_block), geobox_of(cube))


def to_xarray(blocks: Iterable[tuple[Window, Prediction]], geobox: Any) -> xr.Dataset:
    """Gather blocks of predictions into arrays on their grid.

    Args:
        blocks: of :func:`geomm.predict`, :func:`geomm.predict_blocks` or :func:`geomm.ground`, in any order. What none
            of them covers has no data.
        geobox: the grid.

    Returns:
        One variable for every layer, under its name: ``class (y, x)``, uint8, 255 where there is none, with the
        attributes ``flag_values``, ``flag_meanings`` (names, spaces as underscores) and ``flag_colors`` (``#rrggbb``);
        ``probability (class_name, y, x)``, float32, NaN where there is none; ``weight (modality, y, x)``;
        ``confidence``, ``entropy`` and ``heat (y, x)``. Every variable has ``_FillValue``, which
        ``.rio`` and ``.odc`` know.

    Raises:
        ConfigError: there is no block, or the map does not fit into memory.
        GridError: a block lies outside of the grid.
    """
    import xarray as xr

    if not hasattr(geobox, "affine") or hasattr(blocks, "data_vars"):
        fix = "to_xarray(predict(cube, package), cube.odc.geobox); predict_map does both"
        raise ConfigError("blocks of a prediction go onto a GeoBox", where=type(blocks).__name__, fix=fix)
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    arrays: dict[str, np.ndarray] = {}
    layers: tuple[LayerSpec, ...] = ()
    for window, prediction in blocks:
        if not arrays:
            layers = tuple(prediction.layers)
            _must_fit(layers, shape)
            arrays = {spec.name: _empty(spec, shape) for spec in layers}
        if window.y < 0 or window.x < 0 or window.y + window.height > shape[0] or window.x + window.width > shape[1]:
            fix = "give the grid that was predicted: cube.odc.geobox"
            raise GridError(
                "a block lies outside of the grid", where=str(window), why=f"it has {shape} pixels", fix=fix
            )
        for spec in layers:
            arrays[spec.name][:, *window.slices] = _values(prediction.arrays[spec.name], spec)
    if not arrays:
        fix = "give the stream itself; one that was used up has no more blocks"
        raise ConfigError("there is no map", why="the prediction has no block", fix=fix)
    return xr.Dataset({spec.name: _variable(spec, arrays[spec.name]) for spec in layers}, coords=coords_of(geobox))


def _dtype(spec: LayerSpec) -> np.dtype[Any]:
    """Return the dtype of a layer here: scaled integers become what they stand for."""
    return np.dtype("float32") if spec.scale != 1.0 else np.dtype(spec.dtype)


def _empty(spec: LayerSpec, shape: tuple[int, int]) -> np.ndarray:
    return np.full((len(spec.bands), *shape), math.nan if spec.scale != 1.0 else spec.nodata, _dtype(spec))


def _values(stored: np.ndarray, spec: LayerSpec) -> np.ndarray:
    if spec.scale == 1.0:
        return stored
    return np.where(stored == spec.nodata, np.float32(math.nan), stored * np.float32(spec.scale))


def _variable(spec: LayerSpec, values: np.ndarray) -> xr.DataArray:
    """Return a layer with its dimensions, names and attributes."""
    import xarray as xr

    about: dict[str, Any] = {"_FillValue": values.dtype.type(math.nan if spec.scale != 1.0 else spec.nodata)}
    if spec.kind == "class":
        about |= flags_of(spec.classes, values.dtype)
    else:
        about["units"] = spec.unit
    if spec.name == "weight" or len(spec.bands) > 1 or (spec.kind == "probability" and spec.classes):
        # A dimension cannot be named class beside a variable of that name.
        name = "modality" if spec.name == "weight" else "class_name" if spec.classes else "band"
        return xr.DataArray(values, {name: list(spec.bands)}, (name, "y", "x"), attrs=about)
    return xr.DataArray(values[0], dims=("y", "x"), attrs={"long_name": spec.bands[0], **about})


def _must_fit(layers: Iterable[LayerSpec], shape: tuple[int, int]) -> None:
    """Refuse a map that does not fit into memory.

    Raises:
        ConfigError: it does not.
    """
    wanted = sum(len(spec.bands) * _dtype(spec).itemsize for spec in layers) * shape[0] * shape[1]
    free = free_bytes()
    if free is not None and wanted > free:
        raise ConfigError(
            "the map does not fit into memory",
            where=f"{shape[0]} x {shape[1]} pixels, layers {', '.join(spec.name for spec in layers)}",
            why=f"it takes {wanted / 1e9:.3g} GB, {free / 1e9:.3g} GB are free",
            fix="write it to files block by block: geomm.write_products(geomm.predict(...), ...); "
            "or ask for fewer layers: PredictSettings(layers=('class',))",
        )
