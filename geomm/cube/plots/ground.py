"""How large pixels are on the ground, so that pictures have the proportions of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

LEVEL = 0.01
"""Pixels count as square where their sides differ by no more than this part: projections bend that much."""


def pixel_metres(geobox: GeoBox) -> tuple[float, float]:
    """Return width and height of a pixel on the ground in metres, in the middle of the grid."""
    rows, columns = (float(n) / 2 for n in geobox.shape)
    ends = [(columns - 0.5, rows), (columns + 0.5, rows), (columns, rows - 0.5), (columns, rows + 0.5)]
    points = np.array([geobox.affine * end for end in ends])
    east, north = geobox.crs.transformer_to_crs(geobox.crs.__class__("EPSG:4326"), always_xy=True)(*points.T)
    across, down = (metres_between(east[k : k + 2], north[k : k + 2]) for k in (0, 2))
    if not all(math.isfinite(v) and v > 0 for v in (across, down)):  # beyond where the projection is defined
        return abs(float(geobox.affine.a)), abs(float(geobox.affine.e))
    return across, down


def proportion(geobox: GeoBox | None) -> float:
    """Return how many times higher than wide a pixel is on the ground; 1 where that is not known."""
    if geobox is None or geobox.crs is None:
        return 1.0
    across, down = pixel_metres(geobox)
    return levelled(down / across)


def proportion_of(footprints: Sequence[Any]) -> float:
    """Return how many times higher than wide square chips are on the ground.

    Args:
        footprints: in degrees, one for each chip; what is no quadrangle, as across the antimeridian, says nothing.
    """
    found = [_sides(s) for s in footprints if hasattr(s, "exterior") and len(s.exterior.coords) == 5]
    known = [down / across for across, down in found if across > 0 and down > 0]
    return levelled(float(np.median(known))) if known else 1.0


def levelled(ratio: float) -> float:
    """Return a ratio of two sides, 1 where they are nearly equal."""
    return 1.0 if abs(ratio - 1.0) <= LEVEL else ratio


def metres_between(east: Sequence[float], north: Sequence[float]) -> float:
    """Return the distance of two places in degrees."""
    from pyproj import Geod

    return float(Geod(ellps="WGS84").inv(east[0], north[0], east[1], north[1])[2])


def _sides(shape: Any) -> tuple[float, float]:
    """Return width and height of a quadrangle in degrees."""
    corners = np.array(shape.exterior.coords)
    first, second = (metres_between(*corners[k : k + 2].T) for k in (0, 1))
    steep = abs(corners[1] - corners[0]) @ [-1, 1] > abs(corners[2] - corners[1]) @ [-1, 1]
    return (second, first) if steep else (first, second)
