"""One file onto one window of the target grid: copied where the pixels coincide, else resampled by kind.

The common cases run in compiled loops (:mod:`geomm.cube.kernels`, :mod:`geomm.cube.bilinear`): grids that are shifted
or scaled, smooth warps from another CRS, means of whole pixels. All others go through :mod:`geomm.cube.resample`, pixel
by pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geomm.catalog import BandSource, Grid
from geomm.cube import kernels
from geomm.cube.bilinear import bilinear, bilinear_warp
from geomm.cube.locate import Coordinates
from geomm.cube.place import Place, inside_file, place_of, placed, whole_pixels
from geomm.cube.read import Pixels, SourceReader
from geomm.cube.resample import Method, resample
from geomm.errors import ReadError
from geomm.radiometry import Calibration, from_db, to_db
from geomm.sensors import RESAMPLING, Kind
from geomm.types import Window

MOST = 2**24
"""Most source pixels of a band that are held at once; larger windows are read in parts."""

_Change = tuple[Callable[[Any], Any], Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Unread:
    """Pixels that a file has but that could not be decoded."""

    where: NDArray[np.bool_]
    """``(y, x)`` of the window."""
    error: ReadError
    """Why."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where the bands of a window are written."""

    values: NDArray[Any]
    """``(band, y, x)``: every pixel is written, ``fill`` where the band has nothing."""
    state: NDArray[np.uint8]
    """``(y, x)``: lowered to the least that a band has to say, see :mod:`geomm.cube.kernels`."""
    fill: NDArray[Any]
    """Per band, in the dtype of ``values``."""

    def part(self, window: Window) -> Canvas:
        """Return the canvas of a part of the window."""
        return Canvas(self.values[:, *window.slices], self.state[window.slices], self.fill)

    def nothing(self) -> None:
        """Write that the file does not reach here."""
        self.values[:] = self.fill[:, None, None]
        self.state[:] = kernels.OUTSIDE


def warp(
    reader: SourceReader,
    sources: Sequence[BandSource],
    kinds: Sequence[Kind],
    geobox: GeoBox,
    window: Window,
    canvas: Canvas,
    *,
    keep: bool = False,
) -> Unread | None:
    """Read bands of one file onto a window of a grid.

    Args:
        reader: reads the file.
        sources: bands of the same file.
        kinds: decide how each band is resampled, see :data:`geomm.sensors.RESAMPLING`.
        geobox: the whole target grid; results do not depend on how it is cut into windows.
        window: part of it.
        canvas: what is written, of the window's shape.
        keep: whether other loads read the same blocks.

    Returns:
        What could not be decoded, if anything.

    Raises:
        ReadError: the file cannot be opened.
    """
    grid, shift, areas = placed(reader.layout(sources[0]).grid, geobox)
    edge = 2**30 if keep else 0
    if shift is not None:
        return _copy(reader, sources, grid, window.relative_to(Window(-shift[0], -shift[1], 1, 1)), canvas, edge)
    place = place_of(geobox, window, grid, areas=areas)
    (r0, r1), (c0, c1) = place.span
    if r0 >= r1 or c0 >= c1:
        canvas.nothing()
        return None
    if (r1 - r0) * (c1 - c0) > MOST and max(window.shape) > 1:
        return _halves(reader, sources, kinds, geobox, window, canvas, keep=keep)
    pixels = reader.read(sources, (r0, r1), (c0, c1), shared=edge or 4)
    methods = [RESAMPLING[kind][1 if areas else 0] for kind in kinds]
    for k, (source, kind, method) in enumerate(zip(sources, kinds, methods, strict=True)):
        _band(pixels, k, place, method, _change(kind, source.calibration), canvas)
    return _unread(pixels, place, (r0, c0), methods, canvas)


