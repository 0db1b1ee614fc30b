"""What every block of a cube is made of, and how: scenes of a time step laid over each other, first valid pixel first.

A pixel is taken whole, with all its bands, from one scene; ``status`` says how every pixel came about.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geomm import radiometry
from geomm.catalog import Grid, Scene
from geomm.cube.expect import Cell, Key
from geomm.cube.locate import source_coordinates
from geomm.cube.place import inside_file, spans, turned
from geomm.cube.read import SourceReader
from geomm.cube.warp import Canvas, Unread, warp
from geomm.errors import ReadError, SourceWarning
from geomm.sensors import Kind, QualityRule, get_sensor
from geomm.types import BBox, Window

STATUS: Mapping[str, int] = MappingProxyType({"outside": 0, "nodata": 1, "quality": 2, "unreadable": 3, "valid": 4})
"""How a pixel came about; of several scenes the greatest code counts. ``unreadable``: it might have been valid."""


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
        status = np.empty(window.shape, np.uint8)
        self.read(step, window, data, status)
        return data[None], status[None]

    def read(self, step: int, window: Window, data: NDArray[Any], status: NDArray[np.uint8]) -> None:
        """Read any window of the grid into ``data (band, y, x)`` and ``status (y, x)``.

        Raises:
            ReadError: a source cannot be read, and ``errors`` is ``raise``.
        """
        canvas = Canvas(data, status, np.asarray(self.fill, self.dtype))
        empty = True
        for scene, reach in zip(self.steps[step], self.windows[step], strict=True):
            if reach is None or not _touch(window, reach):
                continue
            if empty:
                self._scene(scene, window, reach, canvas)
                empty = False
                continue
            if (status == STATUS["valid"]).all():
                break
            other = Canvas(np.empty_like(data), np.empty_like(status), canvas.fill)
            self._scene(scene, window, reach, other)
            better = other.state > status
            np.copyto(data, other.values, where=better)
            np.copyto(status, other.state, where=better)
        if empty:
            canvas.nothing()

    def _scene(self, scene: Scene, window: Window, reach: Window, canvas: Canvas) -> None:
        """Read one scene: values of every band, and the status of every pixel."""
        canvas.state[:] = STATUS["valid"]
        unread = None
        for which in self._files(scene):
            together = which == list(range(which[0], which[-1] + 1))
            values = canvas.values[which[0] : which[-1] + 1] if together else canvas.values[which]
            part = Canvas(values, canvas.state, canvas.fill[which])
            lost = self._file(scene, [self.bands[k] for k in which], window, reach, part)
            if not together:
                canvas.values[which] = values
            unread = lost if unread is None else unread | lost if lost is not None else unread
        self._quality(scene, window, reach, canvas.state)
        if unread is not None:
            canvas.state[unread & (canvas.state != STATUS["valid"])] = STATUS["unreadable"]
        if not canvas.state.all():  # bands that reach farther than the others
            canvas.values[:, canvas.state == STATUS["outside"]] = canvas.fill[:, None]

    def _files(self, scene: Scene) -> list[list[int]]:
        """Group the positions of the bands by file."""
        files: dict[tuple[str, Grid | None], list[int]] = {}
        for k, name in enumerate(self.bands):
            files.setdefault((scene.bands[name].href, scene.bands[name].grid), []).append(k)
        return list(files.values())

    def cells(self, windows: Sequence[Window]) -> dict[Key, list[Cell]]:
        """Return the parts of the sources' cells that reading windows will touch, in their order; nothing is decoded.

        Scenes that turn out not to be needed, since those before them cover a window, are counted too.
        """
        found: dict[Key, list[Cell]] = {}
        scenes = [scene for step in self.steps for scene in step]
        for scene, reach in zip(scenes, [w for step in self.windows for w in step], strict=True):
            near = [w for w in windows if reach is not None and _touch(w, reach)]
            files = [[scene.bands[self.bands[k]] for k in which] for which in self._files(scene)]
            if self.rule is not None and self.rule.band in scene.bands:
                files.append([scene.bands[self.rule.band]])
            for sources in files if near else []:
                try:
                    grid = turned(self.reader.layout(sources[0]).grid, self.geobox)
                except ReadError:
                    continue  # met, and reported, when it is read
                for key, part in self.reader.cells(sources, spans(near, self.geobox, grid)):
                    found.setdefault(key, []).append(part)
        return found

    def _quality(self, scene: Scene, window: Window, reach: Window, state: NDArray[np.uint8]) -> None:
        """Lower what the scene's quality band excludes, or does not know."""
        if self.rule is None or self.rule.band not in scene.bands or not (state == STATUS["valid"]).any():
            return
        source = scene.bands[self.rule.band]
        flags = np.empty((1, *window.shape), source.dtype or "uint16")
        known = np.full(window.shape, STATUS["valid"], np.uint8)
        canvas = Canvas(flags, known, np.zeros(1, flags.dtype))
        unread = self._file(scene, [self.rule.band], window, reach, canvas, keep=True)
        valid = state == STATUS["valid"]
        state[valid & ~usable(self.rule, flags[0], self.invalid)] = STATUS["quality"]
        state[valid & (known != STATUS["valid"])] = STATUS["nodata"]
        if unread is not None:
            state[valid & unread & (known != STATUS["valid"])] = STATUS["unreadable"]

    def _file(
        self, scene: Scene, names: list[str], window: Window, reach: Window, canvas: Canvas, *, keep: bool = False
    ) -> NDArray[np.bool_] | None:
        """Read bands of one file; return which of its pixels could not be."""
        sources = [scene.bands[n] for n in names]
        kinds: list[Kind] = [get_sensor(self.sensor).band(n).kind for n in names]
        try:
            lost = warp(self.reader, sources, kinds, self.geobox, window, canvas, keep=keep)
        except ReadError as error:
            inside = np.zeros(window.shape, bool)
            where = reach.relative_to(window).clip(window.shape)
            inside[where.slices] = True
            if sources[0].grid is not None:
                grid = turned(sources[0].grid, self.geobox)
                inside &= inside_file(source_coordinates(self.geobox[window.slices], grid), grid.shape)
            canvas.values[:] = canvas.fill[:, None, None]
            np.minimum(canvas.state, inside.astype(np.uint8) * STATUS["nodata"], out=canvas.state, casting="unsafe")
            lost = Unread(inside, error)
        if lost is None:
            return None
        if self.errors == "raise":
            raise lost.error
        warnings.warn(f"Pixels have the status 'unreadable'. {lost.error}", SourceWarning, stacklevel=2)
        return lost.where


