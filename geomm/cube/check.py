"""Check a cube against physics before it is trusted: warns with evidence, changes nothing."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from geomm.cube.arguments import cube_of
from geomm.cube.calibrate import calibrated
from geomm.cube.items import items_of
from geomm.errors import RadiometryWarning
from geomm.radiometry import offset_evidence

SAMPLE = 512
"""Pixels along a side that are looked at, from the middle of the cube."""


def check_radiometry(cube: xr.DataTree, *, sample: int = SAMPLE) -> dict[str, str]:
    """Look for Sentinel-2 offsets that were left in or taken off twice.

    Args:
        cube: lazy or computed; only a window from its middle is read.
        sample: height and width of that window in pixels.

    Returns:
        Modality and time step to evidence, such as ``{"optical 2022-03-01": "99 % of the pixels ..."}``; empty where
        nothing is suspicious. Every finding is also a :class:`geomm.errors.RadiometryWarning`.
    """
    found = {}
    for name, node in cube_of(cube).children.items():
        dataset = node.to_dataset()
        if not str(dataset.attrs.get("sensor", "")).startswith("sentinel2") or dataset.attrs["units"] != "reflectance":
            continue
        middle = {
            d: slice(max(dataset.sizes[d] // 2 - sample // 2, 0), dataset.sizes[d] // 2 + sample // 2 + 1) for d in "yx"
        }
        physical = calibrated(dataset.isel(middle))["data"].compute()
        for k, time in enumerate(physical["time"].to_numpy()):
            bands = {str(b): physical.isel(time=k).sel(band=b).to_numpy() for b in physical["band"].to_numpy()}
            evidence = offset_evidence(bands, _dark(bands))
            if evidence:
                key = f"{name} {str(time)[:10]}"
                found[f"{key} ({k})" if key in found else key] = evidence
                items = ", ".join(items_of(dataset)[k]) or "?"
                warnings.warn(f"{key} (items {items}): {evidence}.", RadiometryWarning, stacklevel=2)
    return found


def _dark(bands: dict[str, np.ndarray]) -> np.ndarray | None:
    """Pixels that are surely dark in the infrared: the darkest 2 % of the near infrared, if that is dark at all."""
    infrared = bands.get("B08", bands.get("B8A"))
    if infrared is None or not np.isfinite(infrared).any():
        return None
    limit = np.nanpercentile(infrared, 2)
    return np.asarray(infrared <= limit) if limit < 0.05 else None
