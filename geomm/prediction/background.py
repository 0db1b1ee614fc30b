"""Run part of a stream in a thread of its own, a little ahead of who takes from it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator

_END = StopIteration()
"""Told by a thread that has nothing more to give."""


class _Handover[T]:
    """What a thread hands over to another, until that one leaves."""

    def __init__(self, depth: int) -> None:
        self._waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self.left = threading.Event()

    def put(self, item: T | None, error: BaseException | None = None) -> bool:
        """Wait until there is room; return whether anybody still takes."""
        while not self.left.is_set():
            try:
                self._waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def get(self) -> tuple[T | None, BaseException | None]:
        """Wait for what comes next."""
        return self._waiting.get()


def ahead[T](items: Generator[T], *, depth: int = 1, start: Callable[[], None] | None = None) -> Generator[T]:
    """Yield what another thread takes from ``items``, at most ``depth`` of them before they are asked for.

    What the thread raises is raised here. Left early, the thread stops after what it is at.

    Args:
        items: run in the thread, and closed there.
        depth: how many wait at most.
        start: called in the thread first.
    """
    handover = _Handover[T](depth)
    thread = threading.Thread(target=_work, args=(items, handover, start), name="geomm-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = handover.get()
            if error is _END:
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        handover.left.set()
        thread.join()


def _work[T](items: Generator[T], handover: _Handover[T], start: Callable[[], None] | None) -> None:
    try:
        if start is not None:
            start()
        for item in items:
            if not handover.put(item):
                return
        handover.put(None, _END)
    except BaseException as error:  # told to who waits
        handover.put(None, error)
    finally:
        items.close()
