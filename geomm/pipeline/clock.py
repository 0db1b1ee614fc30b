"""What a run notes of itself while it goes: where the time went, and what was warned of."""

from __future__ import annotations

import datetime as dt
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from geomm.types import Progress


@dataclass(slots=True)
class Clock:
    """Says where the time goes."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By part of the work."""
    started: float = field(default_factory=time.perf_counter)
    """Since when the present part counts."""

    def lap(self, part: str) -> None:
        """Count the time since the last lap as spent on a part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.started
        self.started = now

    def during(self, part: str, progress: Progress) -> Progress:
        """Return a progress that is told the same, and counts the time before each time it is told."""

        def told(stage: str, done: int, of: int) -> None:
            self.lap(part)
            progress(stage, done, of)

        return told


@dataclass(frozen=True, slots=True)
class Notes:
    """What is known of a run beside its results."""

    command: str = ""
    """Command that does the same again; empty where it was run from Python."""
    started: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    """ISO 8601 in UTC."""
    clock: Clock = field(default_factory=Clock)
    """Where the time went."""
    warnings: list[str] = field(default_factory=list)
    """What was warned of while imagery and labels were found and read, each once."""


@contextmanager
def noted(notes: Notes) -> Iterator[None]:
    """Note what is warned of; it is warned of all the same."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for one in caught:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
        said = dict.fromkeys(str(one.message) for one in caught)
        notes.warnings.extend(s for s in said if s not in notes.warnings)
