"""How the pixels of a window lie in a file: shifted, scaled or warped; whether they are points or areas there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geomm.catalog import Grid
from geomm.cube.locate import (
    Coordinates,
    Lattice,
    axis_coordinates,
    lattice,
    point_coordinates,
    source_coordinates,
)
from geomm.cube.remember import remembered
from geomm.types import Window

COARSER = 1.5
"""From this ratio of pixel sizes on, a target pixel is an area of the source, not a point in it."""
ALIGNED = 1e-3
"""Grids whose pixels coincide to this part of a pixel are one grid: real files carry 1e-10 m of noise."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pixels of a window lie in a file: of points their centres, of areas their corners."""

    shape: tuple[int, int]
    """Of the file."""
    centres: Callable[[], Coordinates]
    """Two-dimensional coordinates of centres."""
    points: Callable[[], Coordinates]
    """The same of what is resampled: centres or corners."""
    axes: Coordinates | None
    """One-dimensional ones of what is resampled, where rows and columns do not depend on each other."""
    nodes: Lattice | None
    """A lattice of centres, where it is exact enough everywhere."""
    span: tuple[tuple[int, int], tuple[int, int]]
    """Source rows and columns that are needed, with a neighbour on each side."""


@remembered(16)  # the bands of a scene share their grid
def place_of(geobox: GeoBox, window: Window, grid: Grid, *, areas: bool) -> Place:
    """Find out how the pixels of a target's window are placed in a source, by the cheapest way that is exact."""
    part = geobox[window.slices]

    def centres() -> Coordinates:
        return source_coordinates(part, grid)

    def corners() -> Coordinates:
        return source_coordinates(part, grid, corners=True)

    points = corners if areas else centres
    axes, nodes = axis_coordinates(part, grid, corners=areas), None
    height, width = part.shape
    if axes is not None:
        ends: Sequence[Coordinates] = [axes]
    elif not areas and (grid.transform is None or part.crs != CRS(grid.crs)):
        nodes = lattice(part, grid)
        if nodes.rough.any():
            nodes = None
        else:  # no point lies farther out than those along the edge and the nodes between
            within = nodes.rows[1:-2, 1:-2], nodes.columns[1:-2, 1:-2]
            ends = [*nodes.edges(height, width), within]
    if axes is None and nodes is None:
        ends = [points()]
    rows, columns = (np.concatenate([c[k].ravel() for c in ends]) for k in (0, 1))
    span = _span(rows, grid.shape[0]), _span(columns, grid.shape[1])
    return Place(grid.shape, centres, points, axes, nodes, span)


def whole_pixels(corners: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return the first pixel and the pixels in each step of corners that are those of whole pixels, else None."""
    first, step = corners[0], corners[1] - corners[0]
    if not (first.is_integer() and step.is_integer() and step > 0 and corners[-1] == first + step * (corners.size - 1)):
        return None
    return int(first), int(step)


@remembered(1024)
def turned(grid: Grid, geobox: GeoBox) -> Grid:
    """Return a grid in degrees moved by whole turns to where the target is: 200 degrees east is 160 west."""
    if grid.transform is None or not geobox.crs.geographic or not CRS(grid.crs).geographic:
        return grid
    a, b, c, *rest = grid.transform
    ours = c + a * grid.shape[1] / 2
    theirs = geobox.affine.c + geobox.affine.a * geobox.shape.x / 2
    turns = round((theirs - ours) / 360.0)
    return replace(grid, transform=(a, b, c + 360.0 * turns, *rest)) if turns else grid


@remembered(1024)
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


@remembered(1024)
def placed(grid: Grid, geobox: GeoBox) -> tuple[Grid, tuple[int, int] | None, bool]:
    """Return a source's grid, turned, its shift where pixels coincide, and whether target pixels are areas of it."""
    grid = turned(grid, geobox)
    shift = pixel_shift(grid, geobox)
    return grid, shift, shift is None and coarser(grid, geobox)


@remembered(1024)
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


def spans(windows: Sequence[Window], geobox: GeoBox, grid: Grid) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the source rows and columns that windows of a grid need, from nine of their points.

    Where grids are turned against each other a row more may be needed; this is for planning, not for reading.
    """
    shift = pixel_shift(grid, geobox)
    # Of areas the corners count, of points the middle.
    edge = 0.0 if shift is not None or coarser(grid, geobox) else 0.5
    beside = 0 if shift is not None else 1
    box = np.array([(w.y + edge, w.y + w.height - edge, w.x + edge, w.x + w.width - edge) for w in windows])
    y = np.repeat(np.stack([box[:, 0], box[:, :2].mean(1), box[:, 1]], 1), 3, axis=1)
    x = np.tile(np.stack([box[:, 2], box[:, 2:].mean(1), box[:, 3]], 1), 3)
    found = []
    for rows, columns in zip(*(c.reshape(y.shape) for c in point_coordinates(geobox, grid, y, x)), strict=True):
        span = [
            (max(int(np.floor(c.min() + ALIGNED)) - beside, 0), min(int(np.ceil(c.max() - ALIGNED)) + beside, n))
            for c, n in ((rows, grid.shape[0]), (columns, grid.shape[1]))
            if np.isfinite(c).all()
        ]
        if len(span) == 2 and all(a < b for a, b in span):
            found.append((span[0], span[1]))
    return found
