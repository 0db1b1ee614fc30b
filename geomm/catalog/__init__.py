"""Imagery catalogs: open, search, build. The only door to STAC; nothing above this layer sees an item.

``open_catalog(path).search(...)`` returns :class:`Scene` records, one per item and sensor.
"""

from __future__ import annotations

from geomm.catalog.build import build_catalog
from geomm.catalog.scene import BandSource, Scene, to_stac_items
from geomm.catalog.search import Catalog, open_catalog

__all__ = ["BandSource", "Catalog", "Scene", "build_catalog", "open_catalog", "to_stac_items"]
