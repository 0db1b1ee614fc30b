"""The reader driver of geomm for odc-loader: checked opening, errors that name their source."""

from __future__ import annotations

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver, RioReader
from odc.loader.types import RasterLoadParams, RasterSource, ReaderSubsetSelection
from rasterio.errors import RasterioError

from geomm.catalog.probe import driver_of
from geomm.errors import ReadError

GDAL_CACHE_MB = 64
"""Fixed: GDAL's default is a share of the machine's memory, which a large scene would fill."""


class CheckedReader(RioReader):  # type: ignore[misc]
    """Reads one band of one source onto a window of the target grid."""

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: np.ndarray | None = None,
        selection: ReaderSubsetSelection | None = None,
    ) -> tuple[tuple[slice, slice], np.ndarray]:
        """Read the overlap of the source with ``dst_geobox``.

        Returns:
            Rows and columns of the target that were read, and their pixels.

        Raises:
            ReadError: the source is not TIFF or JPEG 2000, or cannot be decoded.
        """
        driver_of(self._src.uri)
        fill = cfg.fill_value
        if fill is not None and not fill < 0:
            # Files often leave nodata undeclared: what the sensor table or the item says then holds for the source too.
            # (A negative fill lies just outside the source's dtype, see BandSource.fill: no stored value means it.)
            cfg = cfg.patch(src_nodata_fallback=fill)
        try:
            return super().read(cfg, dst_geobox, dst=dst, selection=selection)  # type: ignore[no-any-return]
        except RasterioError as error:
            corner = tuple(round(v, 1) for v in dst_geobox.boundingbox.bbox)
            raise ReadError(
                "the source cannot be read",
                where=f"{self._src.uri}, band {self._src.band}, window {corner} of {dst_geobox.crs}",
                why=str(error) + (f": {error.__cause__}" if error.__cause__ else ""),
                fix="fetch the file again; gdalinfo -checksum FILE shows whether it decodes",
            ) from error


class CheckedDriver(RioDriver):  # type: ignore[misc]
    """odc-loader's rasterio driver with :class:`CheckedReader` inside."""

    def capture_env(self) -> dict[str, Any]:
        """Return GDAL's settings for the workers: a block cache of fixed size, no sidecar files."""
        return {
            **super().capture_env(),
            "GDAL_CACHEMAX": GDAL_CACHE_MB,
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        }

    def open(self, src: RasterSource, ctx: Any) -> CheckedReader:
        """Open a source; nothing is touched before :meth:`CheckedReader.read`."""
        return CheckedReader(src, ctx)
