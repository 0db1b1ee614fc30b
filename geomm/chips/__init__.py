"""Windows of a grid that models see, where they lie, how they are split, and in which order they are read.

Integers only: nothing here touches a pixel.
"""

from __future__ import annotations

from geomm.chips.grid import Chip, ChipGrid
from geomm.chips.order import ChipOrder, Itinerary, Visit
from geomm.chips.split import SpatialSplit

__all__ = ["Chip", "ChipGrid", "ChipOrder", "Itinerary", "SpatialSplit", "Visit"]
