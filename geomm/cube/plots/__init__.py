"""Pictures of a cube.

``preview`` makes it small, ``stretch`` turns it into colours, ``draw`` puts them on axes, ``explore`` on a map;
``accessor`` is ``cube.geomm``, ``maps`` the same for what a model said.
"""

from __future__ import annotations

from geomm.cube.plots.accessor import CubeAccessor, CubePlots
from geomm.cube.plots.maps import MapAccessor
from geomm.cube.plots.stretch import Picture, Stretch, picture_of

__all__ = ["CubeAccessor", "CubePlots", "MapAccessor", "Picture", "Stretch", "picture_of"]
