"""Predicted blocks to files that a GIS opens right: COG, category names, style, STAC item.

The only writer of GeoTIFF.
"""

from __future__ import annotations

from geomm.export.products import Product, Provenance, write_products
from geomm.export.staging import identity_of

__all__ = ["Product", "Provenance", "identity_of", "write_products"]
