"""What every block of a cube is made of, and how: scenes of a time step laid over each other, first valid pixel first.

A pixel is taken whole, with all its bands, from one scene; ``status`` says how every pixel came about.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geomm import radiometry
from geomm.catalog import BandSource, Grid, Scene
from geomm.cube.locate import source_coordinates
from geomm.cube.read import SourceReader
from geomm.cube.warp import Layers, inside_file, turned, warp
from geomm.errors import ReadError, SourceWarning
from geomm.sensors import Kind, QualityRule, get_sensor
from geomm.types import BBox, Window

STATUS: Mapping[str, int] = MappingProxyType({"outside": 0, "nodata": 1, "quality": 2, "unreadable": 3, "valid": 4})
"""How a pixel came about; of several scenes the greatest code counts. ``unreadable``: it might have been valid."""

_Band = tuple[NDArray[Any], NDArray[np.bool_]]


@dataclass(frozen=True)
class Plan:
    """Everything a worker needs to make any block of one modality."""

    geobox: GeoBox
    """The target grid."""
    chunk: int
    """Block size in pixels."""
    sensor: str
    """Name in the table."""
    bands: tuple[str, ...]
    """In order."""
    steps: tuple[tuple[Scene, ...], ...]
    """Scenes of every time step, in order of precedence."""
    windows: tuple[tuple[Window | None, ...], ...]
    """Where each of them may have pixels; None where it has none."""
    dtype: str
    """Of the data."""
    fill: tuple[float, ...]
    """Per band, what stands where there is no pixel."""
    rule: QualityRule | None
    """What makes pixels invalid besides nodata, in the scenes that have it."""
    invalid: tuple[int, ...] | None
    """Classes or bits that do, where not those of the rule."""
    errors: Literal["report", "raise"]
    """What to do with a source that cannot be read."""
    reader: SourceReader
    """Reads the files."""

    def block(self, step: int, row: int, column: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Make one block: data ``(1, band, y, x)`` and status ``(1, y, x)``.

        Raises:
            ReadError: a source cannot be read, and ``errors`` is ``raise``.
        """
        height, width = self.geobox.shape
        y, x = row * self.chunk, column * self.chunk
        window = Window(y, x, min(self.chunk, height - y), min(self.chunk, width - x))
        data = np.empty((len(self.bands), *window.shape), self.dtype)
        data[:] = np.asarray(self.fill, self.dtype)[:, None, None]
        status = np.zeros(window.shape, np.uint8)
        for scene, reach in zip(self.steps[step], self.windows[step], strict=True):
            if reach is None or not _touch(window, reach):
                continue
            if (status == STATUS["valid"]).all():
                break
            bands, state = self._scene(scene, window, reach)
            better = state > status
            status[better] = state[better]
            for out, fill, (value, good) in zip(data, self.fill, bands, strict=True):
                stored = _stored(value, self.dtype)
                take = better & good
                np.copyto(out, stored, where=take)
                if not good.all():
                    np.copyto(out, np.asarray(fill, self.dtype), where=better & ~good)
        return data[None], status[None]

    def _scene(self, scene: Scene, window: Window, reach: Window) -> tuple[list[_Band], NDArray[np.uint8]]:
        """Read one scene: values and validity of every band, and the state of every pixel."""
        kinds = {name: get_sensor(self.sensor).band(name).kind for name in scene.bands}
        files: dict[tuple[str, Grid | None], list[str]] = {}
        for name in self.bands:
            files.setdefault((scene.bands[name].href, scene.bands[name].grid), []).append(name)
        bands: dict[str, _Band] = {}
        parts: list[Layers] = []
        for names in files.values():
            layers = self._file([scene.bands[n] for n in names], [kinds[n] for n in names], window, reach)
            parts.append(layers)
            bands |= dict(zip(names, zip(layers.values, layers.valid, strict=True), strict=True))
        covered = np.logical_and.reduce([p.covered for p in parts])
        valid = np.logical_and.reduce([good for _, good in bands.values()])
        unread = np.logical_or.reduce([p.unread for p in parts])
        good = valid
        if self.rule is not None and self.rule.band in scene.bands and valid.any():
            name = self.rule.band
            quality = self._file([scene.bands[name]], [kinds[name]], window, reach, keep=True)
            unread = unread | (quality.unread & valid)
            valid = valid & quality.valid[0]
            good = valid & _usable(self.rule, quality.values[0], self.invalid)
        state = np.where(covered, np.uint8(STATUS["nodata"]), np.uint8(STATUS["outside"]))
        state[valid] = STATUS["quality"]
        state[unread] = STATUS["unreadable"]
        state[good] = STATUS["valid"]
        return [bands[n] for n in self.bands], state

    def _file(
        self, sources: list[BandSource], kinds: list[Kind], window: Window, reach: Window, *, keep: bool = False
    ) -> Layers:
        try:
            layers = warp(self.reader, sources, kinds, self.geobox, window, keep=keep)
        except ReadError as error:
            if self.errors == "raise":
                raise
            none, inside = np.zeros((len(sources), *window.shape), bool), np.zeros(window.shape, bool)
            where = reach.relative_to(window).clip(window.shape)
            inside[where.slices] = True
            if sources[0].grid is not None:
                grid = turned(sources[0].grid, self.geobox)
                inside &= inside_file(source_coordinates(self.geobox[window.slices], grid), grid.shape)
            layers = Layers([np.zeros(window.shape, np.uint8)] * len(sources), none, inside, inside, error)
        if layers.error:
            if self.errors == "raise":
                raise layers.error
            warnings.warn(f"Pixels have the status 'unreadable'. {layers.error}", SourceWarning, stacklevel=2)
        return layers


