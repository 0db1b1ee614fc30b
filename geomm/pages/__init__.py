"""Pages that need nothing but themselves: their shell, their style, and the parts that several of them have.

A page runs no script and loads nothing; its style follows the light or dark of the reader. Whatever comes from data
goes through :mod:`geomm.pages.words` before it is HTML.
"""

from __future__ import annotations

from geomm.pages.maps import Outline, map_of
from geomm.pages.parts import chart, facts, header, image, picture, section, shares, table, tiles
from geomm.pages.shell import POLICY, page
from geomm.pages.words import code, command, digest, duration, listing, plain, size, text

__all__ = [
    "POLICY",
    "Outline",
    "chart",
    "code",
    "command",
    "digest",
    "duration",
    "facts",
    "header",
    "image",
    "listing",
    "map_of",
    "page",
    "picture",
    "plain",
    "section",
    "shares",
    "size",
    "table",
    "text",
    "tiles",
]
