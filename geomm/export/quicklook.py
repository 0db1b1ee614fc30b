"""A small picture of a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling

from geomm.types import LayerSpec

SIDE = 1024
"""Longest side in pixels."""


def write_quicklook(path: Path, layer: LayerSpec, target: Path) -> None:
    """Draw a class map in its colours, transparent where there is nothing, as PNG."""
    from PIL import Image

    with rasterio.open(path, driver="GTiff") as file:
        zoom = max(max(file.shape) / SIDE, 1.0)
        shape = (max(round(file.height / zoom), 1), max(round(file.width / zoom), 1))
        values = file.read(1, out_shape=shape, resampling=Resampling.nearest)
    table = np.zeros((256, 4), np.uint8)
    for c in layer.classes:
        table[c.value] = (*c.rgb, 255)
    Image.fromarray(table[values]).save(target)
