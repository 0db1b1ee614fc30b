"""One file onto one window of the target grid: copied where the pixels coincide, else resampled by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geomm.catalog import BandSource, Grid
from geomm.cube.locate import Coordinates, source_coordinates
from geomm.cube.read import SourceReader
from geomm.cube.resample import AREA, Method, resample
from geomm.errors import ReadError
from geomm.radiometry import Calibration, from_db, to_db
from geomm.sensors import RESAMPLING, Kind
from geomm.types import Window

COARSER = 1.5
"""From this ratio of pixel sizes on, a target pixel is an area of the source, not a point in it."""
ALIGNED = 1e-3
"""Grids whose pixels coincide to this part of a pixel are one grid: real files carry 1e-10 m of noise."""
MOST = 2**24
"""Most source pixels of a band that are held at once; larger windows are read in parts."""

_Change = tuple[Callable[[Any], Any], Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Layers:
    """What a file has to say about a window."""

    values: list[NDArray[Any]]
    """``(y, x)`` for every band."""
    valid: NDArray[np.bool_]
    """``(band, y, x)``: the band has a value."""
    covered: NDArray[np.bool_]
    """``(y, x)``: the pixel's centre lies inside the file."""
    unread: NDArray[np.bool_]
    """``(y, x)``: the file has pixels there that could not be decoded."""
    error: ReadError | None = None
    """Why."""


def warp(
    reader: SourceReader,
    sources: Sequence[BandSource],
    kinds: Sequence[Kind],
    geobox: GeoBox,
    window: Window,
    *,
    keep: bool = False,
) -> Layers:
    """Read bands of one file onto a window of a grid.

    Args:
        reader: reads the file.
        sources: bands of the same file.
        kinds: decide how each band is resampled, see :data:`geomm.sensors.RESAMPLING`.
        geobox: the whole target grid; results do not depend on how it is cut into windows.
        window: part of it.
        keep: whether other loads read the same blocks.

    Raises:
        ReadError: the file cannot be opened.
    """
    grid = turned(reader.layout(sources[0]).grid, geobox)
    part = geobox[window.slices]
    shift = pixel_shift(grid, geobox)
    edge = 2**30 if keep else 0
    if shift is not None:
        return _copy(reader, sources, grid, window.relative_to(Window(-shift[0], -shift[1], 1, 1)), edge)
    finer = not coarser(grid, geobox)
    methods: list[Method] = [RESAMPLING[kind][0 if finer else 1] for kind in kinds]
    centres = source_coordinates(part, grid)
    corners = source_coordinates(part, grid, corners=True) if AREA & set(methods) else centres
    span = [_span(c, n) for c, n in zip(corners, grid.shape, strict=True)]
    (r0, r1), (c0, c1) = span
    covered = inside_file(centres, grid.shape)
    if r0 >= r1 or c0 >= c1:
        return _nothing(len(sources), window.shape, covered)
    if (r1 - r0) * (c1 - c0) > MOST and max(window.shape) > 1:
        return _halves(reader, sources, kinds, geobox, window, keep=keep)
    pixels = reader.read(sources, (r0, r1), (c0, c1), shared=edge or 4)
    values, valid = [], np.zeros((len(sources), *window.shape), bool)
    for k, (kind, method) in enumerate(zip(kinds, methods, strict=True)):
        at = corners if method in AREA else centres
        change = _change(kind, sources[k].calibration)
        value, good = _resampled(pixels.values[k], pixels.valid[k], at, (r0, c0), method, change)
        values.append(value)
        valid[k] = good & covered
    unread = np.zeros(window.shape, bool)
    if pixels.unread is not None:
        lost, everywhere = pixels.unread.astype(np.uint8), np.ones_like(pixels.unread)
        unread = resample(lost, everywhere, *centres, "nearest", origin=(r0, c0))[0] > 0
        if "or" in methods:  # what a lost part would have flagged is unknown
            unread |= resample(lost, everywhere, *corners, "or", origin=(r0, c0))[0] > 0
            valid &= ~unread
        unread &= ~valid.all(axis=0)
    return Layers(values, valid, covered, unread, pixels.error)


def turned(grid: Grid, geobox: GeoBox) -> Grid:
    """Return a grid in degrees moved by whole turns to where the target is: 200 degrees east is 160 west."""
    if grid.transform is None or not geobox.crs.geographic or not CRS(grid.crs).geographic:
        return grid
    a, b, c, *rest = grid.transform
    ours = c + a * grid.shape[1] / 2
    theirs = geobox.affine.c + geobox.affine.a * geobox.shape.x / 2
    turns = round((theirs - ours) / 360.0)
    return replace(grid, transform=(a, b, c + 360.0 * turns, *rest)) if turns else grid


def pixel_shift(grid: Grid, geobox: GeoBox, tolerance: float = ALIGNED) -> tuple[int, int] | None:
    """Return by how many rows and columns a source lies from a target whose pixels coincide with its own, else None."""
    if grid.transform is None or geobox.crs != CRS(grid.crs):
        return None
    step = ~Affine(*grid.transform) * geobox.affine
    near, far = (step.c, step.f), step * (geobox.shape.x, geobox.shape.y)
    expected = (step.c + geobox.shape.x, step.f + geobox.shape.y)
    coincide = all(abs(v - round(v)) <= tolerance for v in near) and all(
        abs(a - b) <= tolerance for a, b in zip(far, expected, strict=True)
    )
    return (round(step.f), round(step.c)) if coincide else None


