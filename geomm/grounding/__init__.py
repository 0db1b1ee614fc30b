"""Where in an image words are: heat maps, maps of classes that are only named, and classes of whole chips.

Nothing is trained for it: the vectors of places come from a dual encoder, the classes from prompts, which travel with
every number and map that was made with them.
"""

from __future__ import annotations

from geomm.grounding.classes import ZeroShot, zero_shot
from geomm.grounding.heat import ground, heat_of
from geomm.grounding.prompts import Prompts, read_prompts

__all__ = ["Prompts", "ZeroShot", "ground", "heat_of", "read_prompts", "zero_shot"]
