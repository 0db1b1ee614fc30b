"""Worker processes of this machine, each of which works on one task at a time and keeps its model between them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from geomm.batch.slots import Done, lost
from geomm.batch.task import Outcome, Task
from geomm.batch.work import work

_spawn = multiprocessing.get_context("spawn")  # a fork would share open files and threads of GDAL


@dataclass(slots=True)
class _Lane:
    """A process, once there is something for it to do."""

    number: int
    process: Any = None
    pipe: Any = None
    task: Task | None = None
    begun: bool = False
    """Whether it has begun its task: until then, its end has nothing to do with the task."""


class Processes:
    """Worker processes.

    Args:
        number: of processes.
        memory_gb: address space that each may use; None for no limit.
    """

    def __init__(self, number: int, memory_gb: float | None = None) -> None:
        self._lanes = [_Lane(k) for k in range(number)]
        self._memory = memory_gb

    def free(self) -> int:
        """Return how many processes have nothing to do."""
        return sum(lane.task is None for lane in self._lanes)

    def submit(self, task: Task) -> None:
        """Send a task to a process that has nothing to do; it is started where there is none."""
        lane = min((x for x in self._lanes if x.task is None), key=lambda x: (x.process is None, x.number))
        if lane.process is not None and not lane.process.is_alive():
            self._bury(lane)
        if lane.process is None:
            ours, theirs = _spawn.Pipe()
            lane.process = _spawn.Process(
                target=serve, args=(theirs, lane.number, self._memory), name=f"worker-{lane.number}", daemon=True
            )
            lane.process.start()
            theirs.close()
            lane.pipe = ours
        lane.task, lane.begun = task, False
        try:
            lane.pipe.send(task)
        except OSError:
            lane.process.join(1.0)  # it is gone: waiting for it says so

    def wait(self, seconds: float) -> Done:
        """Return tasks that are done, or whose process is gone, at the latest after some time."""
        busy = [lane for lane in self._lanes if lane.task is not None]
        if not busy:
            time.sleep(seconds)
            return []
        ready = wait([x for lane in busy for x in (lane.pipe, lane.process.sentinel)], seconds)
        done = Done()
        for lane in busy:
            task = lane.task
            assert task is not None
            if lane.pipe in ready or lane.process.sentinel in ready:
                outcome = self._receive(lane)
                if outcome is not None:
                    done.append((task, outcome))
                    lane.task = None
        return done

    def _receive(self, lane: _Lane) -> Outcome | None:
        """Return what a process has to say: that it is done, or gone; None where it has but begun."""
        try:
            while lane.pipe.poll():
                told: Outcome | None = lane.pipe.recv()
                if told is not None:
                    return told
                lane.begun = True
            if lane.process.is_alive():
                return None
        except (EOFError, OSError):
            pass
        lane.process.join(5.0)
        code = lane.process.exitcode
        self._bury(lane)
        if not lane.begun:
            return Outcome("RETURNED")
        return lost(f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}")

    def _bury(self, lane: _Lane) -> None:
        lane.pipe.close()
        if lane.process.is_alive():
            lane.process.kill()
        lane.process.join()
        lane.process = lane.pipe = None

    def close(self, *, abort: bool) -> None:
        """End all processes; with ``abort`` without waiting for what they are at."""
        for lane in self._lanes:
            if lane.process is not None:
                if not abort and lane.task is None:
                    lane.pipe.close()  # it ends by itself
                    lane.process.join(5.0)
                self._bury(lane)
                lane.task = None


def serve(pipe: Connection, number: int, memory_gb: float | None) -> None:
    """Work on what comes through a pipe, until its other end is gone."""
    for number_of in (signal.SIGINT, signal.SIGTERM):  # they often go to the whole group; the coordinator decides
        signal.signal(number_of, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), name="watch", daemon=True).start()
    _own_device(number)
    if memory_gb is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory_gb * 2**30),) * 2)
    try:
        while True:
            pipe.send(work(pipe.recv(), begun=lambda: pipe.send(None)))
    except (EOFError, OSError):
        return  # the coordinator is gone


def _watch(parent: int) -> None:
    """End this process soon after its coordinator was killed, which cannot tell it any more."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _own_device(number: int) -> None:
    """Let this process see one GPU, of several another one than its neighbours."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = given.split(",") if given else [str(k) for k, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    if seen:
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[number % len(seen)]
