"""Windows of a grid that models see, where they lie, how they are split, and in which order they are read.

Integers only: nothing here touches a pixel.
"""

from __future__ import annotations

from geomm.chips.draw import balanced_chips, centred_chips, label_counts, random_chips, timed_chips
from geomm.chips.grid import Chip, ChipGrid
from geomm.chips.order import ChipOrder, Itinerary, Visit
from geomm.chips.split import SpatialSplit, split_places

__all__ = [
    "Chip",
    "ChipGrid",
    "ChipOrder",
    "Itinerary",
    "SpatialSplit",
    "Visit",
    "balanced_chips",
    "centred_chips",
    "label_counts",
    "random_chips",
    "split_places",
    "timed_chips",
]
