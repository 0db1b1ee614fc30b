"""Imagery catalogs: open, search, build. The only door to STAC; nothing above this layer sees an item.

``open_catalog(path).search(...)`` returns :class:`Scene` records, one per item and sensor.
"""

from __future__ import annotations

from geomm.catalog.areas import bounds_of, in_degrees, meant, turned
from geomm.catalog.build import build_catalog
from geomm.catalog.criteria import parse_interval
from geomm.catalog.definition import definition_text, parse_yaml
from geomm.catalog.fetch import FetchSettings, fetch, fetched_scene
from geomm.catalog.limits import Limits
from geomm.catalog.names import safe_name, safe_names
from geomm.catalog.outline import Outline
from geomm.catalog.policy import ReadPolicy, local_path
from geomm.catalog.probe import GDAL_SETTINGS, degrees_of, grid_of, open_dataset, probe
from geomm.catalog.scene import BandSource, Grid, Scene
from geomm.catalog.search import Catalog, open_catalog
from geomm.catalog.sign import signed
from geomm.catalog.source import locate, naming, open_source, place, unread

__all__ = [
    "GDAL_SETTINGS",
    "BandSource",
    "Catalog",
    "FetchSettings",
    "Grid",
    "Limits",
    "Outline",
    "ReadPolicy",
    "Scene",
    "bounds_of",
    "build_catalog",
    "definition_text",
    "degrees_of",
    "fetch",
    "fetched_scene",
    "grid_of",
    "in_degrees",
    "local_path",
    "locate",
    "meant",
    "naming",
    "open_catalog",
    "open_dataset",
    "open_source",
    "parse_interval",
    "parse_yaml",
    "place",
    "probe",
    "safe_name",
    "safe_names",
    "signed",
    "turned",
    "unread",
]
