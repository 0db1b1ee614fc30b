"""A small picture's worth of a modality: physical values, averaged down block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm import radiometry
from geomm.chips import ChipGrid
from geomm.cube.areas import Areas, chosen_bands, new_area
from geomm.cube.calibrate import CALIBRATION
from geomm.cube.memory import Memory
from geomm.sensors import get_sensor
from geomm.types import Unit, Window

BLOCK = 1024
"""About how many pixels along each side are read at a time."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Bands of one time step, made small."""

    values: NDArray[np.float32]
    """Physical values ``(band, y, x)``, NaN where nothing is valid."""
    every: int
    """Pixels of the grid along each side of one of these."""
    unit: Unit
    """Of the values."""


def preview(node: xr.Dataset, bands: Sequence[int], *, step: int = 0, side: int = 800) -> Preview:
    """Read bands of a time step and make them small, in memory that does not grow with the grid.

    Continuous values are averaged over what is valid, backscatter as power; classes and bits are sampled.

    Args:
        node: of a cube; lazy, loaded or calibrated.
        bands: positions of the bands.
        step: position of the time step.
        side: most pixels of the longer side of the result.
    """
    height, width = node.sizes["y"], node.sizes["x"]
    every = max(1, -(-max(height, width) // side))
    names = [str(n) for n in np.atleast_1d(node["band"].to_numpy())]
    spec = get_sensor(str(node.attrs["sensor"])).band(names[bands[0]])
    areas, memory = chosen_bands(node, step, bands), Memory()
    table = _calibration(node, step, bands)
    out = np.full((len(bands), -(-height // every), -(-width // every)), np.nan, np.float32)

    def one(window: Window) -> None:
        values = _physical(areas, window, memory, table)
        small = _sampled(values, every) if spec.kind in ("class", "bits") else _averaged(values, every, spec.unit)
        y, x = window.y // every, window.x // every
        out[:, y : y + small.shape[1], x : x + small.shape[2]] = small

    windows = [c.write for c in ChipGrid((height, width), every * max(1, BLOCK // every))]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, windows))
    return Preview(out, every, spec.unit)


def _calibration(node: xr.Dataset, step: int, bands: Sequence[int]) -> NDArray[np.float64] | None:
    """Return scale, offset, K1 and K2 as ``(4, band, 1, 1)``; None where the values are physical already."""
    if "scale" not in node.coords:
        return None
    return np.stack([node[k].to_numpy()[step][list(bands)] for k in CALIBRATION])[:, :, None, None].astype(float)


def _physical(areas: Areas, window: Window, memory: Memory, table: NDArray[Any] | None) -> NDArray[np.float32]:
    area = new_area(areas, window.shape, memory)
    areas.read(0, window, area)
    values = area.data[0].astype(np.float32)
    if table is not None:
        values = np.asarray(radiometry.to_physical(values, *table[: 4 if np.isfinite(table[2]).any() else 2]))
    return np.where(area.valid[0], values, np.nan).astype(np.float32)


def _sampled(values: NDArray[np.floating], every: int) -> NDArray[np.floating]:
    return values[:, ::every, ::every]


def _averaged(values: NDArray[np.floating], every: int, unit: Unit) -> NDArray[np.floating]:
    """Return means over squares of what is valid."""
    if every == 1:
        return values
    linear = radiometry.from_db(values) if unit.endswith("_db") else values**2 if unit == "amplitude" else values
    _, height, width = linear.shape
    padded = np.pad(linear, ((0, 0), (0, -height % every), (0, -width % every)), constant_values=np.nan)
    squares = padded.reshape(len(padded), padded.shape[1] // every, every, -1, every)
    known = np.isfinite(squares)
    count = known.sum((2, 4))
    mean = np.where(known, squares, 0).sum((2, 4)) / np.where(count, count, np.nan)
    return np.asarray(
        radiometry.to_db(mean) if unit.endswith("_db") else np.sqrt(mean) if unit == "amplitude" else mean
    )
