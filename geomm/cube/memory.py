"""Arrays that are used again: the first touch of fresh memory costs more than a copy into warm memory."""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Memory:
    """Lends arrays; the pages of one that neither the borrower nor any view of it is left of are lent again.

    Args:
        spare_mb: how much of what nobody uses is kept.
    """

    def __init__(self, spare_mb: int = 8) -> None:
        self._spare = spare_mb * 2**20
        # Taken from and given back to without a lock: an array may end anywhere, even while another is being lent.
        self._unused: dict[int, deque[mmap.mmap]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._spare >> 20,)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any content."""
        kind = np.dtype(dtype)
        size = _rounded(math.prod(shape) * kind.itemsize)
        unused = self._unused.setdefault(size, deque())
        try:
            pages = unused.pop()
        except IndexError:
            self._shrink()
            # Mapped by itself, so that it goes back to the system whole, whatever lies beside it in the heap. Small
            # pages: the system may have to move others to make a large one, which takes eight times as long.
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        array: NDArray[Any] = np.ndarray(shape, kind, pages)
        weakref.finalize(array, unused.append, pages).atexit = False
        return array

    def _shrink(self) -> None:
        """Let go of unused pages beyond what may be kept."""
        spare = self._spare
        for size, unused in list(self._unused.items()):
            spare -= size * len(unused)
            while spare < 0 and unused:
                try:
                    unused.popleft()
                except IndexError:
                    break
                spare += size


def _rounded(size: int) -> int:
    """Round up by an eighth at most, so that arrays of about one size share their pages."""
    step = max(1 << max(size.bit_length() - 4, 0), mmap.PAGESIZE)
    return max(-(-size // step), 1) * step


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Numbers of the settings in malloc.h of GNU's C library."""


@contextmanager
def kept_heap() -> Iterator[None]:
    """Keep freed memory of the main thread for what it allocates next, where the C library can.

    A network's layers take and free hundreds of megabytes in every pass, which the C library would take from the system
    and give back each time: touching fresh pages is a fifth of a pass on a CPU. Other threads are not affected.
    """
    try:
        configure = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than GNU's
        yield
        return
    configure(_MMAP_THRESHOLD, 2**30)
    configure(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:  # what the library itself chooses once large blocks were freed
        configure(_MMAP_THRESHOLD, 2**25)
        configure(_TRIM_THRESHOLD, 2**26)
        trim()


def trim() -> None:
    """Give freed memory back to the system, where the C library can: GDAL's blocks leave holes in the heap."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library than GNU's
        return


def free_bytes() -> int | None:
    """Return how much memory a process may still take, by the system and by its control group; None if unknown."""
    known = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration, ValueError):
        pass
    group = Path("/sys/fs/cgroup")
    try:
        used = int((group / "memory.current").read_text())
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        known.append(int((group / "memory.max").read_text()) - used + int(rows["inactive_file"]))
    except (OSError, KeyError, ValueError):  # no such group, or one without a limit
        pass
    return min(known, default=None)
