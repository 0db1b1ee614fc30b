"""Predicted blocks to files that a GIS opens right: COG, category names, style, polygons, STAC item.

The only writer of GeoTIFF.
"""

from __future__ import annotations

from geomm.export.item import Provenance
from geomm.export.products import Further, write_products
from geomm.export.publish import Product, published
from geomm.export.staging import identity_of, tidy
from geomm.export.zones import classify_zones, read_zones

__all__ = [
    "Further",
    "Product",
    "Provenance",
    "classify_zones",
    "identity_of",
    "published",
    "read_zones",
    "tidy",
    "write_products",
]
