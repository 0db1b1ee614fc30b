"""Blocks of a map on disk, each whole or not there, until all are: what a stopped run finds again."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rasterio.windows import Window as RioWindow

from geomm.errors import OutputError
from geomm.types import ClassSpec, LayerSpec, Prediction, Window
from geomm.whole import write_whole

GDAL_CACHE = 16 * 2**20
"""Fixed, so that memory depends neither on the scene nor on the machine."""
TILE = 512
"""Side of the tiles of blocks and products."""
_TYPES: Mapping[str, str] = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "int32": "Int32"} | {
    "uint32": "UInt32",
    "float32": "Float32",
    "float64": "Float64",
}


class Spool:
    """Takes the blocks of all layers in any order, from any thread, and joins them.

    Args:
        folder: that exists; blocks that are in it already count.
        geobox: the grid of the whole output.
        tags: dataset metadata.
    """

    def __init__(self, folder: Path, geobox: GeoBox, tags: Mapping[str, str]) -> None:
        self.folder, self.geobox, self.tags = folder, geobox, dict(tags)
        self.shape = (int(geobox.shape[0]), int(geobox.shape[1]))
        self.layers: tuple[LayerSpec, ...] = ()
        about = folder / "layers.json"
        if about.is_file():
            self.layers = tuple(_layer_of(raw) for raw in json.loads(about.read_text()))
        self.done = {w for p in folder.glob("*.done") if (w := _window_of(p.stem)) is not None and self._whole(p, w)}
        """Windows that are there."""

    def write(self, window: Window, prediction: Prediction) -> None:
        """Store one block; after this it survives the end of the process.

        Raises:
            OutputError: shape or dtype is not that of the layer.
        """
        if not self.layers:
            for layer in prediction.layers:
                _check(layer)
            self.layers = tuple(prediction.layers)
            raw = json.dumps([dataclasses.asdict(layer) for layer in self.layers])
            write_whole(self.folder / "layers.json", raw.encode())
        sizes = []
        for layer in self.layers:
            content = self._encoded(layer, window, prediction.arrays[layer.name])
            write_whole(self._path(layer, window), content)
            sizes.append(len(content))
        write_whole(self.folder / f"{_stem(window)}.done", json.dumps(sizes).encode())
        self.done.add(window)

    def _whole(self, mark: Path, window: Window) -> bool:
        """Whether the files of a window are as long as they were: after a power cut they may not be."""
        try:
            sizes = json.loads(mark.read_text())
            return bool([self._path(layer, window).stat().st_size for layer in self.layers] == sizes)
        except (OSError, ValueError):
            return False

    def check(self) -> None:
        """Refuse blocks that do not cover the grid, each pixel once.

        Raises:
            OutputError: there is none, or they do not.
        """
        import shapely

        where = str(self.folder)
        if not self.layers:
            raise OutputError(
                "there is nothing to write",
                where=where,
                why="the prediction has no block",
                fix="give the stream of geomm.predict(...) as it is: a stream can be read only once",
            )
        boxes = [shapely.box(w.x, w.y, w.x + w.width, w.y + w.height) for w in self.done]
        total, covered = self.shape[0] * self.shape[1], shapely.union_all(boxes).area
        outside = shapely.union_all(boxes).difference(shapely.box(0, 0, self.shape[1], self.shape[0])).area
        twice = sum(b.area for b in boxes) - covered
        if covered - outside < total or outside or twice:
            raise OutputError(
                "the blocks do not cover the grid, each pixel once",
                where=where,
                why=f"pixels missing {total - covered + outside:.0f}, twice {twice:.0f}, outside {outside:.0f}",
                fix="write the blocks of one geomm.predict(...), with the geobox of the cube that it was given",
            )

    def joined(self, layer: LayerSpec) -> Path:
        """Write the description of a whole layer, which GDAL opens as one raster, and return its path."""
        root = ET.Element("VRTDataset", rasterXSize=str(self.shape[1]), rasterYSize=str(self.shape[0]))
        ET.SubElement(root, "SRS").text = self.geobox.crs.to_wkt() if self.geobox.crs is not None else ""
        a = self.geobox.affine
        ET.SubElement(root, "GeoTransform").text = ", ".join(repr(float(v)) for v in (a.c, a.a, a.b, a.f, a.d, a.e))
        about = ET.SubElement(root, "Metadata")
        for key, value in {"AREA_OR_POINT": "Area", **self.tags}.items():
            ET.SubElement(about, "MDI", key=key).text = value
        for number in range(1, len(layer.bands) + 1):
            self._band(root, layer, number)
        path = self.folder / f"{layer.name}.vrt"
        path.write_bytes(ET.tostring(root))
        # GDAL's own statistics of joined files depend, in the last digits, on how they were cut.
        for band, found in zip(root.iter("VRTRasterBand"), statistics(path), strict=True):
            about = ET.SubElement(band, "Metadata")
            for key, value in found.items():
                ET.SubElement(about, "MDI", key=f"STATISTICS_{key}").text = value
        path.write_bytes(ET.tostring(root))
        return path

    def _band(self, root: ET.Element, layer: LayerSpec, number: int) -> None:
        """Describe one band: what it is, and which file holds which part of it."""
        band = ET.SubElement(root, "VRTRasterBand", dataType=_TYPES[layer.dtype], band=str(number))
        ET.SubElement(band, "Description").text = layer.bands[number - 1]
        ET.SubElement(band, "UnitType").text = layer.unit
        ET.SubElement(band, "NoDataValue").text = repr(float(layer.nodata))
        if layer.scale != 1.0:
            ET.SubElement(band, "Scale").text = repr(layer.scale)
        if layer.kind == "class":
            colours = {c.value: (*c.rgb, 255) for c in layer.classes}
            ET.SubElement(band, "ColorInterp").text = "Palette"
            table = ET.SubElement(band, "ColorTable")
            for code in range(256):
                entry = colours.get(code, (0, 0, 0, 0 if code == layer.nodata else 255))
                ET.SubElement(table, "Entry", {f"c{k}": str(v) for k, v in enumerate(entry, start=1)})
        for window in sorted(self.done, key=lambda w: (w.y, w.x)):
            source = ET.SubElement(band, "SimpleSource")
            name = ET.SubElement(source, "SourceFilename", relativeToVRT="1")
            name.text = self._path(layer, window).name
            ET.SubElement(source, "SourceBand").text = str(number)
            size = {"xSize": str(window.width), "ySize": str(window.height)}
            grid = {"RasterXSize": str(window.width), "RasterYSize": str(window.height)}
            blocks = {"BlockXSize": str(TILE), "BlockYSize": str(TILE)}
            ET.SubElement(source, "SourceProperties", grid | {"DataType": _TYPES[layer.dtype]} | blocks)
            ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | size)
            ET.SubElement(source, "DstRect", {"xOff": str(window.x), "yOff": str(window.y)} | size)

    def _encoded(self, layer: LayerSpec, window: Window, array: np.ndarray) -> bytes:
        """Return one block of a layer as a small GeoTIFF."""
        if array.shape != (len(layer.bands), *window.shape) or array.dtype != layer.dtype:
            raise OutputError(
                "the block does not fit its layer",
                where=f"layer {layer.name}, {window}",
                why=f"got {array.dtype} {array.shape}; wanted {layer.dtype} {len(layer.bands)} bands",
                fix="cast the array, and give it as (band, y, x) of the size of its window",
            )
        layout = {"driver": "GTiff", "height": window.height, "width": window.width, "count": len(layer.bands)}
        options = {"compress": "zstd", "zstd_level": 1, "tiled": True, "blockxsize": TILE, "blockysize": TILE}
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), MemoryFile() as memory:
            place = self.geobox.affine @ self.geobox.affine.translation(window.x, window.y)
            with memory.open(**layout, dtype=layer.dtype, transform=place, crs=str(self.geobox.crs), **options) as file:
                file.write(array)
            return bytes(memory.getbuffer())

    def _path(self, layer: LayerSpec, window: Window) -> Path:
        return self.folder / f"{layer.name}-{_stem(window)}.tif"


def statistics(path: Path) -> list[dict[str, str]]:
    """Return minimum, maximum, mean, standard deviation and share of what is valid of every band, as GDAL names them.

    Empty for a band that holds nothing. Read tile by tile, whatever the blocks of the file are.
    """
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), rasterio.open(path) as file:
        sums = np.zeros((file.count, 3))
        least, most = np.full(file.count, np.inf), np.full(file.count, -np.inf)
        places = [(y, x) for y in range(0, file.height, TILE) for x in range(0, file.width, 4 * TILE)]
        for (top, left), k in ((place, k) for place in places for k in range(file.count)):
            size = min(4 * TILE, file.width - left), min(TILE, file.height - top)
            values, weights = _counted(file.read(k + 1, window=RioWindow(left, top, *size)), file.nodata)
            if values.size:
                sums[k] += weights.sum(), (values * weights).sum(), (values**2 * weights).sum()
                least[k], most[k] = min(least[k], values.min()), max(most[k], values.max())
        total = file.height * file.width
    found: list[dict[str, str]] = []
    for (count, first, second), low, high in zip(sums, least, most, strict=True):
        if not count:
            found.append({})
            continue
        mean = first / count
        spread = math.sqrt(max(second / count - mean**2, 0.0))
        about = {"MINIMUM": low, "MAXIMUM": high, "MEAN": mean, "STDDEV": spread}
        texts = {name: f"{float(value):.15g}" for name, value in about.items()}
        found.append(texts | {"VALID_PERCENT": f"{100 * count / total:.4g}"})
    return found


def _counted(values: np.ndarray, nodata: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the valid values and how often each occurs, float64: of bytes, every value once."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
        counts[int(nodata)] = 0
        return np.flatnonzero(counts).astype(np.float64), counts[counts > 0]
    kept = values[np.isfinite(values) if np.isnan(nodata) else values != nodata].astype(np.float64)
    return kept, np.ones_like(kept)


def _check(layer: LayerSpec) -> None:
    """Refuse a layer that cannot become a file.

    Raises:
        OutputError: its name or dtype.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", layer.name) or layer.dtype not in _TYPES:
        raise OutputError(
            "a layer cannot be written",
            where=f"layer {layer.name!r}",
            why=f"its name is no file name, or its dtype {layer.dtype} none of {', '.join(_TYPES)}",
            fix="name a layer by letters, digits, '-' and '_', and cast its array before",
        )


def _stem(window: Window) -> str:
    return f"{window.y}-{window.x}-{window.height}-{window.width}"


def _window_of(stem: str) -> Window | None:
    found = re.fullmatch(r"(\d+)-(\d+)-(\d+)-(\d+)", stem)
    return Window(*map(int, found.groups())) if found else None


def _layer_of(raw: dict[str, Any]) -> LayerSpec:
    classes = tuple(ClassSpec(**c) for c in raw["classes"])
    limits = tuple(raw["limits"]) if raw["limits"] is not None else None
    return LayerSpec(**{**raw, "bands": tuple(raw["bands"]), "classes": classes, "limits": limits})
