"""Cut chips out of a cube, as NumPy arrays: one by one, or as a stream that decodes every source block once.

The stream follows an order of areas (:class:`geomm.chips.ChipOrder`): threads read the areas ahead, into buffers that
are used again, while batches are cut out of those that are there. Memory depends on the areas that are open at a time,
never on the size of the cube. Stored numbers stay as they are; values of pixels that hold nothing are 0.
"""

from __future__ import annotations

from geomm.chipping.batch import ChipArrays, Target
from geomm.chipping.reader import ChipReader
from geomm.chipping.views import ChipViews

__all__ = ["ChipArrays", "ChipReader", "ChipViews", "Target"]
