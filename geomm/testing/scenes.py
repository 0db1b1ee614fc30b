"""Synthetic scenes of any sensor, an identity decoder, a reader that counts."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geomm.catalog import BandSource, Grid, Scene
from geomm.cube.read import CACHE_MB, SourceReader
from geomm.sensors import BandSpec, get_sensor
from geomm.types import LayerSpec, Modality, Prediction

if TYPE_CHECKING:
    from torch import Tensor

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


def scene_without_files(sensor: str, bands: Sequence[str], grids: Sequence[Grid], dtype: str, *, day: int = 1) -> Scene:
    """Return a scene whose files do not exist: enough to plan, not to read."""
    sources = {
        band: BandSource(f"/nowhere/{sensor}/{band}.tif", 1, dtype, (0.0,), grid=grid)
        for band, grid in zip(bands, grids, strict=True)
    }
    when = dt.datetime(2023, 6, day, 10, tzinfo=dt.UTC)
    return Scene(f"{sensor}-{day}", sensor, when, (10.3, 45.9, 11.8, 47.0), {"type": "Polygon"}, sources)


def full_tile() -> tuple[GeoBox, dict[str, Modality], list[Scene]]:
    """Return a grid of 10,980 x 10,980 pixels, ten bands of three sensors, and scenes of them without files.

    Sentinel-2 at 10 and 20 m, Sentinel-1 on an offset grid, Landsat thermal in the neighbouring UTM zone.
    """
    streams = {
        "optical": Modality("sentinel2-l2a", ("B02", "B03", "B04", "B05", "B08", "B11")),
        "sar": Modality("sentinel1-rtc", ("VV", "VH")),
        "thermal": Modality("landsat-tirs-l1", ("B10", "B11")),
    }
    ten, twenty = (
        Grid("EPSG:32632", (size, 0.0, 600000.0, 0.0, -size, 5200020.0), (side, side))
        for size, side in ((10.0, 10980), (20.0, 5490))
    )
    sar = Grid("EPSG:32632", (10.0, 0.0, 599993.0, 0.0, -10.0, 5200033.0), (11000, 11000))
    zone33 = Grid("EPSG:32633", (30.0, 0.0, 100000.0, 0.0, -30.0, 5250000.0), (7000, 7000))
    scenes = [
        scene_without_files("sentinel2-l2a", streams["optical"].bands, [ten, ten, ten, twenty, ten, twenty], "uint16"),
        scene_without_files("sentinel1-rtc", ("VV", "VH"), [sar, sar], "float32"),
        scene_without_files("landsat-tirs-l1", ("B10", "B11"), [zone33, zone33], "uint16"),
    ]
    grid = GeoBox((10980, 10980), Affine(10, 0, 600000, 0, -10, 5200020), "EPSG:32632")
    return grid, streams, scenes


class IdentityDecoder:
    """Decodes the first band of a modality back into its stored numbers; nodata 0 where invalid."""

    def __init__(self, dtype: str = "uint16") -> None:
        self.layers = (LayerSpec("value", "continuous", dtype, 0.0, ("value",)),)

    def pack(self, scores: Tensor) -> Tensor:
        """Return the scores unchanged."""
        return scores

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
        self,
        source: BandSource,
        indexes: tuple[int, ...],
        cell: tuple[int, int, int, int],
        *,
        masked: bool,
        out: Any = None,
    ) -> Any:
        """Count a block, and decode it."""
        with self._counting:
            self.blocks[source.href, indexes, cell] += 1
        return super().decode(source, indexes, cell, masked=masked, out=out)
