"""Arrays that are used again: the first touch of fresh memory costs more than a copy into warm memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HUGE = 2**22  # bytes from which pages of 2 MB pay
_UNUSED = 3  # references to an array that only its list, the loop and getrefcount itself hold


class Memory:
    """Lends arrays; one that neither the borrower nor any view of it is left of is lent again.

    Args:
        spare_mb: how much of what nobody uses is kept.
    """

    def __init__(self, spare_mb: int = 8) -> None:
        self._spare = spare_mb * 2**20
        self._arrays: dict[tuple[tuple[int, ...], str], list[NDArray[Any]]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._spare >> 20,)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any content."""
        kind = np.dtype(dtype)
        with self._lock:
            mine = self._arrays.setdefault((shape, kind.str), [])
            for array in mine:
                if sys.getrefcount(array) == _UNUSED:
                    return array
            self._shrink()
            # Mapped by itself, so that it goes back to the system whole, whatever lies beside it in the heap.
            size = max(int(np.prod(shape)) * kind.itemsize, 1)
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if size >= _HUGE:
                pages.madvise(mmap.MADV_HUGEPAGE)
            fresh: NDArray[Any] = np.ndarray(shape, kind, pages)
            mine.append(fresh)
            return fresh

    def _shrink(self) -> None:
        """Let go of unused arrays beyond what may be kept."""
        unused = 0
        for arrays in self._arrays.values():
            for k in range(len(arrays) - 1, -1, -1):
                if sys.getrefcount(arrays[k]) == _UNUSED - 1:
                    unused += arrays[k].nbytes
                    if unused > self._spare:
                        del arrays[k]


def trim() -> None:
    """Give freed memory back to the system, where the C library can: GDAL's blocks leave holes in the heap."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library than GNU's
        return
