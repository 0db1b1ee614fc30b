"""Work through the units of a stage: claim, hand out, verify, publish, note. The only writer of ledger and output."""

from __future__ import annotations

import heapq
import itertools
import shutil
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geomm.archive import Target
from geomm.batch.guard import Heartbeat, StopSwitch
from geomm.batch.options import BatchOptions
from geomm.batch.slots import Done, Slots, open_slots
from geomm.batch.stages import StagePlan
from geomm.batch.task import Outcome, Task
from geomm.catalog import Scene
from geomm.errors import GeommError, OutputError
from geomm.ledger import Failure, Ledger, Retries, RunNote, State, Unit, failure_of
from geomm.ledger.retry import WORKER_LOST
from geomm.types import Progress

AHEAD = 32
"""Units whose scenes are made at a time."""
SUSPECT = 3
"""Deaths of a process from which on a unit works in a process of its own, so that it takes no other with it."""
RETURNS = 20
"""Times that processes may be gone before they begin a unit."""
TICK = 0.5
"""Seconds between looks at the clock while nothing happens."""


class TooManyFailuresError(GeommError, RuntimeError):
    """More units failed than a run may have."""

    code = "E802"


@dataclass(slots=True)
class Bench:
    """What a run works with."""

    out: Target
    """Where units are published."""
    staging: Path
    """Where they are made."""
    root: Path
    """Folder that relative paths of the recipe start from."""
    ledger: Ledger
    """Notes every change."""
    run: RunNote
    """This run."""
    options: BatchOptions
    """How it runs."""
    stop: StopSwitch
    """Whether it is to stop."""
    heart: Heartbeat
    """Sign of life."""
    retries: Retries
    """When to try again."""
    progress: Progress
    """Told how far it is."""
    fetch: bool = False
    """Whether remote files are copied here before they are read."""
    touched: dict[tuple[str, str], Unit] = field(default_factory=dict)
    """Units that this run worked on."""
    failures: int = 0
    """Units of this run that failed."""


