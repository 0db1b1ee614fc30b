"""Stored numbers to physical values, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geomm import radiometry
from geomm.errors import ConfigError

CALIBRATION = ("scale", "offset", "k1", "k2")
"""Coordinates of ``(time, band)`` that carry the calibration."""


def calibrated(cube: xr.DataTree | xr.Dataset) -> Any:
    """Return the cube in physical units, lazily: float32, NaN where invalid, without the calibration coordinates.

    What is calibrated already stays as it is.

    Raises:
        ConfigError: it is neither a cube nor one of its nodes.
    """
    if isinstance(cube, xr.DataTree):
        return type(cube).from_dict(
            {"/": calibrated(cube.to_dataset()), **{n: calibrated(c.to_dataset()) for n, c in cube.children.items()}}
        )
    if not isinstance(cube, xr.Dataset):
        raise ConfigError(
            "this is no cube",
            where=repr(cube)[:60].replace("\n", " "),
            why=f"calibration lies beside the data in a node; got {type(cube).__name__}",
            fix="give the cube or one of its nodes: geomm.calibrated(cube)['optical']['data']",
        )
    if "scale" not in cube.coords:
        return cube
    parts = [cube[name] for name in CALIBRATION]
    planck = bool(np.isfinite(cube.k1).any())
    value = radiometry.to_physical(cube.data.astype("float32"), *(parts if planck else parts[:2]))
    physical = value.where(cube.valid).astype("float32").transpose(*cube.data.dims)
    told = {"units": cube.attrs["units"]} if "units" in cube.attrs else {}
    return cube.drop_vars(CALIBRATION).assign(
        data=physical.drop_vars(CALIBRATION).drop_attrs(deep=False).assign_attrs(told)
    )
