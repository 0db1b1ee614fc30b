"""Open files, lent to one thread at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from geomm.catalog import BandSource, local_path, open_source

_MOST = 64


class Files:
    """Lends open files; those that are not lent are closed from the oldest on."""

    def __init__(self) -> None:
        self._idle: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, source: BandSource, key: tuple[Hashable, ...]) -> Iterator[Any]:
        """Lend an open file; read from it under ``rasterio.Env(**GDAL_SETTINGS)``.

        Args:
            source: whose file.
            key: its :func:`identity`.

        Raises:
            ReadError: it cannot be opened.
        """
        with self._lock:
            dataset = self._idle.pop(key, None)
        if dataset is None:
            dataset = open_source(source)
        try:
            yield dataset
        except BaseException:
            dataset.close()
            raise
        with self._lock:  # GDAL holds memory for every open file: one of each is enough
            spare = [self._idle.pop(key)] if key in self._idle else []
            self._idle[key] = dataset
            spare += [self._idle.popitem(last=False)[1] for _ in range(len(self._idle) - _MOST)]
        for old in spare:
            old.close()

    def close(self) -> None:
        """Close the files that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, OrderedDict()
        for dataset in idle.values():
            dataset.close()


def identity(source: BandSource) -> tuple[Hashable, ...]:
    """Tell a file from an earlier one of the same name, and from one that was opened on other conditions."""
    conditions = (source.href, source.checksum, source.size, source.policy)
    path = local_path(source.href)
    try:
        state = path.stat() if path else None
    except (OSError, ValueError):
        return conditions
    return (*conditions, state.st_mtime_ns, state.st_size, state.st_ino, state.st_dev) if state else conditions
