"""Where units are worked on: in this thread, in threads, in processes of this machine, or on a Dask cluster.

As many tasks are out as there are slots, no more: a task that waits in a queue of a worker would be lost with it. A
process that is gone without a word is its task's failure, and nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from geomm.batch.guard import StopSwitch
from geomm.batch.options import BatchOptions
from geomm.batch.task import Outcome, Stopped, Task
from geomm.batch.work import work
from geomm.errors import UnavailableError
from geomm.ledger import Failure, failure_of
from geomm.ledger.retry import WORKER_LOST

Done = list[tuple[Task, Outcome]]
"""Tasks with what came of them."""


class Slots(Protocol):
    """Works on tasks."""

    def free(self) -> int:
        """Return how many tasks can be taken now."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task."""
        ...

    def wait(self, seconds: float) -> Done:
        """Return tasks that are done, at the latest after some time."""
        ...

    def close(self, *, abort: bool) -> None:
        """Let go of all workers; with ``abort``, also of what they are at."""
        ...


def open_slots(options: BatchOptions, stop: StopSwitch, *, single: bool = False) -> Slots:
    """Return the slots that the options ask for.

    Args:
        options: scheduler and workers.
        stop: asked by work in progress whether to go on.
        single: one task at a time, whatever the options say, as where all write to one index.

    Raises:
        ConfigError: no Dask scheduler answers at the address.
        DependencyError: Dask's scheduler is not installed.
    """
    number = 1 if single else options.workers
    if options.scheduler == "local":
        from geomm.batch.processes import Processes

        return Processes(number, options.memory_gb)
    if options.scheduler != "threads":
        return Cluster(options.scheduler, most=1 if single else None)
    return Threads(number, stop) if number > 1 else Here(stop)


def lost(why: str, *, transient: bool = True) -> Outcome:
    """Return what became of a task whose process was gone."""
    message = f"The process that worked on it was gone without a word: {why}"
    return Outcome("FAILED", failure=Failure(WORKER_LOST, message, transient))


def _teller(stop: StopSwitch) -> Callable[[], None]:
    def told() -> None:
        if stop.over:
            raise Stopped("the run was told to stop", fix="run the same command again: it goes on there")

    return told


class Here:
    """One task at a time, in this very thread: nothing to start, nothing to wait for.

    Args:
        stop: asked whether to go on.
    """

    def __init__(self, stop: StopSwitch) -> None:
        self._told, self._done = _teller(stop), Done()

    def free(self) -> int:
        """Return 1 where nothing waits to be fetched."""
        return 0 if self._done else 1

    def submit(self, task: Task) -> None:
        """Work on a task; it is done on return."""
        self._done.append((task, work(task, self._told)))

    def wait(self, seconds: float) -> Done:
        """Return the task that is done."""
        done, self._done = self._done, []
        if not done:
            time.sleep(seconds)
        return done

    def close(self, *, abort: bool) -> None:
        """There is nothing to let go of."""


class Threads:
    """Threads of this process.

    Args:
        number: of threads.
        stop: asked whether to go on.
    """

    def __init__(self, number: int, stop: StopSwitch) -> None:
        self.number, self._told = number, _teller(stop)
        self._pool = ThreadPoolExecutor(number, "unit")
        self._running: dict[Future[Outcome], Task] = {}

    def free(self) -> int:
        """Return how many threads have nothing to do."""
        return self.number - len(self._running)

    def submit(self, task: Task) -> None:
        """Start a task."""
        self._running[self._pool.submit(work, task, self._told)] = task

    def wait(self, seconds: float) -> Done:
        """Return tasks that are done, at the latest after some time."""
        if not self._running:
            time.sleep(seconds)
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(self._running.pop(f), f.result()) for f in done]

    def close(self, *, abort: bool) -> None:  # noqa: ARG002 - work in threads looks by itself whether to go on
        """Wait for what is running: told to stop, it does so after its block."""
        self._pool.shutdown(cancel_futures=True)


FETCH = 30.0
"""Seconds that a finished task's outcome may take to come; then its worker may be gone, and Dask does it again."""
EMPTY = 600.0
"""Seconds that a cluster may be without any worker, as one that grows by itself is at first."""


class Cluster:
    """Workers of a Dask cluster, which read and write by the same paths as this process.

    Args:
        address: of the scheduler.
        most: tasks at a time; None for as many as the cluster has threads.
    """

    def __init__(self, address: str, *, most: int | None = None) -> None:
        from geomm.pipeline.clusters import connect

        self._client, self._most = connect(address), most
        self._running: dict[Any, Task] = {}
        self._seen = time.monotonic()

    def free(self) -> int:
        """Return how many threads of the cluster have nothing to do; workers may come and go."""
        threads = self._threads()
        return (threads if self._most is None else min(threads, self._most)) - len(self._running)

    def _threads(self) -> int:
        """Return how many threads the cluster has.

        Raises:
            UnavailableError: it has been without any for long.
        """
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        threads = sum(int(w["nthreads"]) for w in workers)
        if threads:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > EMPTY:
            raise UnavailableError(
                "the Dask cluster has no worker",
                why=f"for {EMPTY:g} seconds",
                fix="start workers, or look at their logs; then the same command again",
            )
        return threads

    def submit(self, task: Task) -> None:
        """Send a task."""
        self._running[self._client.submit(work, task, pure=False)] = task

    def wait(self, seconds: float) -> Done:
        """Return tasks that are done, at the latest after some time."""
        from dask.distributed import wait as wait_for

        if not self._running:
            time.sleep(seconds)
            return []
        try:
            wait_for(list(self._running), timeout=seconds, return_when="FIRST_COMPLETED")
        except TimeoutError:
            self._threads()
            return []
        except Exception as error:
            raise UnavailableError(
                "the Dask cluster is gone",
                why=f"{type(error).__name__}: {error}",
                fix="start it, and the same command again",
            ) from error
        found = [(f, outcome) for f in self._running if f.done() and (outcome := _result_of(f)) is not None]
        return [(self._running.pop(f), outcome) for f, outcome in found]

    def close(self, *, abort: bool) -> None:
        """Disconnect."""
        if abort:
            self._client.cancel(list(self._running))
        self._client.close()


def _result_of(future: Any) -> Outcome | None:
    """Return what became of a task; None where the worker that had it is gone, so that Dask does it again."""
    from dask.distributed import KilledWorker

    try:
        outcome: Outcome = future.result(timeout=FETCH)
    except TimeoutError as error:
        return Outcome("FAILED", failure=failure_of(error)) if future.status == "error" else None
    except KilledWorker as error:  # Dask has tried on several workers, and lost them all
        return lost(str(error), transient=False)
    except Exception as error:
        return Outcome("FAILED", failure=failure_of(error))
    return outcome
