"""What keeps a run in order: one at a time for an output, a way to stop, a sign of life."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

from geomm.errors import BusyError, OutputError

BEAT = 5.0
"""Seconds between signs of life."""


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold the lock of an output; the system frees it when the process is gone, whatever way.

    Raises:
        BusyError: another run holds it.
        OutputError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = FileLock(state / "run.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            "another run is at work here", where=str(state), fix="wait for it: `geomm runs list` says how far it is"
        ) from error
    except OSError as error:
        raise OutputError(
            "the output cannot be written",
            where=str(state),
            why=error.strerror or str(error),
            fix="name a folder that you may write to with --out, or with --state for the ledger alone",
        ) from error
    try:
        yield
    finally:
        lock.release()


class StopSwitch:
    """Set by SIGTERM and SIGINT: no further unit is begun; those in work get some time, or none at the second signal.

    Args:
        grace: seconds for units in work.
    """

    def __init__(self, grace: float) -> None:
        self.grace, self.signal, self._deadline = grace, 0, float("inf")
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._stop) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        again = bool(self.signal)
        self.signal = self.signal or number
        self._deadline = time.monotonic() + (0.0 if again else self.grace)

    @property
    def over(self) -> bool:
        """Whether units in work are to be given up."""
        return time.monotonic() >= self._deadline


class Heartbeat:
    """A small file that says how far a run is, written again every few seconds; old, it says that the run is gone.

    Args:
        path: of the file.
        run: id of the run.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.stage, self.done, self.total = path, "", 0, 0
        self._aside = path.with_name(f".{path.name}")  # one run at a time: what a killed one left is written over
        self._about = {"run": run, "pid": os.getpid(), "host": socket.gethostname()}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._write("running")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._write("finished")

    def at(self, stage: str, done: int, total: int) -> None:
        """Note how far the run is."""
        self.stage, self.done, self.total = stage, done, total

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            self._write("running")

    def _write(self, state: str) -> None:
        told = self._about | {"state": state, "stage": self.stage, "done": self.done, "total": self.total}
        with suppress(OSError):  # a full disk must not stop what can still be saved
            self._aside.write_text(json.dumps(told | {"time": time.time()}))
            self._aside.replace(self.path)
