"""Write layers block by block, then lay them out as Cloud Optimized GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RioWindow

from geomm.errors import OutputError
from geomm.types import LayerSpec, Prediction, Window

GDAL_CACHE = 16 * 2**20
"""Fixed, so that memory depends neither on the scene nor on the machine."""


class LayerWriter:
    """One layer on its way: a tiled scratch file that takes blocks in any order, then a COG.

    Args:
        folder: where the scratch file goes.
        layer: what is written.
        geobox: the grid of the whole output.
        tags: dataset metadata.
    """

    def __init__(self, folder: Path, layer: LayerSpec, geobox: GeoBox, tags: dict[str, str]) -> None:
        self.layer = layer
        self._scratch = folder / f"scratch-{layer.name}.tif"
        self._file = rasterio.open(
            self._scratch,
            "w",
            driver="GTiff",
            height=int(geobox.shape[0]),
            width=int(geobox.shape[1]),
            count=len(layer.bands),
            dtype=layer.dtype,
            crs=str(geobox.crs),
            transform=geobox.affine,
            nodata=layer.nodata,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            zlevel=1,
            bigtiff="IF_SAFER",
        )
        self._file.update_tags(AREA_OR_POINT="Area", **tags)
        for number, name in enumerate(layer.bands, start=1):
            self._file.set_band_description(number, name)
        self._file.units = (layer.unit,) * len(layer.bands)
        if layer.kind == "class":
            self._file.write_colormap(1, {c.value: (*c.rgb, 255) for c in layer.classes} | {255: (0, 0, 0, 0)})
            self._file.colorinterp = (ColorInterp.palette,)

    def write(self, window: Window, array: np.ndarray) -> None:
        """Write one block ``(band, y, x)``.

        Raises:
            OutputError: shape or dtype is not that of the layer.
        """
        if array.shape != (len(self.layer.bands), *window.shape) or array.dtype != self.layer.dtype:
            raise OutputError(
                "the block does not fit its layer",
                where=f"layer {self.layer.name}, {window}",
                why=f"got {array.dtype} {array.shape}; wanted {self.layer.dtype} {len(self.layer.bands)} bands",
            )
        self._file.write(array, window=RioWindow(window.x, window.y, window.width, window.height))

    def close(self) -> None:
        """Close the scratch file."""
        self._file.close()

    def finish(self, target: Path) -> None:
        """Turn the scratch file into a COG with overviews of the layer's kind: mode for classes, else average."""
        self.close()
        categorical = self.layer.kind == "class"
        method = "MODE" if categorical else "AVERAGE"
        options: dict[str, Any] = {
            "BLOCKSIZE": "512",
            "COMPRESS": "DEFLATE",
            "LEVEL": "9" if categorical else "6",
            "PREDICTOR": "NO" if categorical else "YES",
            "RESAMPLING": method,
            "OVERVIEW_RESAMPLING": method,
            "STATISTICS": "YES",
            "BIGTIFF": "IF_SAFER",
        }
        rasterio.shutil.copy(self._scratch, target, driver="COG", **options)
        self._scratch.unlink()


def write_layers(
    folder: Path,
    blocks: Iterable[tuple[Window, Prediction]],
    geobox: GeoBox,
    stem: str,
    tags: dict[str, str],
) -> list[tuple[LayerSpec, Path]]:
    """Write every layer of a stream of predictions into ``folder`` as ``<stem>-<layer>.tif``.

    Raises:
        OutputError: there is no block, a block does not fit, or the disk does not take it.
    """
    writers: dict[str, LayerWriter] = {}
    finished = []
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE, GDAL_NUM_THREADS="1"):
        try:
            for window, prediction in blocks:
                for layer in prediction.layers:
                    if layer.name not in writers:
                        writers[layer.name] = LayerWriter(folder, layer, geobox, tags)
                    writers[layer.name].write(window, prediction.arrays[layer.name])
            for writer in writers.values():
                target = folder / f"{stem}-{writer.layer.name}.tif"
                writer.finish(target)
                finished.append((writer.layer, target))
        except rasterio.errors.RasterioError as error:
            raise OutputError("the GeoTIFF cannot be written", where=str(folder), why=str(error)) from error
        finally:
            for writer in writers.values():
                writer.close()
    if not finished:
        raise OutputError("there is nothing to write", where=stem, why="the prediction has no block")
    return finished
