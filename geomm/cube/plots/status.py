"""Which pixels of a cube are usable, and why others are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from geomm.cube.grid import geobox_of
from geomm.cube.plan import STATUS
from geomm.cube.plots.chosen import node_of
from geomm.cube.plots.draw import frame, legend
from geomm.cube.plots.stretch import SIDE
from geomm.types import ClassSpec

_STATUS = (
    ClassSpec(STATUS["valid"], "valid", "#2c7fb8"),
    ClassSpec(STATUS["quality"], "excluded by quality", "#fdae61"),
    ClassSpec(STATUS["nodata"], "nodata", "#525252"),
    ClassSpec(STATUS["outside"], "outside", "#d9d9d9"),
    ClassSpec(STATUS["unreadable"], "unreadable", "#d7191c"),
)


def draw_status(ax: Any, cube: xr.DataTree, steps: Mapping[str, int], title: str) -> None:
    """Draw how the pixels of modalities came about; of several, where all are valid.

    Args:
        ax: axes.
        cube: whose grid it is.
        steps: modality to its time step.
        title: of the picture.
    """
    codes = np.stack([_codes(cube, *one) for one in steps.items()]).min(0)
    colours = np.zeros((256, 4), np.uint8)
    for spec in _STATUS:
        colours[spec.value] = (*spec.rgb, 255)
    shares = [float((codes == spec.value).mean()) for spec in _STATUS]
    seen = [k for k, share in enumerate(shares) if share]
    frame(ax, colours[codes], title, geobox_of(cube), _every(cube))
    legend(ax, [_STATUS[k] for k in seen], [shares[k] for k in seen])


def _codes(cube: xr.DataTree, name: str, at: int) -> np.ndarray:
    """Return the status of a modality, sampled; what was taken out of ``valid`` later counts as excluded by quality."""
    part, every = node_of(cube, name).isel(time=at), slice(None, None, _every(cube))
    seen = part[[n for n in ("status", "valid") if n in part]].isel(y=every, x=every).compute()  # files are read once
    valid = seen["valid"].to_numpy()
    if "status" not in seen:
        return np.where(valid, STATUS["valid"], STATUS["nodata"])
    codes = seen["status"].to_numpy()
    return np.where((codes == STATUS["valid"]) & ~valid, STATUS["quality"], codes)


def _every(cube: xr.DataTree) -> int:
    return max(1, -(-int(max(geobox_of(cube).shape)) // SIDE))
