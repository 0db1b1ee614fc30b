"""The chip store: chips cut once, read many times, as sharded zarr v3 with a GeoParquet manifest.

One inner chunk holds all times and bands of one chip and modality, so that a chip is one read. Stored numbers stay as
they are; calibration and validity lie beside them. Missing or damaged chunks raise, they never read as zeros.
"""

from __future__ import annotations

from geomm.store.leaks import Leak, find_leaks
from geomm.store.plan import StorePart
from geomm.store.read import StoredChips
from geomm.store.verify import verify_store
from geomm.store.write import write_store

__all__ = ["Leak", "StorePart", "StoredChips", "find_leaks", "verify_store", "write_store"]
