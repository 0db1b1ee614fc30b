"""Hits of a search, to look at and to take away: a page with pictures, a file for a GIS, lines for a terminal."""

from __future__ import annotations

from geomm.pipeline.gallery.files import write_hits
from geomm.pipeline.gallery.hits import HEAD, hits_table
from geomm.pipeline.gallery.look import Gallery
from geomm.pipeline.gallery.page import gallery_page, write_gallery

__all__ = ["HEAD", "Gallery", "gallery_page", "hits_table", "write_gallery", "write_hits"]
