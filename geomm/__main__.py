"""``python -m geomm`` is the command ``geomm``."""

from __future__ import annotations

from geomm.cli import main

main()
