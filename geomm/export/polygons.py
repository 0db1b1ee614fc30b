"""Class maps to polygons, for a GIS (GeoPackage, styled) and for analysis (GeoParquet)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features

from geomm.export.spool import GDAL_CACHE
from geomm.export.symbols import FIXED, add_style, categories_qml
from geomm.types import LayerSpec


def class_polygons(path: Path, layer: LayerSpec) -> Any:
    """Return the polygons of a class map, read row by row; memory depends on how many there are.

    Returns:
        GeoDataFrame in the map's CRS with ``value``, ``class`` and ``area_m2`` (on the ellipsoid), ordered as they lie.
    """
    import geopandas
    import shapely

    names = {c.value: c.name for c in layer.classes}
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), rasterio.open(path, driver="GTiff") as file:
        found = rasterio.features.shapes(rasterio.band(file, 1), transform=file.transform)
        kept = [(shapely.geometry.shape(s), int(v)) for s, v in found if int(v) in names]
        crs = file.crs
    values = [v for _, v in kept]
    table = geopandas.GeoDataFrame(
        {"value": np.array(values, np.int64), "class": [names[v] for v in values]},
        geometry=[s for s, _ in kept],
        crs=crs,
    )
    table["area_m2"] = _areas(table)
    corner = table.geometry.bounds
    return table.iloc[np.lexsort((corner["minx"], -corner["maxy"]))].reset_index(drop=True)


def _areas(table: Any) -> np.ndarray:
    """Return areas in square metres on the ellipsoid."""
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    shapes = table.geometry.to_crs("EPSG:4326") if table.crs is not None else table.geometry
    return np.array([abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes])


def class_areas(table: Any, layer: LayerSpec) -> dict[str, float]:
    """Return the area of every class in square metres, 0 of those that do not occur."""
    sums = table.groupby("value")["area_m2"].sum()
    return {c.name: float(sums.get(c.value, 0.0)) for c in layer.classes}


def write_polygons(table: Any, layer: LayerSpec, stem: Path) -> tuple[Path, Path]:
    """Write ``<stem>.gpkg``, which QGIS opens with the colours of the classes, and ``<stem>.parquet``."""
    import pyogrio

    package, parquet = (stem.with_name(f"{stem.name}.{kind}") for kind in ("gpkg", "parquet"))
    table.to_parquet(parquet)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED})
    try:
        table.to_file(package, layer="classes", driver="GPKG")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    other = "no class" if "" in set(table["class"]) else ""
    add_style(package, "classes", categories_qml(layer.classes, "class", other=other))
    return package, parquet
