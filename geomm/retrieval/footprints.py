"""Where chips lie, in degrees."""

from __future__ import annotations

from typing import Any

import numpy as np


def footprints(bounds: np.ndarray, crs: str) -> list[Any]:
    """Return outlines in degrees of boxes in another CRS, cut in two where they cross the antimeridian.

    Args:
        bounds: left, bottom, right, top ``(n, 4)``.
        crs: of the bounds.
    """
    import geopandas
    import shapely

    shapes = geopandas.GeoSeries(shapely.box(*bounds.T), crs=crs).to_crs("EPSG:4326").to_numpy()
    left, _, right, _ = shapely.bounds(shapes).T
    for k in np.flatnonzero(right - left > 180):
        east = shapely.transform(shapes[k], lambda x: np.where(x[:, :1] < 0, x + np.array([360.0, 0.0]), x))
        parts = (
            shapely.intersection(east, shapely.box(0, -90, 180, 90)),
            shapely.intersection(east, shapely.box(180, -90, 360, 90)),
        )
        shapes[k] = shapely.union_all([parts[0], shapely.transform(parts[1], lambda x: x - np.array([360.0, 0.0]))])
    return list(shapes)
