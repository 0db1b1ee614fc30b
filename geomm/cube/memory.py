"""Arrays that are used again: the first touch of fresh memory costs more than a copy into warm memory."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_UNUSED = 3  # references to pages that only their list, the loop and getrefcount itself hold


class Memory:
    """Lends arrays; the pages of one that neither the borrower nor any view of it is left of are lent again.

    Args:
        spare_mb: how much of what nobody uses is kept.
    """

    def __init__(self, spare_mb: int = 8) -> None:
        self._spare = spare_mb * 2**20
        self._pages: dict[int, list[mmap.mmap]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._spare >> 20,)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any content."""
        kind = np.dtype(dtype)
        size = _rounded(math.prod(shape) * kind.itemsize)
        with self._lock:
            mine = self._pages.setdefault(size, [])
            for pages in mine:
                if sys.getrefcount(pages) == _UNUSED:
                    return np.ndarray(shape, kind, pages)
            self._shrink()
            # Mapped by itself, so that it goes back to the system whole, whatever lies beside it in the heap. Small
            # pages: the system may have to move others to make a large one, which takes eight times as long.
            mine.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            return np.ndarray(shape, kind, mine[-1])

    def _shrink(self) -> None:
        """Let go of unused pages beyond what may be kept."""
        unused = 0
        for size, pages in self._pages.items():
            for k in range(len(pages) - 1, -1, -1):
                if sys.getrefcount(pages[k]) == _UNUSED - 1:
                    unused += size
                    if unused > self._spare:
                        del pages[k]


def _rounded(size: int) -> int:
    """Round up by an eighth at most, so that arrays of about one size share their pages."""
    step = max(1 << max(size.bit_length() - 4, 0), mmap.PAGESIZE)
    return max(-(-size // step), 1) * step


def trim() -> None:
    """Give freed memory back to the system, where the C library can: GDAL's blocks leave holes in the heap."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library than GNU's
        return
