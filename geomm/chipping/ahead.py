"""Read areas of a cube ahead of their use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from geomm.chips import Visit
from geomm.cube.areas import Area, Areas, new_area
from geomm.cube.expect import Uses
from geomm.cube.memory import trim
from geomm.types import Window

if TYPE_CHECKING:
    from geomm.chipping.reader import ChipReader

TRIM = 4
"""Areas after which freed memory goes back to the system."""
AHEAD = 1
"""Areas that are read ahead of those that chips are being cut from."""


@dataclass(frozen=True, slots=True)
class Held:
    """An area of the grid in memory."""

    window: Window
    """Where it lies, inside the grid."""
    areas: Mapping[str, Area]
    """Modality to its pixels; under the empty name those of the target."""


class ReadAhead:
    """Reads areas in threads, a few ahead of the one that is asked for, into memory that is used again.

    Args:
        reader: whose areas.
        visits: in the order in which they will be asked for first.
        uses: how often each will be asked for; those of 0 are not read.
        shuffled: whether neighbouring areas are far apart in this order.
        tidy: give freed memory back to the system now and then; not while a model needs it again at once.
    """

    def __init__(
        self,
        reader: ChipReader,
        visits: Sequence[Visit],
        uses: NDArray[np.int64],
        *,
        shuffled: bool,
        tidy: bool = True,
    ) -> None:
        self._tidy = tidy
        self._reader, self._visits, self._left = reader, visits, uses.copy()
        self._queue = [v for v in range(len(visits)) if uses[v]]
        self._shuffled, self._needed, self._read = shuffled, -1, 0
        self._open: dict[int, tuple[Held, list[Future[None]]]] = {}
        self._kept: dict[int, list[tuple[Areas, Uses]]] = {}
        self._scopes = Counter(visits[v].scope for v in self._queue)
        self._pool = ThreadPoolExecutor(reader.threads, thread_name_prefix="geomm-read")
        for _ in range(min(1 + AHEAD, len(self._queue))):
            self._start(self._queue.pop(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for scope in list(self._kept):
            self._forget(scope)

    def get(self, visit: int) -> Held:
        """Return an area, waiting until it is there.

        Raises:
            ReadError: a source cannot be read, if the cube was loaded so that this raises.
        """
        while visit not in self._open:
            self._start(self._queue.pop(0))
        self._needed = max(self._needed, visit)
        self._go_on()
        held, futures = self._open[visit]
        while futures:
            futures.pop().result()
        return held

    def release(self, visit: int) -> None:
        """Say that a chip was cut out of an area; after the last one its memory is used again."""
        self._left[visit] -= 1
        if self._left[visit]:
            return
        del self._open[visit]
        self._read += 1
        if self._tidy and self._read % TRIM == 0:
            trim()
        self._go_on()
        scope = self._visits[visit].scope
        self._scopes[scope] -= 1
        if not self._scopes[scope]:
            self._forget(scope)

    def _go_on(self) -> None:
        while self._queue and sum(v > self._needed for v in self._open) < AHEAD:
            self._start(self._queue.pop(0))

    def _start(self, number: int) -> None:
        visit, sources = self._visits[number], self._reader.sources
        if visit.scope not in self._kept:
            windows = [v.window for k, v in enumerate(self._visits) if v.scope == visit.scope and self._left[k]]
            self._kept[visit.scope] = [(s, s.expect(windows, lasting=self._shuffled)) for s in sources.values()]
        memory = self._reader.memory
        held = Held(visit.window, {n: new_area(s, visit.window.shape, memory) for n, s in sources.items()})
        chips = [self._reader.chips[k] for k in visit.chips]
        jobs = [(n, step) for n in sources for step in self._reader.steps(n, chips)]
        # The largest first, so that the threads finish together.
        jobs.sort(key=lambda job: -held.areas[job[0]].data[0].nbytes)
        futures = [
            self._pool.submit(sources[n].read, step, visit.window, held.areas[n]) for n, step in jobs
        ]  # fmt: skip
        self._open[number] = held, futures

    def _forget(self, scope: int) -> None:
        for source, uses in self._kept.pop(scope):
            source.forget(uses)
