"""What a class map says of polygons that somebody else drew: fields, parishes, parcels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features
from rasterio.windows import Window as RioWindow
from rasterio.windows import from_bounds

from geomm.errors import ConfigError
from geomm.export.spool import GDAL_CACHE
from geomm.types import LayerSpec


def read_zones(path: str | Path) -> Any:
    """Read polygons of any vector file.

    Raises:
        ConfigError: it cannot be read, has no CRS, or holds no polygon.
    """
    import geopandas

    try:
        zones = geopandas.read_parquet(path) if Path(path).suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # the drivers raise whatever they like
        raise ConfigError("the zones cannot be read", where=str(path), why=str(error)) from error
    kinds = set(zones.geometry.geom_type.dropna())
    if zones.crs is None or not kinds or kinds - {"Polygon", "MultiPolygon"}:
        why = "no CRS" if zones.crs is None else f"it holds {', '.join(sorted(kinds)) or 'nothing'}"
        raise ConfigError("the zones are not polygons on the ground", where=str(path), why=why)
    return zones


def classify_zones(path: Path, layer: LayerSpec, zones: Any) -> Any:
    """Count the classes of a map in polygons; a pixel counts where its centre lies.

    Args:
        path: of the class map.
        layer: what it is.
        zones: GeoDataFrame of polygons in any CRS.

    Returns:
        The zones with ``class`` (the most frequent; empty where the map says nothing), ``pixels`` (in the polygon),
        ``mapped`` (share of them that have a class) and ``share_<class>`` (of those that have one).
    """
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), rasterio.open(path, driver="GTiff") as file:
        shapes = zones.geometry.to_crs(file.crs)
        counts = np.array([_counts(file, shape, layer) for shape in shapes]).reshape(-1, len(layer.classes) + 1)
    known = counts[:, 1:].sum(1)
    found = zones.copy()
    names = np.array([c.name for c in layer.classes])
    found["class"] = np.where(known > 0, names[counts[:, 1:].argmax(1)], "")
    found["pixels"] = counts[:, 0]
    found["mapped"] = known / np.maximum(counts[:, 0], 1)
    for k, c in enumerate(layer.classes, start=1):
        found[f"share_{c.name}"] = counts[:, k] / np.maximum(known, 1)
    return found


def _counts(file: Any, shape: Any, layer: LayerSpec) -> list[int]:
    """Return how many pixels lie in a polygon, and how many of every class."""
    nothing = [0] * (len(layer.classes) + 1)
    if shape is None or shape.is_empty:
        return nothing
    around = from_bounds(*shape.bounds, transform=file.transform)
    top, left = int(np.floor(around.row_off)), int(np.floor(around.col_off))
    bottom, right = (int(np.ceil(v)) for v in (around.row_off + around.height, around.col_off + around.width))
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, file.height), min(right, file.width)
    if top >= bottom or left >= right:
        return nothing
    window = RioWindow(left, top, right - left, bottom - top)
    inside = rasterio.features.geometry_mask(
        [shape], (bottom - top, right - left), file.window_transform(window), invert=True
    )
    values = np.bincount(file.read(1, window=window)[inside], minlength=256)
    return [int(inside.sum()), *(int(values[c.value]) for c in layer.classes)]
