"""What a class map says of polygons that somebody else drew: fields, parishes, parcels."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features
import shapely
from rasterio.windows import Window as RioWindow

from geomm.errors import ConfigError
from geomm.export.spool import GDAL_CACHE
from geomm.types import LayerSpec

STEP = 2048
"""Pixels along a side of what is looked at at once."""
_OURS = frozenset({"fid", "ogc_fid", "geom", "geometry", "class", "pixels", "mapped"})


def read_zones(path: str | Path) -> Any:
    """Read polygons of any vector file: its plain columns, and one geometry.

    Columns whose names a GeoPackage or the classes need are given the prefix ``zone_``.

    Raises:
        ConfigError: it cannot be read, has no CRS, or holds something else than polygons.
    """
    import geopandas

    try:
        parquet = Path(path).suffix.lower() in (".parquet", ".geoparquet")
        table = geopandas.read_parquet(path) if parquet else geopandas.read_file(path)
    except Exception as error:  # the drivers raise whatever they like
        raise ConfigError(
            "the zones cannot be read",
            where=str(path),
            why=str(error),
            fix="check the path; ogrinfo FILE shows whether it can be read",
        ) from error
    known = isinstance(table, geopandas.GeoDataFrame) and table.active_geometry_name is not None
    kinds = set(table.geometry.geom_type.dropna()) if known else set()
    if not known or table.crs is None or not kinds or kinds - {"Polygon", "MultiPolygon"}:
        why = "no CRS" if kinds and table.crs is None else f"it holds {', '.join(sorted(kinds)) or 'no geometry'}"
        raise ConfigError(
            "the zones are not polygons on the ground",
            where=str(path),
            why=why,
            fix="give polygons with a CRS, for example GeoPackage or GeoParquet",
        )
    columns: dict[str, Any] = {}
    for name in table.columns:
        if name == table.active_geometry_name or table[name].dtype == "geometry":
            continue
        taken = name.lower() in _OURS or name.lower().startswith("share_")
        values = table[name] if table[name].dtype != object else table[name].astype(str)
        columns[_unique(f"zone_{name}" if taken else name, columns)] = values.to_numpy()
    return geopandas.GeoDataFrame(columns, geometry=table.geometry.to_numpy(), crs=table.crs)


def _unique(name: str, others: Collection[str]) -> str:
    """Return a name that differs from others in more than case: GeoPackages do not tell them apart otherwise."""
    taken, number, found = {o.lower() for o in others}, 1, name
    while found.lower() in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def classify_zones(path: Path, layer: LayerSpec, zones: Any) -> Any:
    """Count the classes of a map in polygons; a pixel counts where its centre lies.

    Args:
        path: of the class map.
        layer: what it is.
        zones: GeoDataFrame of polygons in any CRS.

    Returns:
        The zones with ``class`` (the most frequent; empty where the map says nothing), ``pixels`` (of the map in the
        polygon), ``mapped`` (share of the polygon that has a class) and ``share_<class>`` (of what has one).

    Raises:
        ConfigError: a polygon does not lie in the map's CRS.
    """
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), rasterio.open(path, driver="GTiff") as file:
        shapes = _placed(zones, file.crs)
        counts = np.array([_counts(file, shape, layer) for shape in shapes]).reshape(-1, len(layer.classes) + 1)
        size = abs(file.transform.determinant)
        around = shapely.box(*file.bounds)
    areas = np.array([0.0 if s is None else s.area / size for s in shapes])
    inside = np.array([s is None or around.contains(s) for s in shapes], bool)
    known = counts[:, 1:].sum(1)
    found = zones.copy()
    names = np.array([c.name for c in layer.classes])
    found["class"] = np.where(known > 0, names[counts[:, 1:].argmax(1)], "")
    found["pixels"] = counts[:, 0]
    # Of a polygon that reaches beyond the map, what lies outside counts by its area.
    found["mapped"] = np.minimum(known / np.maximum(np.where(inside, counts[:, 0], areas), 1), 1.0)
    for k, c in enumerate(layer.classes, start=1):
        found[_unique(f"share_{c.name}", found.columns)] = counts[:, k] / np.maximum(known, 1)
    return found


def _placed(zones: Any, crs: Any) -> list[Any]:
    """Return the polygons in the CRS of a map, with corners so close that straight lines stay where they were."""
    dense = [
        None
        if s is None or s.is_empty
        else shapely.segmentize(s, max(max(s.bounds[2] - s.bounds[0], s.bounds[3] - s.bounds[1]) / 256, 1e-9))
        for s in zones.geometry
    ]
    import geopandas

    shapes = list(geopandas.GeoSeries(dense, crs=zones.crs).to_crs(crs))
    lost = [k for k, s in enumerate(shapes) if s is not None and not np.isfinite(s.bounds).all()]
    if lost:
        raise ConfigError(
            "a zone reaches to where the map's CRS does not",
            where=f"row {lost[0]} of the zones",
            fix="cut the zones to the area of the map",
        )
    return shapes


def _counts(file: Any, shape: Any, layer: LayerSpec) -> list[int]:
    """Return how many pixels of a map lie in a polygon, and how many of every class, tile by tile."""
    total = np.zeros(257, np.int64)
    if shape is None:
        return [0] * (len(layer.classes) + 1)
    west, south, east, north = shape.bounds
    corners = [~file.transform @ (x, y) for x in (west, east) for y in (south, north)]
    left, right = (f(c[0] for c in corners) for f in (min, max))
    top, bottom = (f(c[1] for c in corners) for f in (min, max))
    for y in range(max(int(np.floor(top)), 0), min(int(np.ceil(bottom)), file.height), STEP):
        for x in range(max(int(np.floor(left)), 0), min(int(np.ceil(right)), file.width), STEP):
            height = min(STEP, int(np.ceil(bottom)) - y, file.height - y)
            width = min(STEP, int(np.ceil(right)) - x, file.width - x)
            window = RioWindow(x, y, width, height)
            place = file.transform @ file.transform.translation(x, y)
            inside = rasterio.features.geometry_mask([shape], (height, width), place, invert=True)
            total[0] += inside.sum()
            total[1:] += np.bincount(file.read(1, window=window)[inside], minlength=256)
    return [int(total[0]), *(int(total[1 + c.value]) for c in layer.classes)]
