"""What a file may claim before a pixel of it is read: real imagery stays far below, a bomb does not."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geomm.errors import ConfigError, LimitError, ReadError


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a file may claim, and a window may take."""

    pixels: int = 2**40
    """Of a file: a million rows by a million columns. Few of them need to be stored, so that size alone is no harm."""
    bands: int = 10_000
    """Of a file."""
    block_bytes: int = 2**28
    """Of one decoded block of all bands that lie in it: a Sentinel-2 band of 10 m in one strip fits."""
    window_bytes: int = 2**33
    """Of all blocks that are decoded for one window, with all its bands."""
    directories: int = 1024
    """Of a TIFF: the image, its overviews and masks, with the directories below them."""
    tag_bytes: int = 2**26
    """Of what a directory of a TIFF says in text and numbers, besides where its tiles lie."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.__slots__ if getattr(self, name) < 1]
        if wrong:
            raise ConfigError(
                "a limit is a positive number",
                where=f"{wrong[0]} {getattr(self, wrong[0])}",
                fix=f"give {wrong[0]} a number above 0",
            )


_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type (TIFF 6.0, section 2, and BigTIFF)."""
_BANDS = 277
_BELOW = (330, 34665)
"""Tags that point to further directories: SubIFDs and EXIF."""
_PLACES = {273, 279, 324, 325}
"""Tags of where the strips or tiles lie: they grow with the image, and are read piece by piece."""


def check_tiff(path: Path, limits: Limits) -> None:
    """Look through the directories of a TIFF, before a library does.

    What is not whole is left to the library, which says so.

    Raises:
        LimitError: it has too many directories, tags or bands.
        ReadError: its directories form a loop.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if start[:2] not in (b"II", b"MM") or len(start) < 8:
            return
        order = "<" if start[:2] == b"II" else ">"
        big = start[2:4] in (b"+\0", b"\0+")
        if big and len(start) < 16:
            return
        layout = ("Q", 8, "HHQ", 20, "Q", 8) if big else ("H", 2, "HHI", 12, "I", 4)
        first = struct.unpack_from(f"{order}{layout[4]}", start, 8 if big else 4)[0]
        seen: set[int] = set()
        waiting = [first]
        while waiting:
            place = waiting.pop()
            if place == 0:
                continue
            if place in seen:
                raise ReadError(
                    "the directories of the TIFF form a loop",
                    where=str(path),
                    why=f"the one at byte {place} is reached twice",
                    fix="fetch the file again; if it is as its author wrote it, convert it with gdal_translate",
                )
            seen.add(place)
            if len(seen) > limits.directories:
                raise _beyond("directories", f"more than {limits.directories}", limits.directories, str(path))
            waiting += _directory(file, place, order, layout, limits)


def _directory(
    file: BinaryIO, place: int, order: str, layout: tuple[str, int, str, int, str, int], limits: Limits
) -> Iterator[int]:
    """Check one directory; yield where those lie that it points to."""
    count_format, count_size, entry_format, entry_size, next_format, next_size = layout
    file.seek(place)
    head = file.read(count_size)
    if len(head) < count_size:
        return
    count = struct.unpack(f"{order}{count_format}", head)[0]
    if count * entry_size > limits.tag_bytes:
        raise _beyond("tags", count, limits.tag_bytes // entry_size, file.name)
    table = file.read(count * entry_size + next_size)
    total = 0
    for at in range(0, min(count * entry_size, len(table) // entry_size * entry_size), entry_size):
        tag, kind, number = struct.unpack_from(f"{order}{entry_format}", table, at)
        size = number * _SIZES.get(kind, 1)
        total += 0 if tag in _PLACES else size
        value = table[at + entry_size - next_size : at + entry_size]
        if tag == _BANDS and kind in (3, 4):
            bands = struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0]
            if bands > limits.bands:
                raise _beyond("bands", bands, limits.bands, file.name)
        if tag in _BELOW and 0 < number <= limits.directories:
            yield from _pointers(file, order, value, kind, number)
    if total > limits.tag_bytes:
        raise _beyond("bytes of tags", total, limits.tag_bytes, file.name)
    if len(table) == count * entry_size + next_size:
        yield struct.unpack_from(f"{order}{next_format}", table, count * entry_size)[0]


def _pointers(file: BinaryIO, order: str, value: bytes, kind: int, number: int) -> Iterator[int]:
    """Yield the directories that a tag points to; nothing where it is not whole."""
    letter = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if letter is None:
        return
    size = number * _SIZES[kind]
    if size > len(value):
        file.seek(struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)[0])
        value = file.read(size)
    if len(value) >= size:
        yield from struct.unpack_from(f"{order}{number}{letter}", value)


def check_dataset(source: Any, where: str, limits: Limits) -> None:
    """Compare what an open raster claims with what is allowed.

    Raises:
        LimitError: it has too many pixels or bands, or a block of it is too large to be decoded.
    """
    pixels, bands = source.width * source.height, source.count
    if pixels > limits.pixels:
        raise _beyond("pixels", f"{source.height} x {source.width}", limits.pixels, where)
    if bands > limits.bands:
        raise _beyond("bands", bands, limits.bands, where)
    height, width = source.block_shapes[0]
    together = bands if source.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    block = height * width * together * _itemsize(source.dtypes[0])
    if block > limits.block_bytes:
        raise _beyond("bytes of one decoded block", block, limits.block_bytes, where)


def _itemsize(dtype: str) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError:  # complex integers: refused later, since geomm does not read them
        return 16


def _beyond(what: str, found: object, limit: int, where: str) -> LimitError:
    return LimitError(
        f"the file claims too many {what}",
        where=where,
        why=f"it claims {found}, at most {limit} are read",
        fix="if it is what it should be, allow more: geomm.catalog.ReadPolicy(limits=geomm.catalog.Limits(...))",
    )