@lru_cache(maxsize=1024)
def coarser(grid: Grid, geobox: GeoBox) -> bool:
    """Tell whether target pixels are so large that they are areas of the source: decided once for the whole grid."""
    height, width = geobox.shape
    rows, columns = [], []
    for y in np.linspace(0, max(height - 1, 0), 5).astype(int):
        for x in np.linspace(0, max(width - 1, 0), 5).astype(int):
            r, c = source_coordinates(geobox[int(y) : int(y) + 1, int(x) : int(x) + 1], grid, corners=True)
            rows.append(np.hypot(r[1, 0] - r[0, 0], c[1, 0] - c[0, 0]))
            columns.append(np.hypot(r[0, 1] - r[0, 0], c[0, 1] - c[0, 0]))
    sizes = np.sqrt(np.array(rows) * np.array(columns))
    known = sizes[np.isfinite(sizes)]
    return bool(known.size) and float(np.median(known)) >= COARSER - 1e-6


def _change(kind: Kind, calibration: Calibration) -> tuple[_Change, ...]:
    """Return from and to what may be averaged: power for backscatter, sine and cosine for angles, else nothing."""
    scale, offset = calibration.scale, calibration.offset

    def physical(stored: Any) -> Any:
        return stored * scale + offset

    def stored(value: Any) -> Any:
        return (value - offset) / scale

    if kind == "db":
        return ((lambda v: from_db(physical(v)), lambda v: stored(to_db(v))),)
    if kind == "amplitude":
        return ((np.square, np.sqrt),)
    if kind == "angle":  # 359 and 1 degrees are 2 apart
        return (
            (lambda v: np.sin(np.radians(physical(v))), stored),
            (lambda v: np.cos(np.radians(physical(v))), stored),
        )
    return ()


def _resampled(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    at: Coordinates,
    origin: tuple[int, int],
    method: Method,
    change: tuple[_Change, ...],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if not change:
        return resample(values, valid, *at, method, origin=origin)
    safe = np.where(valid, values, 1.0).astype(np.float64)
    parts = [resample(forth(safe), valid, *at, method, origin=origin) for forth, _ in change]
    back, good = change[0][1], parts[0][1]
    if len(parts) == 2:
        angle = np.degrees(np.arctan2(parts[0][0], parts[1][0])) % 360.0
        return back(angle), good
    return back(np.where(good, parts[0][0], 1.0)), good


def _copy(reader: SourceReader, sources: Sequence[BandSource], grid: Grid, window: Window, edge: int) -> Layers:
    """Copy pixels; ``window`` is in those of the file."""
    height, width = grid.shape
    covered = np.zeros(window.shape, bool)
    r0, r1 = max(window.y, 0), min(window.y + window.height, height)
    c0, c1 = max(window.x, 0), min(window.x + window.width, width)
    if r0 >= r1 or c0 >= c1:
        return _nothing(len(sources), window.shape, covered)
    here = np.s_[r0 - window.y : r1 - window.y, c0 - window.x : c1 - window.x]
    pixels = reader.read(sources, (r0, r1), (c0, c1), shared=edge)
    covered[here] = True
    valid, unread = np.zeros((len(sources), *window.shape), bool), np.zeros(window.shape, bool)
    valid[:, *here] = pixels.valid
    if pixels.unread is not None:
        unread[here] = pixels.unread
    values = []
    for band in pixels.values:
        out = np.zeros(window.shape, band.dtype)
        out[here] = band
        values.append(out)
    return Layers(values, valid, covered, unread, pixels.error)


def _halves(
    reader: SourceReader,
    sources: Sequence[BandSource],
    kinds: Sequence[Kind],
    geobox: GeoBox,
    window: Window,
    *,
    keep: bool,
) -> Layers:
    """Cut a window in two, read each, and put them together."""
    down = window.height >= window.width
    first = Window(
        window.y,
        window.x,
        window.height // 2 if down else window.height,
        window.width if down else window.width // 2,
    )
    second = Window(
        window.y + (first.height if down else 0),
        window.x + (0 if down else first.width),
        window.height - (first.height if down else 0),
        window.width - (0 if down else first.width),
    )
    a, b = (warp(reader, sources, kinds, geobox, part, keep=keep) for part in (first, second))
    axis = 0 if down else 1
    return Layers(
        [np.concatenate(pair, axis) for pair in zip(a.values, b.values, strict=True)],
        np.concatenate([a.valid, b.valid], axis + 1),
        np.concatenate([a.covered, b.covered], axis),
        np.concatenate([a.unread, b.unread], axis),
        a.error or b.error,
    )


def _nothing(bands: int, shape: tuple[int, int], covered: NDArray[np.bool_]) -> Layers:
    return Layers(
        [np.zeros(shape, np.uint8)] * bands, np.zeros((bands, *shape), bool), covered & False, covered & False
    )


def inside_file(centres: Coordinates, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixel centres lie inside a file; NaN does not."""
    inside = np.ones(centres[0].shape, bool)
    for coordinates, size in zip(centres, shape, strict=True):
        if not (coordinates.min() >= 0 and coordinates.max() < size):
            inside &= (coordinates >= 0) & (coordinates < size)
    return inside


def _span(coordinates: NDArray[np.float64], size: int) -> tuple[int, int]:
    """Return the source rows (or columns) that coordinates need, with a neighbour on each side, inside the file."""
    least, greatest = float(coordinates.min()), float(coordinates.max())
    if np.isnan(least):
        known = coordinates[np.isfinite(coordinates)]
        if not known.size:
            return 0, 0
        least, greatest = float(known.min()), float(known.max())
    if greatest < 0 or least > size:
        return 0, 0
    return max(int(np.floor(least)) - 1, 0), min(int(np.ceil(greatest)) + 1, size)