def _band(pixels: Pixels, k: int, place: Place, method: Method, change: tuple[_Change, ...], canvas: Canvas) -> None:
    """Resample one band onto the canvas."""
    values, valid, out, fill = pixels.values[k], pixels.valid[k], canvas.values[k], canvas.fill[k]
    (r0, _), (c0, _) = place.span
    rounded = out.dtype.kind in "iu"
    if not change and place.axes is not None:
        rows, columns = place.axes[0] - r0, place.axes[1] - c0
        if method == "nearest":
            kernels.nearest(values, valid, rows, columns, out, canvas.state, fill)
            return
        if method == "bilinear" and (columns.size < 2 or columns[1] > columns[0]):
            bilinear(values, valid, rows, columns, out, canvas.state, fill, rounded)
            return
        box = whole_pixels(rows), whole_pixels(columns)
        if method in ("average", "conservative") and box[0] and box[1]:
            kernels.mean(values, valid, *box[0], *box[1], out, canvas.state, fill, rounded)
            return
    if not change and method == "bilinear" and place.nodes is not None:
        nodes = place.nodes
        bilinear_warp(values, valid, nodes.rows, nodes.columns, nodes.first, (r0, c0), out, canvas.state, fill, rounded)
        return
    value, good = _resampled(values, valid, place.points(), (r0, c0), method, change)
    covered = inside_file(place.centres(), place.shape)
    good &= covered
    out[:] = np.where(good, _stored(value, out.dtype), fill)
    np.minimum(canvas.state, np.where(good, kernels.VALID, covered).astype(np.uint8), out=canvas.state)


def _unread(
    pixels: Pixels, place: Place, origin: tuple[int, int], methods: Sequence[Method], canvas: Canvas
) -> Unread | None:
    """Return what was lost to blocks that cannot be decoded."""
    if pixels.error is None or pixels.unread is None:
        return None
    lost, everywhere = pixels.unread.astype(np.uint8), np.ones_like(pixels.unread)
    unread = resample(lost, everywhere, *place.centres(), "nearest", origin=origin)[0] > 0
    if "or" in methods:  # what a lost part would have flagged is unknown
        unread |= resample(lost, everywhere, *place.points(), "or", origin=origin)[0] > 0
        canvas.state[unread & (canvas.state == kernels.VALID)] = kernels.NODATA
    return Unread(unread & (canvas.state != kernels.VALID), pixels.error)


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


def _copy(
    reader: SourceReader, sources: Sequence[BandSource], grid: Grid, window: Window, canvas: Canvas, edge: int
) -> Unread | None:
    """Copy pixels; ``window`` is in those of the file."""
    height, width = grid.shape
    r0, r1 = max(window.y, 0), min(window.y + window.height, height)
    c0, c1 = max(window.x, 0), min(window.x + window.width, width)
    if r0 >= r1 or c0 >= c1:
        canvas.nothing()
        return None
    here = Window(r0, c0, r1 - r0, c1 - c0).relative_to(window)
    inner = canvas.part(here)
    if here.shape != window.shape:
        state = inner.state.copy()
        canvas.nothing()
        inner.state[:] = state
    pixels = reader.read(sources, (r0, r1), (c0, c1), shared=edge, into=inner.values)
    for value, valid, out, fill in zip(pixels.values, pixels.valid, inner.values, inner.fill, strict=True):
        if pixels.values is not inner.values or not valid.all():
            kernels.copy(value, valid, out, inner.state, fill)
    if pixels.error is None or pixels.unread is None:
        return None
    unread = np.zeros(window.shape, bool)
    unread[here.slices] = pixels.unread
    return Unread(unread & (canvas.state != kernels.VALID), pixels.error)


def _halves(
    reader: SourceReader,
    sources: Sequence[BandSource],
    kinds: Sequence[Kind],
    geobox: GeoBox,
    window: Window,
    canvas: Canvas,
    *,
    keep: bool,
) -> Unread | None:
    """Cut a window in two and read each."""
    height, width = window.shape
    half = (height // 2, width) if height >= width else (height, width // 2)
    rest = (height - half[0], width) if height >= width else (height, width - half[1])
    lost = np.zeros(window.shape, bool)
    error = None
    for here in (Window(0, 0, *half), Window(height - rest[0], width - rest[1], *rest)):
        there = Window(window.y + here.y, window.x + here.x, *here.shape)
        unread = warp(reader, sources, kinds, geobox, there, canvas.part(here), keep=keep)
        if unread is not None:
            lost[here.slices], error = unread.where, unread.error
    return Unread(lost, error) if error else None


def _stored(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round to the stored dtype."""
    if dtype.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return values.astype(dtype, copy=False)