class Coordinator:
    """Works through the open units of one stage.

    Args:
        bench: of the run.
        plan: of the stage.
        units: those that are to be done.
    """

    def __init__(self, bench: Bench, plan: StagePlan, units: Sequence[Unit]) -> None:
        self.bench, self.plan = bench, plan
        self._waiting = deque(units)
        self._total, self._finished = len(units), 0
        self._later: list[tuple[float, int, Unit]] = []
        self._tried: dict[str, int] = {}
        self._scenes: dict[str, tuple[Scene, ...]] = {}
        self._running: dict[str, Unit] = {}
        self._returned: Counter[str] = Counter()
        self._order = itertools.count()

    def run(self) -> None:
        """Work until nothing is left, or until the run is to stop.

        Raises:
            OutputError: the output or the ledger cannot be written; units in work are given back.
            TooManyFailuresError: too many units failed.
        """
        bench = self.bench
        slots = open_slots(bench.options, bench.stop, single=self.plan.stage.kind == "index")
        alone: Slots | None = None
        abort = True
        try:
            while True:
                self._tell()
                if bench.stop.over or (bench.stop.signal and not self._running):
                    break
                suspect = self._feed(slots)
                if suspect is not None:
                    alone = alone or open_slots(_isolated(bench.options), bench.stop)
                    if alone.free() > 0:
                        self._hand_out(alone, suspect)
                    else:
                        self._waiting.append(suspect)
                if not self._running and not self._waiting and not self._later:
                    abort = False
                    break
                for task, outcome in _done(slots, alone):
                    self._settle(task, outcome)
        finally:
            for used in (slots, alone):
                if used is not None:
                    used.close(abort=abort)
            for unit in self._running.values():
                self._give_up(unit)

    def _feed(self, slots: Slots) -> Unit | None:
        """Hand out what there is room for; return a unit that wants a process of its own, if the next one does."""
        while not self.bench.stop.signal and slots.free() > 0:
            unit = self._next()
            if unit is None:
                return None
            if unit.deaths >= SUSPECT and self.bench.options.scheduler == "threads":
                return unit
            self._hand_out(slots, unit)
            if self.bench.options.scheduler == "threads" and self.bench.options.workers == 1:
                break  # it is done already
        return None

    def _next(self) -> Unit | None:
        """Return the unit that is next: a retry whose time has come, or a new one."""
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return self._waiting.popleft() if self._waiting else None

    def _hand_out(self, slots: Slots, unit: Unit) -> None:
        """Claim a unit and send it to be worked on."""
        bench = self.bench
        wrong = Failure("E201", f"An item of the unit is no longer in the catalog: {_named(unit)}", item=unit.name)
        try:
            scenes = self._scenes_of(unit)
        except GeommError as error:
            scenes, wrong = None, failure_of(error)
        bench.ledger.claim(unit, bench.run)
        bench.touched[unit.stage, unit.id] = unit
        self._running[unit.id] = unit
        if scenes is None:
            self._settle(self._task(unit, ()), Outcome("FAILED", failure=wrong))
            return
        slots.submit(self._task(unit, scenes))

    def _task(self, unit: Unit, scenes: tuple[Scene, ...]) -> Task:
        bench, plan = self.bench, self.plan
        settings = {"device": bench.options.device, "threads": bench.options.threads, "fetch": bench.fetch}
        settings |= plan.settings
        return Task(unit, plan.stage, scenes, bench.staging / unit.id, bench.root, plan.model, settings)

    def _scenes_of(self, unit: Unit) -> tuple[Scene, ...] | None:
        """Return the scenes of a unit, making those of the next ones too; None where items are gone."""
        if self.plan.imagery is None:
            return ()
        if unit.id not in self._scenes:
            ahead = [unit, *itertools.islice(self._waiting, AHEAD - 1)]
            try:
                self._scenes = self.plan.imagery.load(ahead)
            except GeommError:  # of any of them: whose it is shows when they come one by one
                self._scenes = self.plan.imagery.load([unit])
        return self._scenes.pop(unit.id, None)

    def _settle(self, task: Task, outcome: Outcome) -> None:
        """Publish what came of a task, or note why nothing did."""
        unit = self._running[task.unit.id]
        if outcome.state in ("DONE", "SKIPPED"):
            self._publish(task, unit, outcome)
        elif outcome.state == "ABORTED":
            return  # given up with all others that are running
        elif outcome.state == "RETURNED" and self._returned[unit.id] < RETURNS:
            self._returned[unit.id] += 1
            self.bench.ledger.release(unit, "PENDING")
            self._waiting.append(unit)
        elif outcome.failure is None:
            self._fail(task, unit, Failure(WORKER_LOST, "No process lived long enough to begin it"))
        else:
            self._fail(task, unit, outcome.failure)
        self._running.pop(unit.id, None)

    def _publish(self, task: Task, unit: Unit, outcome: Outcome) -> None:
        assert outcome.made is not None
        assert outcome.manifest is not None
        began = time.perf_counter()
        try:
            self.bench.out.publish(outcome.made, unit.place, outcome.manifest)
        except OutputError as error:
            failure = failure_of(error)
            if failure.output:
                raise
            self._fail(task, unit, failure)
            return
        seconds = dict(outcome.seconds)
        spent = time.perf_counter() - began
        seconds = seconds | {"write": seconds.get("write", 0.0) + spent, "all": seconds.get("all", 0.0) + spent}
        state: State = "DONE" if outcome.state == "DONE" else "SKIPPED"
        self.bench.ledger.finish(
            unit, state, reason=outcome.reason, manifest=outcome.manifest.to_dict(), seconds=seconds
        )  # fmt: skip
        shutil.rmtree(task.folder, ignore_errors=True)
        self._finished += 1

    def _fail(self, task: Task, unit: Unit, failure: Failure) -> None:
        """Try again later, put the unit aside for good, or stop the run."""
        bench = self.bench
        if failure.output:
            raise OutputError(
                "the run cannot go on",
                where=str(task.folder),
                why=failure.message,
                fix="free the disk or correct the permissions of the output, then run the same command",
            )
        tried = self._tried[unit.id] = self._tried.get(unit.id, 0) + 1
        delay = None if bench.stop.signal else bench.retries.delay(tried, failure)
        if delay is not None:
            bench.ledger.fail(unit, "PENDING", failure)
            if failure.code == WORKER_LOST:  # whatever killed it may still be about: last of all
                self._waiting.append(unit)
                return
            heapq.heappush(self._later, (time.monotonic() + delay, next(self._order), unit))
            return
        passing = failure.transient and (failure.code != WORKER_LOST or tried < bench.retries.attempts)
        bench.ledger.fail(unit, "FAILED" if passing else "QUARANTINED", failure)
        shutil.rmtree(task.folder, ignore_errors=True)
        self._finished += 1
        self._running.pop(unit.id, None)
        bench.failures += 1
        if bench.failures > bench.options.max_failures:
            raise TooManyFailuresError(
                "too many units failed",
                where=f"stage {unit.stage}",
                why=f"{bench.failures}, the last one {unit.name}: {failure.message}",
                fix="`geomm runs show` lists them; allow more with --max-failures",
            )

    def _give_up(self, unit: Unit) -> None:
        """Note that a unit was stopped in the middle; what it has made so far stays for the next run."""
        state: State = "ABORTED" if self.bench.stop.signal else "PENDING"
        try:
            self.bench.ledger.release(unit, state)
        except GeommError:
            return  # the next run finds it claimed by a process that is gone

    def _tell(self) -> None:
        self.bench.heart.at(self.plan.stage.name, self._finished, self._total)
        if self._total:
            self.bench.progress(self.plan.stage.name, self._finished, self._total)


def _named(unit: Unit) -> str:
    return ", ".join(dict.fromkeys(i.id for i in unit.items))


def _done(slots: Slots, alone: Slots | None) -> Done:
    """Return what is done, without waiting for one while the other has something."""
    if alone is None or alone.free() > 0:
        return slots.wait(TICK)
    done = slots.wait(0.0)
    return [*done, *alone.wait(0.0 if done else TICK)]


def _isolated(options: BatchOptions) -> BatchOptions:
    """Return options for one unit at a time in a process of its own."""
    from dataclasses import replace

    return replace(options, scheduler="local", workers=1)
