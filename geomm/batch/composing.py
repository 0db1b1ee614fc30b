"""Units of ``composite`` stages: the median of a band over a tile and a period, and what stands out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.batch.task import NOTHING, NothingThereError, Task, Told
from geomm.batch.work import take_item
from geomm.config import CompositeStage
from geomm.cube import check_radiometry, close_files, composite, load_cube
from geomm.cube.tiles import tile_geobox
from geomm.export import Provenance, write_products
from geomm.pipeline.clock import Clock
from geomm.sensors import get_sensor
from geomm.types import LayerSpec, Modality, Prediction, Window

STREAM = "composite"


def make(task: Task, folder: Path, clock: Clock, told: Told) -> dict[str, Any]:
    """Make the composite of a tile, block by block."""
    stage = task.stage
    assert isinstance(stage, CompositeStage)
    geobox = tile_geobox(stage.crs, stage.resolution, stage.size, *task.unit.note["tile"])
    quality = get_sensor(stage.sensor).quality
    bands = (stage.band, *([quality.band] if quality is not None else ()))
    scenes = [s.only([b for b in bands if b in s.bands]) for s in task.scenes]
    cube = load_cube(scenes, geobox, {STREAM: Modality(stage.sensor, (stage.band,))}, errors="raise")
    try:
        check_radiometry(cube)
        node = composite(cube, "median").children[STREAM].to_dataset().isel(time=0, drop=True)
        median, count = node["data"].isel(band=0).to_numpy(), node["count"].to_numpy()
    finally:
        close_files(cube)
    if not count.any():
        raise NothingThereError("no pixel of the imagery is valid", fix=NOTHING)
    told()
    clock.lap("read")
    score = anomaly(median, stage.background)
    unit = str(node["data"].attrs.get("units", cube.children[STREAM].attrs["units"]))
    layers = _layers(unit, get_sensor(stage.sensor).band(stage.band).display, int(count.max()))
    clock.lap("model")
    name = Path(task.unit.place).name
    arrays = {"median": median, "anomaly": score, "count": count.astype(np.uint16)}
    source = Provenance(min(s.time for s in scenes), tuple(dict.fromkeys(s.href for s in scenes)))
    product = write_products(_blocks(arrays, layers), geobox, folder, name=name, source=source)
    return take_item(product.item)


def anomaly(values: NDArray[np.float32], background: int) -> NDArray[np.float32]:
    """Return how far every pixel lies above its surroundings, in mean absolute deviations of these.

    The contextual test of MODIS fire detection (L. Giglio et al., Remote Sensing of Environment 87, 2003, equations 3
    to 7): mean and mean absolute deviation of the valid pixels of a window about the pixel.

    Args:
        values: ``(y, x)``, NaN where invalid.
        background: side of the window in pixels.

    Returns:
        ``(y, x)``, NaN where invalid or where less than a quarter of the window is valid.
    """
    from scipy.ndimage import uniform_filter

    known = np.isfinite(values)
    share = uniform_filter(known.astype(np.float64), background, mode="constant")
    enough = known & (share >= 0.25)
    safe = np.where(share > 0, share, 1.0)
    base = float(np.nanmean(values)) if known.any() else 0.0  # small numbers keep their digits
    mean = uniform_filter(np.where(known, values - base, 0.0), background, mode="constant") / safe + base
    away = uniform_filter(np.where(known, np.abs(values - mean), 0.0), background, mode="constant") / safe
    score = (values - mean) / np.maximum(away, 1e-3)
    return np.where(enough, score, np.nan).astype(np.float32)


def _layers(unit: str, display: tuple[float, float], most: int) -> tuple[LayerSpec, ...]:
    """Return what a composite holds; colours of neighbouring tiles mean the same."""
    nan = float("nan")
    return (
        LayerSpec("median", "continuous", "float32", nan, ("median",), unit, limits=display),
        LayerSpec("anomaly", "continuous", "float32", nan, ("anomaly",), limits=(0.0, 6.0)),
        LayerSpec("count", "continuous", "uint16", 0.0, ("observations",), limits=(0.0, float(most))),
    )


def _blocks(
    arrays: dict[str, NDArray[Any]], layers: tuple[LayerSpec, ...], side: int = 1024
) -> Iterator[tuple[Window, Prediction]]:
    height, width = arrays["median"].shape
    for y in range(0, height, side):
        for x in range(0, width, side):
            window = Window(y, x, min(side, height - y), min(side, width - x))
            yield window, Prediction({n: a[window.slices][None] for n, a in arrays.items()}, layers)
