"""Pictures over a map to pan in, with folium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geomm.cards import COLOURS
from geomm.cube.plots.stretch import Picture
from geomm.errors import ConfigError, DependencyError, GridError
from geomm.types import ClassSpec


def explore_pictures(pictures: Mapping[str, Picture], geobox: GeoBox, *, onto: Any | None = None) -> Any:
    """Lay pictures over a map, each a layer.

    Args:
        pictures: name to picture.
        geobox: grid that they were made from.
        onto: folium map; default a new one.

    Raises:
        DependencyError: folium is not installed.
        GridError: the grid has no CRS.
        ConfigError: ``onto`` is no map of folium.
    """
    where = map_for(geobox, onto)
    for name, picture in pictures.items():
        add_picture(where, name, picture.rgba, picture.every, geobox)
        if picture.classes:
            add_legend(where, name, picture.classes)
    return finished(where, geobox)


def map_for(geobox: GeoBox, given: Any | None = None) -> Any:
    """Return a map that shows a grid, or the one that is given.

    Raises:
        DependencyError: folium is not installed.
        ConfigError: what is given is no map of folium.
    """
    folium = _folium()
    if given is not None:
        return _checked(folium, given)
    west, south, east, north = _degrees(geobox)
    return folium.Map(location=[(south + north) / 2, (west + east) / 2], zoom_start=10, control_scale=True)


def _checked(folium: Any, given: Any) -> Any:
    if not isinstance(given, folium.Map):
        fix = "give one that explore() has returned, or folium.Map(); or leave it out"
        raise ConfigError("map is a map of folium", where=f"{type(given).__name__} {str(given)[:40]!r}", fix=fix)
    return given


def add_picture(
    where: Any, name: str, rgba: NDArray[np.uint8], every: int, geobox: GeoBox, *, opacity: float = 1.0
) -> None:
    """Add a picture to a map as a layer that can be switched off.

    Args:
        where: folium map.
        name: of the layer.
        rgba: ``(y, x, 4)``.
        every: pixels of the grid along each side of one of these.
        geobox: grid that it was made from.
        opacity: 0 to 1.
    """
    small = GeoBox(rgba.shape[:2], geobox.affine * geobox.affine.scale(every), geobox.crs)
    coords = {**xr_coords(small, always_yx=True), "band": ["r", "g", "b", "a"]}
    xr.DataArray(rgba, coords, ("y", "x", "band")).odc.add_to(where, name=name, opacity=opacity, overlay=True)


def add_legend(where: Any, title: str, classes: Sequence[ClassSpec]) -> None:
    """Name classes in a corner of a map."""
    from branca.element import Element

    rows = "".join(
        f'<div><span style="display:inline-block;width:1em;height:1em;margin-right:.5em;vertical-align:-.1em;'
        f'border:1px solid #777;background:{escape(c.color)}"></span>{escape(c.name)}</div>'
        for c in classes
    )
    box = (
        '<div style="position:absolute;bottom:2em;right:1em;z-index:9999;background:#fffd;color:#222;padding:.5em .8em;'
        f'border-radius:4px;font:13px/1.5 sans-serif"><b>{escape(title)}</b>{rows}</div>'
    )
    where.get_root().html.add_child(Element(box))


def finished(where: Any, geobox: GeoBox) -> Any:
    """Zoom a map to a grid and let its layers be switched."""
    west, south, east, north = _degrees(geobox)
    where.fit_bounds([[south, west], [north, east]])
    _control(_folium(), where)
    return where


def _degrees(geobox: GeoBox) -> tuple[float, float, float, float]:
    if geobox.crs is None:
        raise GridError("a grid without CRS lies nowhere on a map", fix="name the CRS when the grid is made")
    west, south, east, north = geobox.geographic_extent.boundingbox.bbox
    return float(west), float(south), float(east), float(north)


def map_of(groups: Mapping[str, Any], *, onto: Any | None = None) -> Any:
    """Lay footprints over a map, a colour and a layer for every group.

    Args:
        groups: name to GeoSeries in degrees.
        onto: folium map; default a new one.

    Raises:
        DependencyError: folium is not installed.
        ConfigError: there is no footprint, or ``onto`` is no map of folium.
    """
    folium = _folium()
    boxes = [g.total_bounds for g in groups.values() if len(g)]
    if not boxes:
        raise ConfigError("there is nothing to show on a map", why="no footprint", fix="look whether there is a chip")
    where = _checked(folium, onto) if onto is not None else folium.Map(control_scale=True)
    for color, (name, shapes) in zip(COLOURS * (1 + len(groups) // len(COLOURS)), groups.items(), strict=False):
        look = {"color": color, "weight": 1, "fillOpacity": 0.25}
        folium.GeoJson(
            shapes.to_json(), name=f"{name} ({len(shapes)})", style_function=lambda _, look=look: look
        ).add_to(where)
    low, high = np.min(boxes, 0), np.max(boxes, 0)
    where.fit_bounds([[low[1], low[0]], [high[3], high[2]]])
    _control(folium, where)
    return where


def _folium() -> Any:
    if find_spec("folium") is None:
        raise DependencyError("maps to pan in need folium", fix="uv pip install 'geomm[notebook]'")
    import folium

    return folium


def _control(folium: Any, where: Any) -> None:
    """Let the layers of a map be switched, once."""
    for child in [c for c in where._children.values() if isinstance(c, folium.LayerControl)]:  # noqa: SLF001
        where._children.pop(child.get_name())  # noqa: SLF001
    folium.LayerControl(collapsed=False).add_to(where)
