"""Decode the tiles of plain GeoTIFFs: inflate, undo the predictor, nothing else.

GDAL reads everything, through blocks of its own that are copied once more and predictors that are slower than
inflating. Local, tiled, deflated files of one band per tile, which is what archives of COGs hold, are decoded here, in
about 60 % of the time; GDAL says where their tiles lie. Whatever is different, or damaged, is left to GDAL.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.cube.expect import Cell
from geomm.cube.kernels import jit

_own = threading.local()  # memory that a thread uses for every tile


@dataclass(frozen=True, slots=True)
class Tiles:
    """A file whose tiles can be decoded here."""

    path: Path
    """Where it lies."""
    predictor: int
    """1 for none, 2 for differences of pixels, 3 for those of the bytes of floats."""
    block: tuple[int, int]
    """Height and width of a tile."""

    def read(self, src: Any, indexes: tuple[int, ...], cell: Cell, out: NDArray[Any]) -> bool:
        """Decode whole tiles of some bands.

        Args:
            src: the open file.
            indexes: bands, from 1.
            cell: first row, end row, first column, end column: whole tiles, as far as the file goes.
            out: ``(band, y, x)`` of the file's dtype.

        Returns:
            Whether it was done; if not, ``out`` holds anything, and GDAL can say why.
        """
        import imagecodecs

        height, width = self.block
        tile = _memory("tile", height * width * out.itemsize)
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:  # it was removed since: what is open can still be read
            return False
        try:
            length = os.fstat(file).st_size
            for (band, into), row, column in product(
                zip(indexes, out, strict=True),
                range(cell[0] // height, -(-cell[1] // height)),
                range(cell[2] // width, -(-cell[3] // width)),
            ):
                place = [src.get_tag_item(f"BLOCK_{k}_{column}_{row}", "TIFF", bidx=band) for k in ("OFFSET", "SIZE")]
                start, size = (int(v or 0) for v in place)
                if not size or start + size > length or size > 2 * tile.size + 1024:  # left out, or cannot be
                    return False
                stored = _memory("stored", size)
                if os.preadv(file, [stored], start) < size:
                    return False
                if len(imagecodecs.deflate_decode(stored.data, out=tile.data)) < tile.size:
                    return False
                y, x = row * height - cell[0], column * width - cell[2]
                _unpredict(tile, width, self.predictor, into[y : y + height, x : x + width])
        except (OSError, imagecodecs.DeflateError):
            return False
        finally:
            os.close(file)
        return True


def tiles_of(src: Any, path: Path | None) -> Tiles | None:
    """Return how to decode an open file here; None where GDAL has to."""
    about = src.tags(ns="IMAGE_STRUCTURE")
    predictor = int(about.get("PREDICTOR", "1"))
    plain = (
        src.driver == "GTiff"
        and src.block_shapes[0][1] < src.width
        and about.get("COMPRESSION") == "DEFLATE"
        and (src.count == 1 or about.get("INTERLEAVE") == "BAND")
        and not any("NBITS" in src.tags(k, ns="IMAGE_STRUCTURE") for k in src.indexes)
        and all(np.dtype(d).kind in "iuf" and np.dtype(d).itemsize in (1, 2, 4) for d in src.dtypes)
        and (predictor in (1, 2) or (predictor == 3 and set(src.dtypes) == {"float32"}))
    )
    if path is None or not plain:
        return None
    with path.open("rb") as file:
        return Tiles(path, predictor, src.block_shapes[0]) if file.read(2) == b"II" else None


def _memory(name: str, size: int) -> NDArray[np.uint8]:
    """Return this thread's memory of a name, of any content."""
    held = getattr(_own, name, None)
    if held is None or held.size < size:
        held = np.empty(size, np.uint8)
        setattr(_own, name, held)
    return held[:size]


def _unpredict(tile: NDArray[np.uint8], width: int, predictor: int, out: NDArray[Any]) -> None:
    """Turn the bytes of a tile into pixels, as many as ``out (y, x)`` has."""
    whole = np.dtype(f"u{out.itemsize}")
    rows = tile.reshape(-1, width * out.itemsize)
    if predictor == 1:
        out[...] = rows.view(out.dtype)[: out.shape[0], : out.shape[1]]
    elif predictor == 2:
        _sum_pixels(rows.view(whole), out.view(whole))
    else:
        _sum_bytes(rows, out.view(whole))


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _sum_pixels(rows: Any, out: Any) -> None:
    """Horizontal differencing (TIFF 6.0, section 14): every pixel is stored as the difference from the one before."""
    for i in range(out.shape[0]):
        row, into = rows[i], out[i]
        total = row[0]
        into[0] = total
        for j in range(1, into.size):
            total = total + row[j]
            into[j] = total


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _sum_bytes(rows: Any, out: Any) -> None:
    """Floating point predictor (TIFF Technical Note 3): bytes of a row by significance, then differences of bytes."""
    width = rows.shape[1] // 4
    line = np.empty(rows.shape[1], np.uint8)
    for i in range(out.shape[0]):
        row, into = rows[i], out[i]
        total = np.uint8(0)
        for j in range(row.size):
            total = np.uint8(total + row[j])
            line[j] = total
        a, b, c, d = line[:width], line[width : 2 * width], line[2 * width : 3 * width], line[3 * width :]
        for j in range(into.size):
            high = np.uint32(a[j]) << np.uint32(24) | np.uint32(b[j]) << np.uint32(16)
            into[j] = high | np.uint32(c[j]) << np.uint32(8) | np.uint32(d[j])
