"""Read windows of sources: checked opening, each block decoded once, errors that name their source."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.catalog import GDAL_SETTINGS, BandSource, grid_of, local_path, locate, place, unread
from geomm.cube.cache import BlockCache
from geomm.cube.expect import Cell, Expected, Key, Uses, on_rim
from geomm.cube.files import Files, identity
from geomm.cube.kernels import nodata_of, usable
from geomm.cube.layout import Layout, agree, cell_of, cells_of, fits, part_of, reaches_out
from geomm.cube.memory import Memory
from geomm.cube.tiff import tiles_of
from geomm.errors import GridError, ReadError

CACHE_MB = 512
"""Decoded blocks that are kept because a neighbouring window needs them too: enough for two rows of blocks of a tile of
10,980 pixels and 20 bands, so that computing a whole tile decodes each block once."""


Span = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of a window: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A window of some bands of a file."""

    values: NDArray[Any]
    """``(band, y, x)`` in the stored dtype."""
    valid: NDArray[np.bool_]
    """``(band, y, x)``: stored, not nodata, not masked by the file, finite."""
    error: ReadError | None = None
    """Why a part of it could not be decoded, if so; those pixels are invalid."""
    unread: NDArray[np.bool_] | None = None
    """``(y, x)``: the pixels that could not be decoded."""


