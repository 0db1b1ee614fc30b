"""Progress for people: bars in a terminal, plain lines where output is kept in a file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self


class Bars:
    """A bar per stage while work goes on; ``update`` is a :data:`geomm.types.Progress`."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._tasks: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description:>22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of a stage are done."""
        if self._live:
            if stage not in self._tasks:
                self._tasks[stage] = int(self._bars.add_task(stage, total=total))
            self._bars.update(self._tasks[stage], completed=done)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        start = self._started.setdefault(stage, now)
        if done == total or now - self._shown.get(stage, start - 10) >= 10:
            self._shown[stage] = now
            left = (now - start) / max(done, 1) * (total - done)
            ahead = f", about {left:.0f} s left" if 0 < done < total else ""
            sys.stderr.write(f"{stage}: {done}/{total}{ahead}\n")
            sys.stderr.flush()
