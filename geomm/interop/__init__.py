"""To other tools and back: torchgeo's data sets, tables of geopandas."""

from __future__ import annotations

from geomm.interop.frames import chips_frame, scenes_frame
from geomm.interop.rasters import from_torchgeo
from geomm.interop.torchgeo import to_torchgeo

__all__ = ["chips_frame", "from_torchgeo", "scenes_frame", "to_torchgeo"]