def time_steps(scenes: Sequence[Scene], bands: Sequence[str]) -> list[list[Scene]]:
    """Group scenes of one solar day and one calibration, in order of time."""
    groups: dict[tuple[object, ...], list[Scene]] = {}
    for scene in sorted(scenes, key=lambda s: (s.time, s.id)):
        west, east = scene.bbox[0], scene.bbox[2] + 360.0 * (scene.bbox[2] < scene.bbox[0])
        shift = np.timedelta64(round((west + east) / 2 / 15 * 3600), "s")
        day = (np.datetime64(scene.time.replace(tzinfo=None)) + shift).astype("datetime64[D]")
        groups.setdefault((str(day), *(str(scene.bands[b].calibration) for b in bands)), []).append(scene)
    return list(groups.values())


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


def usable(rule: QualityRule, quality: NDArray[Any], invalid: tuple[int, ...] | None) -> Any:
    """Return where a quality band says that pixels may be used."""
    function = {
        "qa_pixel": radiometry.valid_from_qa_pixel,
        "scl": radiometry.valid_from_scl,
        "bqa": radiometry.valid_from_bqa,
    }[rule.rule]
    return function(quality) if invalid is None else function(quality, invalid)


def _touch(a: Window, b: Window) -> bool:
    return a.y < b.y + b.height and b.y < a.y + a.height and a.x < b.x + b.width and b.x < a.x + a.width
