"""For tests and benchmarks: synthetic scenes of any sensor, an identity decoder, a reader that counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from torch import Tensor

from geomm.catalog import BandSource
from geomm.cube.read import CACHE_MB, SourceReader
from geomm.sensors import BandSpec, get_sensor
from geomm.types import LayerSpec, Prediction

ORIGIN = (500000.0, 4000000.0)
"""Upper left corner of synthetic scenes in UTM 32N."""


def write_scene(
    folder: Path,
    sensor: str,
    *,
    item: str = "scene",
    bands: Sequence[str] = (),
    shape: tuple[int, int] = (64, 64),
    resolution: float = 30.0,
    origin: tuple[float, float] = ORIGIN,
    crs: str | None = "EPSG:32632",
    seed: int = 0,
) -> list[Path]:
    """Write one GeoTIFF ``<item>_<band>.tif`` per band with smooth random content in the band's stored numbers.

    The upper left 4x4 pixels are nodata where the band has a nodata value.

    Returns:
        The files, in the order of the bands.
    """
    spec = get_sensor(sensor)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, name in enumerate(bands or spec.band_names()):
        band = spec.band(name)
        stored = stored_field(band, shape, seed=seed + number)
        path = folder / f"{item}_{band.name}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=shape[0],
            width=shape[1],
            count=1,
            dtype=stored.dtype,
            crs=crs,
            transform=Affine(resolution, 0, origin[0], 0, -resolution, origin[1]),
        ) as file:
            file.write(stored, 1)
        files.append(path)
    return files


def stored_field(band: BandSpec, shape: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Return stored numbers of a band: physical values over its display range, encoded by its calibration."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    phase = generator.uniform(0, 2 * np.pi, 2)
    wave = 0.5 + 0.25 * (np.sin(y / 7 + phase[0]) + np.sin(x / 9 + phase[1]))
    if band.kind == "class":
        stored = np.floor(wave * 3).clip(0, 2)
    elif band.kind == "bits":
        stored = np.where(wave > 0.6, 0b1111000000000000, 0b0101000000000000)
    else:
        low, high = band.display
        value = low + wave * (high - low)
        c = band.calibration
        if c.k1 is not None and c.k2 is not None:
            value = c.k1 / (np.exp(c.k2 / value) - 1.0)
        stored = (value - c.offset) / c.scale
    dtype = np.dtype(band.dtype or ("float32" if band.kind in ("power", "db", "elevation") else "uint16"))
    out = stored.round().astype(dtype) if dtype.kind in "iu" else stored.astype(dtype)
    if band.nodata is not None:
        out[:4, :4] = band.nodata
    return np.asarray(out)


class IdentityDecoder:
    """Decodes the first band of a modality back into its stored numbers; nodata 0 where invalid."""

    def __init__(self, dtype: str = "uint16") -> None:
        self.layers = (LayerSpec("value", "continuous", dtype, 0.0, ("value",)),)

    def activate(self, answer: Tensor) -> Tensor:
        """Return the answer unchanged."""
        return answer

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the scores as the stored dtype."""
        value = np.where(valid, scores[:1], 0).astype(self.layers[0].dtype)
        return Prediction({"value": value}, self.layers)


class CountingReader(SourceReader):
    """Counts how often each block of each source is decoded."""

    def __init__(self, cache_mb: int = CACHE_MB) -> None:
        super().__init__(cache_mb)
        self.blocks: Counter[tuple[str, tuple[int, ...], tuple[int, int, int, int]]] = Counter()
        self._counting = threading.Lock()

    @property
    def reads(self) -> Counter[str]:
        """Decoded blocks by source."""
        total: Counter[str] = Counter()
        for (href, *_), count in self.blocks.items():
            total[href] += count
        return total

    def decode(
        self, source: BandSource, indexes: tuple[int, ...], cell: tuple[int, int, int, int], *, masked: bool
    ) -> Any:
        """Count a block, and decode it."""
        with self._counting:
            self.blocks[source.href, indexes, cell] += 1
        return super().decode(source, indexes, cell, masked=masked)
