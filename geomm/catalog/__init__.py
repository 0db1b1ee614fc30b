"""Imagery catalogs: open, search, build. The only door to STAC; nothing above this layer sees an item.

``open_catalog(path).search(...)`` returns :class:`Scene` records, one per item and sensor.
"""

from __future__ import annotations

from geomm.catalog.build import build_catalog
from geomm.catalog.names import safe_name
from geomm.catalog.outline import Outline
from geomm.catalog.probe import GDAL_SETTINGS, degrees_of, grid_of, local_path, open_dataset, probe
from geomm.catalog.query import parse_interval
from geomm.catalog.scene import BandSource, Grid, Scene
from geomm.catalog.search import Catalog, open_catalog
from geomm.catalog.sign import signed

__all__ = [
    "GDAL_SETTINGS",
    "BandSource",
    "Catalog",
    "Grid",
    "Outline",
    "Scene",
    "build_catalog",
    "degrees_of",
    "grid_of",
    "local_path",
    "open_catalog",
    "open_dataset",
    "parse_interval",
    "probe",
    "safe_name",
    "signed",
]
