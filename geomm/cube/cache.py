"""A cache that makes each value once, whichever thread asks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class BlockCache:
    """Least recently used values up to a size; a value that is being made is waited for, not made twice."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def holds(self, key: Hashable) -> bool:
        """Tell whether a value is there, or being made."""
        with self._lock:
            return key in self._kept or key in self._making

    def drop(self, key: Hashable) -> None:
        """Forget a value, if it is there."""
        with self._lock:
            if key in self._kept:
                self._size -= self._kept.pop(key)[1]

    def find(self, key: Hashable) -> Any:
        """Return a value that is kept, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value that was made elsewhere."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (value, _size(value))
                self._size += _size(value)
                self._evict()

    def get(self, key: Hashable, make: Callable[[], Any], *, keep: bool) -> Any:
        """Return a value (a tuple of arrays), making it if need be; ``keep`` it for others, or no longer."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                value, size = self._kept[key]
                if not keep:
                    del self._kept[key]
                    self._size -= size
                return value
            waiting = self._making.get(key)
            if waiting is None:
                mine = self._making[key] = Future()
        if waiting is not None:
            value = waiting.result()
            if not keep:
                self.drop(key)
            return value
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        size = _size(value)
        with self._lock:
            del self._making[key]
            if keep:
                self._kept[key] = (value, size)
                self._size += size
            self._evict()
        mine.set_result(value)
        return value

    def _evict(self) -> None:
        while self._size > self._limit and self._kept:
            self._size -= self._kept.popitem(last=False)[1][1]


def _size(value: Any) -> int:
    return sum(getattr(a, "nbytes", 0) for a in value)