class SourceReader:
    """Reads windows of files, from any thread.

    Files stay open and blocks that reach beyond a window stay decoded, both up to a fixed amount, so that windows side
    by side decode each block once. Unpickling makes an empty reader.

    Args:
        cache_mb: how much of decoded blocks to keep.
    """

    def __init__(self, cache_mb: int = CACHE_MB) -> None:
        self.cache_mb = cache_mb
        self._start()

    def _start(self) -> None:
        """Begin with nothing open: at first, and in a forked process, which must not share its parent's files."""
        self._process = os.getpid()
        self._blocks = BlockCache(self.cache_mb * 2**20)
        self._memory = Memory()
        self._files = Files()
        self._layouts: dict[tuple[Hashable, ...], Layout] = {}
        self._expected = Expected(self._blocks)

    def close(self) -> None:
        """Close the files and forget what was decoded; reading opens them again."""
        self._files.close()
        self._start()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cache_mb,)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return (type(self).__name__,)  # how pixels are read does not change them

    def expect(self, uses: Uses, *, lasting: bool = False) -> None:
        """Announce what will be read: a cell is kept while more than its rim is still needed, and no longer.

        Cells that were not announced are kept as long as there is room, if a neighbouring window may need them.

        Args:
            uses: what will be read.
            lasting: whether rims are kept for what will be announced later.
        """
        self._expected.announce(uses, lasting=lasting)

    def forget(self, uses: Uses) -> None:
        """Take back what was announced, and what was kept for it."""
        self._expected.withdraw(uses)

    def cells(self, sources: Sequence[BandSource], windows: Iterable[Span]) -> Iterator[tuple[Key, Cell]]:
        """Yield the cells that reading windows of some bands of one file touches, and which part of them.

        Raises:
            ReadError: the file cannot be opened.
        """
        file, layout = self._known(sources[0])
        indexes = tuple(s.index for s in sources)
        for rows, columns in windows:
            for cell in cells_of(rows, columns, layout):
                yield (file, indexes, cell), part_of(cell, rows, columns)

    def layout(self, source: BandSource) -> Layout:
        """Return the grid and block layout of a file.

        Raises:
            ReadError: the file cannot be opened, is not georeferenced, or is not what the catalog says.
        """
        layout = self._known(source)[1]
        agree(source, layout)
        return layout

    def _known(self, source: BandSource) -> tuple[tuple[Hashable, ...], Layout]:
        """Return which file it is, and what it is, whatever the catalog says."""
        import rasterio

        if self._process != os.getpid():
            self._start()
        file = identity(source)
        if file not in self._layouts:
            with self._files.lend(source, file) as src, rasterio.Env(**GDAL_SETTINGS):
                try:
                    self._layouts[file] = _layout_of(src, source)
                except GridError as error:
                    raise ReadError(error.what, **place(source), why=error.why, fix=error.fix) from error
        return file, self._layouts[file]

    def read(
        self,
        sources: Sequence[BandSource],
        rows: tuple[int, int],
        columns: tuple[int, int],
        *,
        shared: int = 0,
        into: NDArray[Any] | None = None,
    ) -> Pixels:
        """Read a window of some bands of one file.

        Args:
            sources: bands of the same file.
            rows: first row and the one after the last, inside the file.
            columns: the same for columns.
            shared: width in pixels of the window's edge that neighbouring windows read too; blocks beyond the
                window or in that edge are kept for them.
            into: ``(band, y, x)`` to decode into, where its dtype is the file's.

        Raises:
            ReadError: the file cannot be opened, or lacks the band. A block that cannot be decoded does not raise: see
                :attr:`Pixels.unread`.
        """
        first, (file, layout) = sources[0], self._known(sources[0])
        for source in sources:
            agree(source, layout)
        indexes = tuple(s.index for s in sources)
        shape = (len(sources), rows[1] - rows[0], columns[1] - columns[0])
        fits(sources, layout, rows=rows, columns=columns)
        dtype = np.result_type(*(layout.dtypes[i - 1] for i in indexes))
        values = self._memory.take(shape, dtype) if into is None or into.dtype != dtype else into
        masked = np.zeros(shape, bool) if layout.masked else None
        unread: NDArray[np.bool_] | None = None
        failure: ReadError | None = None
        for cell in cells_of(rows, columns, layout):
            key, part = (file, indexes, cell), part_of(cell, rows, columns)
            r0, r1, c0, c1 = part
            rest = self._expected.after(key, part)
            keep = reaches_out(cell, rows, columns, shared) if rest is None else any(not on_rim(p, cell) for p in rest)
            here = np.s_[..., r0 - rows[0] : r1 - rows[0], c0 - columns[0] : c1 - columns[0]]
            if rest is not None and self._expected.from_rim(key, part, values[here], last=not rest):
                continue
            if part == cell and not keep and masked is None and self._straight(first, key, values[here]):
                self._expected.keep_rim(key, values[here], rest or None)
                continue
            block, mask, lost, error = self._block(first, key, layout, keep=keep)
            if mask is None and lost is None:
                self._expected.keep_rim(key, block, rest)
            there = np.s_[..., r0 - cell[0] : r1 - cell[0], c0 - cell[2] : c1 - cell[2]]
            values[here] = block[there]
            if mask is not None and masked is not None:
                masked[here] = mask[there] == 0
            if lost is not None:
                failure = error
                unread = np.zeros(shape[1:], bool) if unread is None else unread
                unread[here] = lost[there]
        valid = self._memory.take(shape, bool)
        for source, value, flags in zip(sources, values, valid, strict=True):
            nodata = nodata_of(dtype, (*source.nodata, layout.nodata[source.index - 1]))
            usable(value, nodata, source.valid_range, flags)
        _exclude(valid, masked, unread)
        return Pixels(values, valid, failure, unread)

    def _straight(self, source: BandSource, key: Key, out: NDArray[Any]) -> bool:
        """Decode a cell that no other window needs straight to where it belongs, unless it is kept already."""
        if self._blocks.holds(key):
            return False
        try:
            self.decode(source, key[1], key[2], masked=False, out=out)
        except ReadError:
            return False  # decoded again, block by block, for what can be saved
        return True

    def decode(
        self,
        source: BandSource,
        indexes: tuple[int, ...],
        cell: Cell,
        *,
        masked: bool,
        out: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Decode rows and columns ``cell`` (first, end, first, end) of some bands: the only place that reads pixels."""
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(cell[2], cell[0], cell[3] - cell[2], cell[1] - cell[0])
        try:
            file, layout = self._known(source)
            with self._files.lend(source, file) as src:
                tiles = None if masked else layout.tiles
                if tiles is not None and out is not None and tiles.read(src, indexes, cell, out):
                    return out, None
                with rasterio.Env(**GDAL_SETTINGS):
                    values = src.read(indexes, window=window, out=out)
                    return values, src.read_masks(indexes, window=window) if masked else None
        except ReadError as error:
            locate(error, source, rows=cell[:2], columns=cell[2:])
            raise
        except RasterioError as error:
            raise unread(source, error, indexes=indexes, rows=cell[:2], columns=cell[2:]) from error

    def _block(self, source: BandSource, key: Key, layout: Layout, *, keep: bool) -> Any:
        """Return a cell's values, mask, lost pixels and what went wrong, decoded once whoever asks."""
        _, indexes, cell = key

        def make() -> Any:
            shape = (len(indexes), cell[1] - cell[0], cell[3] - cell[2])
            out = self._memory.take(shape, np.result_type(*(layout.dtypes[i - 1] for i in indexes)))
            try:
                return *self.decode(source, indexes, cell, masked=layout.masked, out=out), None, None
            except ReadError as error:
                return *self._salvage(source, indexes, cell, layout), error

        return self._blocks.get(key, make, keep=keep)

    def _salvage(self, source: BandSource, indexes: tuple[int, ...], cell: Cell, layout: Layout) -> Any:
        """Decode what can be decoded of a damaged cell, block by block; return values, mask and the lost pixels."""
        shape = (len(indexes), cell[1] - cell[0], cell[3] - cell[2])
        values = np.zeros(shape, np.result_type(*(layout.dtypes[i - 1] for i in indexes)))
        mask, lost = np.full(shape, 255, np.uint8), np.zeros(shape[1:], bool)
        for r0 in range(cell[0], cell[1], layout.block[0]):
            for c0 in range(cell[2], cell[3], layout.block[1]):
                part = (r0, min(r0 + layout.block[0], cell[1]), c0, min(c0 + layout.block[1], cell[3]))
                here = np.s_[..., r0 - cell[0] : part[1] - cell[0], c0 - cell[2] : part[3] - cell[2]]
                try:
                    values[here], found = self.decode(source, indexes, part, masked=layout.masked)
                except ReadError:
                    lost[here] = True
                    continue
                if found is not None:
                    mask[here] = found
        return values, mask, lost


def _layout_of(src: Any, source: BandSource) -> Layout:
    """Return what an open file is."""
    grid = grid_of(src, source.href)
    strange = [d for d in src.dtypes if d == "float16" or np.dtype(d).kind not in "iuf"]
    if strange:
        raise ReadError(
            f"geomm does not read pixels of the type {strange[0]}",
            **place(source),
            fix="convert it: gdal_translate -ot Float32 SOURCE TARGET.tif",
        )
    height, width = src.block_shapes[0]
    flags = [f.name for flags in src.mask_flag_enums for f in flags]
    return Layout(
        grid,
        (height, width),
        cell_of((height, width), src.count * np.dtype(src.dtypes[0]).itemsize, source.policy.limits.block_bytes),
        src.nodatavals,
        "per_dataset" in flags,
        src.dtypes,
        tiles_of(src, local_path(source.href)),
    )


def _exclude(valid: NDArray[np.bool_], *excluded: NDArray[np.bool_] | None) -> None:
    """Unset what any of some masks holds; a pass over all pixels only where there is one."""
    for mask in excluded:
        if mask is not None:
            valid &= ~mask
