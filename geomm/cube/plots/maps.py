"""``maps.geomm``: pictures of what a model said, over the imagery that it said it of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geomm.cube.grid import geobox_of
from geomm.cube.plots.chosen import imagery, node_of, steps_of
from geomm.cube.plots.draw import frame, legend, show
from geomm.cube.plots.explore import add_legend, add_picture, finished, map_for
from geomm.cube.plots.flags import classes_of
from geomm.cube.plots.layout import canvas, settle
from geomm.cube.plots.stretch import SIDE, Picture, heat, is_natural, picture_of
from geomm.errors import ConfigError, GridError, UnknownNameError
from geomm.types import ClassSpec


@xr.register_dataset_accessor("geomm")  # type: ignore[no-untyped-call]
class MapAccessor:
    """What geomm adds to a data set of predicted layers, such as :func:`geomm.predict_map` returns."""

    def __init__(self, maps: xr.Dataset) -> None:
        self._maps = maps

    def plot(
        self,
        layer: str = "",
        *,
        over: xr.DataTree | None = None,
        modality: str = "",
        opacity: float = 0.6,
        ax: Any | None = None,
    ) -> Any:
        """Show a layer, over imagery where there is some.

        Args:
            layer: name of the layer; default the first.
            over: cube whose imagery lies below.
            modality: of the cube; default the first that has natural colours, else the first.
            opacity: of the layer over imagery, 0 to 1.
            ax: axes to draw on; several for a layer of several bands.

        Returns:
            Axes, an array of them where the layer has several bands, such as probabilities.

        Raises:
            UnknownNameError: there is no such layer or modality.
            ConfigError: there are more bands than axes.
            GridError: the imagery lies on another grid.
        """
        array, geobox = self._layer(layer), geobox_of(self._maps)
        _check_opacity(opacity)
        below = None if over is None else _below(over, modality, geobox)
        panels = _panels(array)
        fix = f"choose a band: maps.isel({', '.join(f'{d}=0' for d in _others(array))})"
        axes = canvas([title for title, _ in panels], ax, fix=fix)
        for one, (title, picture) in zip(axes, panels, strict=True):
            shown = picture if below is None else _dimmed(picture, opacity)
            if below is not None:
                frame(one, below.rgba, "", None)
            show(one, shown, title, geobox)
            if picture.classes:
                legend(one, picture.classes, _shares(array, picture.classes))
        if ax is None:
            settle(axes)
        return axes[0] if len(panels) == 1 else axes

    def explore(
        self,
        layer: str = "",
        *,
        over: xr.DataTree | None = None,
        opacity: float = 0.7,
        map: Any | None = None,  # noqa: A002
    ) -> Any:
        """Lay a layer over a map to pan in, with the imagery below, as layers to switch.

        Args:
            layer: name of the layer; default the first.
            over: cube whose modalities become layers too.
            opacity: of the layer, 0 to 1.
            map: folium map to add to; default a new one.

        Returns:
            A folium map. Its background comes from the network, the pictures do not.

        Raises:
            UnknownNameError: there is no such layer.
            GridError: the imagery lies on another grid, or the grid has no CRS.
            ConfigError: this is no map of folium.
            DependencyError: folium is not installed.
        """
        array, geobox = self._layer(layer), geobox_of(self._maps)
        _check_opacity(opacity)
        where = map_for(geobox, map)
        if over is not None:
            for name in imagery(over):
                below = _below(over, name, geobox)
                add_picture(where, name, below.rgba, below.every, geobox)
        for title, picture in _panels(array):
            add_picture(where, title, picture.rgba, picture.every, geobox, opacity=opacity)
            if picture.classes:
                add_legend(where, title, picture.classes)
        return finished(where, geobox)

    def _layer(self, name: str) -> xr.DataArray:
        if not isinstance(name, str):
            raise ConfigError(
                "a layer is named",
                where=type(name).__name__,
                fix='plot("class", over=cube) lays it over the imagery of a cube',
            )
        if "sensor" in self._maps.attrs:
            imagery(self._maps)  # says what to do instead
        names = [str(n) for n, a in self._maps.data_vars.items() if {"y", "x"} <= set(a.dims)]
        if not names:
            raise ConfigError("this data set holds no map", why="no variable has y and x", fix="see geomm.predict_map")
        if name and name not in names:
            raise UnknownNameError.of("layer", name, names)
        return self._maps[name or names[0]]


def _check_opacity(opacity: Any) -> None:
    if not isinstance(opacity, (int, float)) or not 0 <= opacity <= 1:
        raise ConfigError("the opacity lies between 0 and 1", why=f"got {opacity!r}", fix="opacity=0.5 for one half")


def _panels(array: xr.DataArray) -> list[tuple[str, Picture]]:
    """Return a picture for every band of a layer, with its title."""
    others = _others(array)
    if not others:
        return [(str(array.name), _picture(array))]
    stacked = array.stack(panel=others).transpose("panel", "y", "x")
    names = [" ".join(str(v) for v in np.atleast_1d(np.asarray(k, object))) for k in stacked["panel"].to_numpy()]
    return [(f"{array.name}: {n}", _picture(stacked[k], array.name)) for k, n in enumerate(names)]


def _others(array: xr.DataArray) -> list[Any]:
    """Return the dimensions that a picture has not."""
    return [d for d in array.dims if d not in ("y", "x")]


def _picture(array: xr.DataArray, name: Any = None) -> Picture:
    every = max(1, -(-max(array.sizes["y"], array.sizes["x"]) // SIDE))
    values = array[::every, ::every].to_numpy()
    classes = classes_of(array)
    if classes:
        if values.dtype.kind == "f" and (values[np.isfinite(values)] % 1).any():
            raise ConfigError(
                "these are no classes any more",
                where=f"layer {array.name}",
                why="there are values between the classes, as after averaging",
                fix="take every n-th pixel instead: maps.isel(y=slice(None, None, 4), x=slice(None, None, 4))",
            )
        values = np.where(np.isfinite(values), values, 255)
        table = np.zeros((256, 4), np.uint8)
        for c in classes:
            table[c.value] = (*c.rgb, 255)
        return Picture(table[values.astype(np.uint8)], every, "", "classes", (), classes=classes)
    called, unit = str(name or array.name), str(array.attrs.get("units", ""))
    limits, colours = _scale(called, values)
    # What has no unit says at least what it is.
    return Picture(heat(values, limits, colours), every, "", called if unit in ("", "1") else unit, (limits,), colours)


def _scale(name: str, values: NDArray[Any]) -> tuple[tuple[float, float], str]:
    """Return limits and colours: shares from 0 to 1, anything else between its quantiles."""
    finite = values[np.isfinite(values)]
    if not finite.size or (finite.min() >= 0 and finite.max() <= 1 and name != "entropy"):
        return (0.0, 1.0), "viridis"
    low, high = (float(v) for v in np.quantile(finite, (0.02, 0.98)))
    return (low, high if high > low else low + 1e-6), "magma" if name == "entropy" else "viridis"


def _below(cube: xr.DataTree, modality: str, geobox: GeoBox) -> Picture:
    names = imagery(cube)
    mine = geobox_of(cube)
    if mine.shape != geobox.shape or mine.crs != geobox.crs or not mine.affine.almost_equals(geobox.affine, 1e-6):
        raise GridError(
            "the imagery lies on another grid than the map",
            why=f"{_told(mine)}; the map {_told(geobox)}",
            fix="load the cube on the map's grid: load_cube(scenes, maps.odc.geobox)",
        )
    natural = [] if modality else [n for n in names if is_natural(node_of(cube, n))]
    name = modality or (natural or names)[0]
    node = node_of(cube, name)
    return picture_of(node, step=steps_of(node, None, name)[0])


def _told(geobox: GeoBox) -> str:
    """Return a grid in a few words."""
    code = f"EPSG:{geobox.crs.epsg}" if geobox.crs.epsg else str(geobox.crs)[:40]
    size = " x ".join(map(str, geobox.shape))
    return f"{size} pixels of {abs(geobox.affine.a):g} from {geobox.affine.c:.10g}, {geobox.affine.f:.10g} in {code}"


def _dimmed(picture: Picture, opacity: float) -> Picture:
    rgba = picture.rgba.copy()
    rgba[..., 3] = (rgba[..., 3] * opacity).astype(np.uint8)
    return replace(picture, rgba=rgba, classes=())


def _shares(array: xr.DataArray, classes: Sequence[ClassSpec]) -> list[float]:
    """Return the share of each class of what is known."""
    counts = np.bincount(array.to_numpy().astype(np.uint8).ravel(), minlength=256)
    known = sum(counts[c.value] for c in classes)
    return [float(counts[c.value] / known) if known else 0.0 for c in classes]