def reach(grid: Grid | None, bbox: BBox, geobox: GeoBox) -> Window | None:
    """Return the window of a target grid in which a source may have pixels; None where it has none."""
    if grid is None:
        west, south, east, north = bbox
        lon, lat = np.meshgrid(np.linspace(west, east + 360.0 * (east < west), 21), np.linspace(south, north, 21))
        x, y, crs = lon, lat, CRS("EPSG:4326")
    elif (grid := turned(grid, geobox)).transform is None:
        x, y, crs = np.array([p[2] for p in grid.gcps]), np.array([p[3] for p in grid.gcps]), CRS(grid.crs)
    else:
        row, column = np.mgrid[0:1:21j, 0:1:21j].reshape(2, -1) * np.array(grid.shape)[:, None]
        (x, y), crs = Affine(*grid.transform) * (column, row), CRS(grid.crs)
    height, width = geobox.shape
    whole = Window(0, 0, height, width)
    if crs != geobox.crs:
        x, y = crs.transformer_to_crs(geobox.crs, always_xy=True)(x, y)
        if geobox.crs.geographic and np.ptp(x) > 180.0:
            return whole  # longitudes count modulo 360
    px, py = ~geobox.affine * (np.asarray(x), np.asarray(y))
    if not (np.isfinite(px).all() and np.isfinite(py).all()):
        return whole
    margin = [2.0 + 0.06 * np.ptp(v) for v in (py, px)] if crs != geobox.crs else [2.0, 2.0]
    y0, x0 = max(int(py.min() - margin[0]), 0), max(int(px.min() - margin[1]), 0)
    y1, x1 = min(int(py.max() + margin[0]) + 1, height), min(int(px.max() + margin[1]) + 1, width)
    return Window(y0, x0, y1 - y0, x1 - x0) if y0 < y1 and x0 < x1 else None


def _usable(rule: QualityRule, quality: NDArray[Any], invalid: tuple[int, ...] | None) -> Any:
    function = {
        "qa_pixel": radiometry.valid_from_qa_pixel,
        "scl": radiometry.valid_from_scl,
        "bqa": radiometry.valid_from_bqa,
    }[rule.rule]
    return function(quality) if invalid is None else function(quality, invalid)


def _touch(a: Window, b: Window) -> bool:
    return a.y < b.y + b.height and b.y < a.y + a.height and a.x < b.x + b.width and b.x < a.x + a.width


def _stored(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Round to the stored dtype."""
    kind = np.dtype(dtype)
    if values.dtype == kind:
        return values
    if kind.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(kind)
        return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
    return values.astype(kind)
