"""Class maps to polygons, for a GIS (GeoPackage, styled) and for analysis (GeoParquet)."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features

from geomm.export.spool import GDAL_CACHE
from geomm.export.style import categories_qml
from geomm.types import LayerSpec

FIXED = "2000-01-01T00:00:00Z"
"""What a GeoPackage says of when it was made, so that the same map gives the same bytes."""


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
    _add_style(package, "classes", categories_qml(layer, "class"))
    return package, parquet


def _add_style(package: Path, layer: str, style: str) -> None:
    """Put a default style for QGIS into a GeoPackage (table ``layer_styles``)."""
    columns = (
        "id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT(256), f_table_schema TEXT(256), "
        "f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
        "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME"
    )
    row = ("", "", layer, "geom", layer, style, "", True, "classes", "", "", FIXED)
    with sqlite3.connect(package) as database:
        database.execute(f"CREATE TABLE layer_styles ({columns})")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            (FIXED,),
        )
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    database.close()
