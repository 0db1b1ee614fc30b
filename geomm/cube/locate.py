"""Where the pixels of a target window lie in a source: fractional rows and columns, exact to a thousandth of a pixel.

Coordinates count from the upper left *corner* of the source's upper left pixel, as GDAL's transforms do: the centre of
that pixel is (0.5, 0.5). They do not depend on how a grid is cut into windows: between different CRSs they are
interpolated on a lattice that is anchored to the CRS, and all are rounded to a millionth of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geomm.catalog import Grid
from geomm.cube.remember import remembered

STEP = 16
"""Target pixels between nodes of the lattice. UTM to UTM at 10 m: interpolation errs by less than 1e-4 pixel."""
TOLERANCE = 0.0005
"""Largest error of the lattice in source pixels; where it is more, pixels are transformed one by one."""
LOOSE = 0.005
"""The same for sources placed by ground control points, which are themselves no better, and slow to interpolate."""
ROUND = 2.0**20
"""Coordinates are whole multiples of one part in this many, so that no noise decides which pixel a point lies in."""

Coordinates = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rows and columns."""


@dataclass(frozen=True)
class Lattice:
    """Source coordinates of every sixteenth target pixel, exact enough to interpolate between."""

    rows: NDArray[np.float64]
    """Source rows of the nodes."""
    columns: NDArray[np.float64]
    """Source columns of the nodes."""
    first: tuple[int, int]
    """Row and column of the window's first pixel, counted from the first node."""
    rough: NDArray[np.bool_]
    """Cells between four nodes in which interpolation errs by more than :data:`TOLERANCE`."""

    def edges(self, height: int, width: int) -> list[Coordinates]:
        """Return the coordinates along the four edges of the window."""
        (y, x), found = self.first, []
        for first_y, first_x, h, w in (
            (y, x, 1, width), (y + height - 1, x, 1, width), (y, x, height, 1), (y, x + width - 1, height, 1),
        ):  # fmt: skip
            i, j = first_y // STEP, first_x // STEP
            rows, columns = (
                _interpolate(np.ascontiguousarray(a[i:, j:]), first_y % STEP, first_x % STEP, h, w)
                for a in (self.rows, self.columns)
            )
            found.append((rows, columns))
        return found


def axis_coordinates(target: GeoBox, source: Grid, *, corners: bool = False) -> Coordinates | None:
    """Return source rows ``(height,)`` and columns ``(width,)`` where they do not depend on each other, else None.

    Args:
        target: the window.
        source: grid of the source.
        corners: of pixel corners, one more each, instead of centres.
    """
    if source.transform is None or target.crs != CRS(source.crs):
        return None
    step = ~Affine(*source.transform) * target.affine
    if step.b != 0 or step.d != 0:
        return None
    offset = 0.0 if corners else 0.5
    height, width = (n + 1 for n in target.shape) if corners else target.shape
    return (
        _rounded(step.e * (np.arange(height) + offset) + step.f),
        _rounded(step.a * (np.arange(width) + offset) + step.c),
    )


