"""What a file is, and whether that is what its catalog says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo.crs import CRS

from geomm.catalog import BandSource, Grid, place
from geomm.cube.expect import Cell
from geomm.cube.tiff import Tiles
from geomm.errors import LimitError, ReadError

CELL = 512
"""Least height and width of what is decoded at once: the file's own blocks, or several of them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the loader has to know of a file before it reads."""

    grid: Grid
    """Where its pixels lie."""
    block: tuple[int, int]
    """Height and width of the file's own blocks."""
    cell: tuple[int, int]
    """Whole blocks that are decoded at once."""
    nodata: tuple[float | None, ...]
    """Declared, by band."""
    masked: bool
    """Whether the file has a mask or an alpha band."""
    dtypes: tuple[str, ...]
    """By band."""
    tiles: Tiles | None
    """How to decode it without GDAL, where that can be done."""


def agree(source: BandSource, layout: Layout) -> None:
    """Refuse a file that is not what its catalog says: the plan would be wrong."""
    found, stated, count = layout.grid, source.grid, len(layout.dtypes)
    if source.index > count:
        raise _other(source, f"band {source.index}", f"{count} bands")
    dtype = layout.dtypes[source.index - 1]
    if source.dtype is not None and not np.can_cast(dtype, source.dtype, "safe"):
        raise _other(source, source.dtype, dtype)
    if stated is None:
        return
    if stated.crs != found.crs and CRS(stated.crs) != CRS(found.crs):
        raise _other(source, stated.crs, found.crs)
    if stated.transform is None or found.transform is None:
        return
    off = [abs(a - b) for a, b in zip(stated.transform, found.transform, strict=True)]
    pixel = abs(found.transform[0]) or abs(found.transform[1])
    extent = max(found.shape)
    shift = max(off[2], off[5], *(v * extent for v in (off[0], off[1], off[3], off[4])))
    if stated.shape != found.shape or shift > 0.05 * pixel:
        raise _other(source, f"{stated.shape} at {stated.transform}", f"{found.shape} at {found.transform}")


def cell_of(block: tuple[int, int], pixel_bytes: int, most: int) -> tuple[int, int]:
    """Return height and width of what is decoded at once: whole blocks of a file, :data:`CELL` pixels if they fit.

    Args:
        block: height and width of a block.
        pixel_bytes: bytes of a pixel with all its bands.
        most: bytes that may be decoded at once, unless one block has more.
    """
    (height, width), (down, across) = block, (-(-CELL // n) for n in block)
    room = max(most // (height * width * pixel_bytes), 1)
    across = min(across, room)
    return height * max(min(down, room // across), 1), width * across


def fits(sources: Sequence[BandSource], layout: Layout, *, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Refuse a window for which more has to be decoded than is allowed.

    Raises:
        LimitError: the blocks of all bands that it touches have too many bytes.
    """
    (height, width), most = layout.block, sources[0].policy.limits.window_bytes
    down, across = (-(-b // n) * n - a // n * n for (a, b), n in ((rows, height), (columns, width)))
    size = len(sources) * down * across * np.dtype(layout.dtypes[0]).itemsize
    if size > most:
        raise LimitError(
            "the window is too large",
            **place(sources[0], rows=rows, columns=columns),
            why=f"{size} bytes are decoded for it, at most {most} are",
            fix="read it in parts, with smaller chunks or on a finer grid",
        )


def cells_of(rows: tuple[int, int], columns: tuple[int, int], layout: Layout) -> Iterator[Cell]:
    """Yield the cells of a file that a window touches."""
    (height, width), (last_row, last_column) = layout.cell, layout.grid.shape
    for r in range(rows[0] // height * height, rows[1], height):
        for c in range(columns[0] // width * width, columns[1], width):
            yield r, min(r + height, last_row), c, min(c + width, last_column)


def part_of(cell: Cell, rows: tuple[int, int], columns: tuple[int, int]) -> Cell:
    """Return what a window takes of a cell."""
    return max(cell[0], rows[0]), min(cell[1], rows[1]), max(cell[2], columns[0]), min(cell[3], columns[1])


def reaches_out(cell: Cell, rows: tuple[int, int], columns: tuple[int, int], shared: int) -> bool:
    """Tell whether a cell reaches beyond a window or into its edge, so that other windows may need it."""
    sides = ((cell[0], cell[1], rows), (cell[2], cell[3], columns))
    return any(a < low + shared or b > high - shared for a, b, (low, high) in sides)


def _other(source: BandSource, stated: str, found: str) -> ReadError:
    return ReadError(
        "the file is not what its catalog says",
        **place(source),
        why=f"catalog: {stated}; file: {found}",
        fix="build the catalog again, or correct its entry",
    )
