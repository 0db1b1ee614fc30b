"""Append chunks to a shard: large ones straight from memory to the disk, past the page cache."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.store.codec import checksum
from geomm.store.shard import NONE, PAGE, SHARD, ArraySpec

HELD = 2**20
"""Bytes of small chunks that are written together."""
_DIRECT = getattr(os, "O_DIRECT", 0)
_NOT_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)
"""What file systems say that cannot write past the page cache, or not in such pages."""


class ShardWriter:
    """Writes a shard's file, which appears under its name when it is whole.

    Copying pixels into the page cache costs a quarter of reading and resampling them, and pushes out the files that
    they come from. So chunks of whole pages go past it, where the file system can; the file is the same either way.

    Args:
        path: of the file.
        spec: whose chunks.
    """

    def __init__(self, path: Path, spec: ArraySpec) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._staging, self._paged = path, path.with_name(f".{path.name}.{os.getpid()}"), spec.paged
        self._file = _create(self._staging, direct=spec.paged)
        self._index = np.full((SHARD, 2), NONE, "<u8")
        self._parts: list[Any] = []
        self._written = self._end = 0

    def add(self, slot: int, chunks: Sequence[tuple[Any, bytes]]) -> None:
        """Append chunks and their checksums; ``slot`` is the place of the first in the shard."""
        pages = memoryview(mmap.mmap(-1, PAGE * len(chunks))) if self._paged else None
        for k, (data, seal) in enumerate(chunks):
            self._index[slot + k] = self._end, len(data) + len(seal)
            pair: tuple[Any, Any] = data, seal
            if pages is not None:
                page = pages[k * PAGE : (k + 1) * PAGE]
                page[: len(seal)] = seal
                pair = _on_page(data), page
            self._parts += pair
            self._end += len(pair[0]) + len(pair[1])
        if self._paged or self._end - self._written > HELD:
            self._write()

    def close(self) -> None:
        """Write the index and give the file its name."""
        self._write()
        if self._paged:
            self._forgo_direct()
        index = self._index.tobytes()
        self._parts = [index, checksum(index)]
        self._write()
        os.fsync(self._file)
        self._leave()
        self._staging.replace(self._path)

    def abandon(self) -> None:
        """Remove what was written, if it has no name yet."""
        self._leave()
        self._staging.unlink(missing_ok=True)

    def _write(self) -> None:
        """Write what is held."""
        try:
            _write_at(self._file, self._parts, self._written)
        except OSError as error:
            if error.errno not in _NOT_DIRECT or not self._paged:
                raise
            self._forgo_direct()
            _write_at(self._file, self._parts, self._written)
        self._written += sum(map(len, self._parts))
        self._parts = []

    def _forgo_direct(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) & ~_DIRECT)

    def _leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _create(path: Path, *, direct: bool) -> int:
    """Open a new file, past the page cache if that is wanted and can be done."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    try:
        return os.open(path, flags | (_DIRECT if direct else 0), 0o666)
    except OSError as error:
        if not direct or error.errno not in _NOT_DIRECT:
            raise
        return os.open(path, flags, 0o666)


def _write_at(file: int, parts: Sequence[Any], at: int) -> None:
    """Write pieces of memory one after the other."""
    left = [memoryview(p) for p in parts]
    while left:
        done = os.pwritev(file, left[:1024], at)
        if not done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        at += done
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if done:
            left[0] = left[0][done:]


def _on_page(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return bytes that begin with a page of memory: those given, or a copy."""
    if data.ctypes.data % PAGE == 0:
        return data
    copy: NDArray[np.uint8] = np.frombuffer(mmap.mmap(-1, data.nbytes), np.uint8)
    copy[:] = data
    return copy
