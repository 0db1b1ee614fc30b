"""Where finished units of work go: published whole, verified, listed in a catalog of their own.

``open_target(root)`` gives a folder or an object store; both keep the same promises. A unit appears with its STAC item
last, so that one whose item is there is whole; what a killed publisher left is replaced; a finished unit never is.
"""

from __future__ import annotations

from geomm.archive.listing import month_of, update_listing
from geomm.archive.manifest import FileRecord, Manifest, sha256_of
from geomm.archive.places import STAGING
from geomm.archive.target import Target, open_target

__all__ = ["STAGING", "FileRecord", "Manifest", "Target", "month_of", "open_target", "sha256_of", "update_listing"]
