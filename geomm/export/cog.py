"""Blocks of predictions to Cloud Optimized GeoTIFFs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import rasterio
import rasterio.shutil

from geomm.errors import OutputError
from geomm.export.spool import GDAL_CACHE, TILE, Spool
from geomm.types import LayerSpec, Prediction, Window

WAITING = 2
"""Blocks that wait to be written while the model goes on."""


def spool_blocks(spool: Spool, blocks: Iterable[tuple[Window, Prediction]]) -> None:
    """Store a stream of predictions, while the next ones are made.

    Raises:
        OutputError: there is no block, a block does not fit, blocks are missing, or the disk does not take them.
    """
    writing: list[Future[None]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="geomm-write") as writer, _closed(blocks) as stream:
        for window, prediction in stream:
            writing.append(writer.submit(spool.write, window, prediction))
            while len(writing) > WAITING:
                writing.pop(0).result()
        for last in writing:
            last.result()
    spool.check()


@contextmanager
def _closed[T](blocks: Iterable[T]) -> Iterator[Iterable[T]]:
    """Close a generator whatever happens, so that its threads end."""
    try:
        yield blocks
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            close()


def write_cog(spool: Spool, layer: LayerSpec, target: Path) -> None:
    """Join the blocks of a layer into a COG with overviews of its kind: mode for classes, else average.

    Raises:
        OutputError: it cannot be written.
    """
    categorical = layer.kind == "class"
    method = "MODE" if categorical else "AVERAGE"
    options = {
        "BLOCKSIZE": str(TILE),
        "COMPRESS": "DEFLATE",
        "LEVEL": "6",  # 9 takes five times as long for 12 % less
        "PREDICTOR": "NO" if categorical else "YES",
        "RESAMPLING": method,
        "OVERVIEW_RESAMPLING": method,
        "STATISTICS": "AUTO",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": str(min(len(os.sched_getaffinity(0)), 8)),  # the bytes are the same with any number
    }
    try:
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE, GDAL_NUM_THREADS="1"):
            rasterio.shutil.copy(spool.joined(layer), target, driver="COG", **options)
    except Exception as error:  # nothing but blocks of our own is read here, and GDAL's errors have no public base
        raise OutputError(
            "the GeoTIFF cannot be written",
            where=str(target),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk; then run the same again",
        ) from error
