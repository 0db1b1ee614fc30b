"""Tiles of a fixed grid: squares at multiples of their side in a CRS, so that they stay where they are for good."""

from __future__ import annotations

from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geomm.errors import GridError

MOST = 10_000
"""Tiles that one footprint may cover."""
EDGE = 9
"""Pieces of the longer side of a footprint's box that its edges are cut into before they are projected."""


def tile_geobox(crs: str, resolution: float, size: int, column: int, row: int) -> GeoBox:
    """Return the grid of a tile.

    Args:
        crs: of the tiles.
        resolution: pixel size in units of the CRS.
        size: side of a tile in pixels.
        column: number of the tile to the east of the origin of the CRS, negative to the west.
        row: the same to the north.
    """
    step = resolution * size
    return GeoBox((size, size), Affine(resolution, 0.0, column * step, 0.0, -resolution, (row + 1) * step), crs)


def tiles_under(footprint: Any, crs: str, resolution: float, size: int) -> list[tuple[int, int]]:
    """Return column and row of all tiles of which a footprint covers at least about a pixel.

    Args:
        footprint: geometry in degrees (shapely).
        crs: of the tiles.
        resolution: pixel size in units of the CRS.
        size: side of a tile in pixels.

    Raises:
        GridError: it covers more than :data:`MOST`.
    """
    import shapely
    from pyproj import Transformer

    longest = float(np.ptp(np.asarray(footprint.bounds).reshape(2, 2), axis=0).max())
    project = Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    def turn(points: Any) -> Any:
        return np.stack(project.transform(points[:, 0], points[:, 1]), -1)

    shape = shapely.transform(shapely.segmentize(footprint, longest / EDGE), turn)
    bounds, step = np.asarray(shape.bounds), resolution * size
    if not np.isfinite(bounds).all():
        return []
    shape = shape.buffer(-resolution / 2)
    first, last = (np.floor(corner / step).astype(int) for corner in (bounds[:2], bounds[2:]))
    if (number := int(np.prod(last - first + 1))) > MOST:
        raise GridError(
            "the footprint covers too many tiles",
            why=f"{number} of {step:g} units, at most {MOST}",
            fix="make the tiles larger, or mend the footprint",
        )
    column, row = (a.ravel() for a in np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True))))
    boxes = shapely.box(column * step, row * step, (column + 1) * step, (row + 1) * step)
    touched = shapely.intersects(boxes, shape)
    return sorted(zip(column[touched].tolist(), row[touched].tolist(), strict=True))
