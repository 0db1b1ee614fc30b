"""Where finished units of work go: published whole, verified, listed in a catalog of their own."""

from __future__ import annotations

from geomm.archive.manifest import FileRecord, Manifest, sha256_of

__all__ = ["FileRecord", "Manifest", "sha256_of"]
