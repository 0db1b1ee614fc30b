"""Scenes and one GeoBox to a lazy, aligned cube: an ``xr.DataTree`` with one node per modality.

Every node holds ``data (time, band, y, x)`` in the stored dtype, ``valid (time, y, x)`` (True = usable), and its
calibration beside it as coordinates ``scale``, ``offset``, ``k1`` and ``k2`` of ``(time, band)``. Nothing is read until
it is asked for. ``status (time, y, x)`` says how every pixel came about.

The way of a pixel: ``grid`` chooses where it lies, ``plan`` which scenes it may come from, ``locate`` where it lies in
their files, ``read`` decodes, ``resample`` and ``warp`` bring it over, ``load`` wraps it lazily, ``times`` chooses
among dates.
"""

from __future__ import annotations

from geomm.cube.areas import close_files
from geomm.cube.arguments import cube_of
from geomm.cube.arrays import from_xarray
from geomm.cube.calibrate import calibrated
from geomm.cube.check import check_radiometry
from geomm.cube.grid import common_geobox, coords_of, geobox_of, ground_size, group_sites
from geomm.cube.load import load_cube
from geomm.cube.plots import picture_of
from geomm.cube.show import Cube
from geomm.cube.times import composite

__all__ = [
    "Cube",
    "calibrated",
    "check_radiometry",
    "close_files",
    "common_geobox",
    "composite",
    "coords_of",
    "cube_of",
    "from_xarray",
    "geobox_of",
    "ground_size",
    "group_sites",
    "load_cube",
    "picture_of",
]