def source_coordinates(target: GeoBox, source: Grid, *, corners: bool = False) -> Coordinates:
    """Return source rows and columns of every target pixel.

    Args:
        target: the window, with a north-up or rotated affine.
        source: grid of the source, by affine or by ground control points.
        corners: of pixel corners, ``(height + 1, width + 1)``, instead of centres.

    Returns:
        Two float64 arrays; NaN where the target has no counterpart in the source's CRS.
    """
    height, width = (n + 1 for n in target.shape) if corners else target.shape
    separate = axis_coordinates(target, source, corners=corners)
    if separate is not None:
        rows, columns = np.broadcast_arrays(separate[0][:, None], separate[1][None, :])
        return np.ascontiguousarray(rows), np.ascontiguousarray(columns)
    offset = 0.0 if corners else 0.5
    if source.transform is not None and target.crs == CRS(source.crs):
        step = ~Affine(*source.transform) * target.affine
        y, x = np.arange(height)[:, None] + offset, np.arange(width)[None, :] + offset
        return _rounded(step.d * x + step.e * y + step.f), _rounded(step.a * x + step.b * y + step.c)
    nodes = lattice(target, source, corners=corners)
    rows, columns = (_interpolate(a, *nodes.first, height, width) for a in (nodes.rows, nodes.columns))
    if nodes.rough.any():  # decided for every cell of the lattice, so that windows agree
        cells = np.ix_((np.arange(height) + nodes.first[0]) // STEP, (np.arange(width) + nodes.first[1]) // STEP)
        i, j = np.nonzero(nodes.rough[cells])
        east, north = target.affine * (j + offset, i + offset)
        exact = _locator(str(target.crs), source)(np.asarray(east), np.asarray(north))
        rows[i, j], columns[i, j] = (_rounded(v) for v in exact)
    return rows, columns


def point_coordinates(target: GeoBox, source: Grid, y: NDArray[Any], x: NDArray[Any]) -> Coordinates:
    """Return source rows and columns of points given in pixels of a target grid, each transformed exactly."""
    east, north = target.affine * (np.asarray(x, float), np.asarray(y, float))
    return _locator(str(target.crs), source)(east, north)


@remembered(64)  # the bands of a scene share their grid
def lattice(target: GeoBox, source: Grid, *, corners: bool = False) -> Lattice:
    """Return source coordinates on nodes at multiples of :data:`STEP` pixels of the CRS itself, so that windows agree.

    Args:
        target: the window.
        source: grid of the source, in another CRS or by ground control points.
        corners: of pixel corners instead of centres.
    """
    height, width = (n + 1 for n in target.shape) if corners else target.shape
    offset = 0.0 if corners else 0.5
    locate = _locator(str(target.crs), source)
    first_x, first_y = (
        int(np.floor(v + 1e-6)) % STEP
        for v in (target.affine.c / target.affine.a, target.affine.f / target.affine.e)  # index in the whole CRS
    )
    nodes_y = np.arange(-first_y, height + STEP, STEP)
    nodes_x = np.arange(-first_x, width + STEP, STEP)

    def at(y: NDArray[Any], x: NDArray[Any]) -> Coordinates:
        east, north = target.affine * (x[None, :] + offset, y[:, None] + offset)
        return locate(*np.broadcast_arrays(east, north))

    nodes = at(nodes_y, nodes_x)
    middle = at(nodes_y[:-1] + STEP / 2, nodes_x[:-1] + STEP / 2)
    rough = np.zeros(middle[0].shape, bool)
    for corner, centre in zip(nodes, middle, strict=True):
        between = (corner[:-1, :-1] + corner[1:, :-1] + corner[:-1, 1:] + corner[1:, 1:]) / 4
        rough |= ~(np.abs(between - centre) <= (LOOSE if source.transform is None else TOLERANCE))
    rows, columns = (np.ascontiguousarray(a) for a in nodes)
    return Lattice(rows, columns, (first_y, first_x), rough)


def _rounded(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ascontiguousarray(np.round(value * ROUND) / ROUND)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _interpolate(nodes: Any, first_y: int, first_x: int, height: int, width: int) -> Any:
    """Bilinear interpolation of lattice nodes to every pixel, rounded."""
    out = np.empty((height, width), np.float64)
    for i in range(height):
        node_y, part_y = divmod(i + first_y, STEP)
        v = part_y / STEP
        for j in range(width):
            node_x, part_x = divmod(j + first_x, STEP)
            u = part_x / STEP
            left = nodes[node_y, node_x] * (1.0 - v) + nodes[node_y + 1, node_x] * v
            right = nodes[node_y, node_x + 1] * (1.0 - v) + nodes[node_y + 1, node_x + 1] * v
            out[i, j] = np.rint((left * (1.0 - u) + right * u) * ROUND) / ROUND
    return out


@lru_cache(maxsize=256)
def _locator(crs: str, source: Grid) -> Callable[[NDArray[Any], NDArray[Any]], Coordinates]:
    """Return a function from coordinates of a CRS to rows and columns of a source."""
    native = CRS(source.crs)
    # Each side of the transformation may be the same CRS, when the source is placed by ground control points.
    project = CRS(crs).transformer_to_crs(native, always_xy=True)
    placed = _by_points(source.gcps) if source.transform is None else _by_affine(Affine(*source.transform))
    middle = _centre_longitude(source) if native.geographic else None

    def locate(east: NDArray[Any], north: NDArray[Any]) -> Coordinates:
        x, y = project(east, north)
        x, y = (np.where(np.isfinite(v), v, np.nan) for v in (np.asarray(x), np.asarray(y)))
        if middle is not None:  # longitudes count modulo 360: take the turn that is nearest to the source
            x = (x - middle + 180.0) % 360.0 - 180.0 + middle
        return placed(x, y)

    return locate


def _by_affine(transform: Affine) -> Callable[[NDArray[Any], NDArray[Any]], Coordinates]:
    inverse = ~transform

    def place(x: NDArray[Any], y: NDArray[Any]) -> Coordinates:
        columns, rows = inverse * (x, y)
        return np.asarray(rows), np.asarray(columns)

    return place


def _by_points(gcps: tuple[tuple[float, float, float, float], ...]) -> Callable[[Any, Any], Coordinates]:
    """Interpolate ground control points by thin plate splines, as gdalwarp -tps does; exact at the points."""
    from scipy.interpolate import RBFInterpolator

    table = np.asarray(gcps)
    ground, image = table[:, 2:], table[:, :2]
    centre, size = ground.mean(axis=0), np.ptp(ground, axis=0).max()
    spline = RBFInterpolator((ground - centre) / size, image, kernel="thin_plate_spline")

    def place(x: NDArray[Any], y: NDArray[Any]) -> Coordinates:
        points = np.stack([np.ravel(x), np.ravel(y)], axis=1)
        found = np.full(points.shape, np.nan)
        known = np.isfinite(points).all(axis=1)
        found[known] = spline((points[known] - centre) / size)
        return found[:, 0].reshape(x.shape), found[:, 1].reshape(x.shape)

    return place


def _centre_longitude(source: Grid) -> float:
    if source.transform is None:
        return float(np.mean([p[2] for p in source.gcps]))
    return float((Affine(*source.transform) * (source.shape[1] / 2, source.shape[0] / 2))[0])
