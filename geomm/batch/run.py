"""Run a batch: plan what is new, work on it stage by stage, list what is published, report."""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
import shutil
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geomm.archive import STAGING, Target, open_target
from geomm.batch.checks import check_stage
from geomm.batch.coordinator import Bench, Coordinator, TooManyFailuresError
from geomm.batch.estimate import bytes_of
from geomm.batch.guard import Heartbeat, StopSwitch, alone
from geomm.batch.look import result_card
from geomm.batch.options import SCHEDULERS, BatchOptions
from geomm.batch.published import adopted, check_root, list_published
from geomm.batch.reconcile import Action, reconcile
from geomm.batch.stages import Planner
from geomm.config import BatchConfig, Stage, recipe_of
from geomm.errors import ConfigError, GeommError
from geomm.ledger import Ledger, Retries, RunNote, Unit, failure_of
from geomm.types import Progress, silent

STATE = STAGING
"""Folder of ledger, lock, staging and records in an output."""
LEDGER = "ledger.sqlite"
UNITS = "staging"

DONE, INTERNAL, USAGE, INCOMPLETE, STOPPED, BUSY = 0, 1, 2, 3, 4, 75
"""Exit status: all done; an error; a recipe or option that is wrong; some units failed; too many did; another run is at
work here (EX_TEMPFAIL). A signal that was obeyed is 128 and its number."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a run came to."""

    code: int
    """Exit status."""
    actions: tuple[Action, ...]
    """What was planned for every unit."""
    units: tuple[Unit, ...] = ()
    """Units that it worked on, as they are now."""
    report: Path | None = None
    """Page for people; ``run.json`` lies beside it."""
    error: GeommError | None = None
    """Why it stopped, where it did."""
    waits: tuple[str, ...] = ()
    """Stages that could not be planned yet, as an earlier one has made nothing."""

    def _repr_html_(self) -> str:
        return result_card(self)


def run_batch(
    config: BatchConfig, out: str | Path, options: BatchOptions | None = None, *, progress: Progress = silent
) -> BatchResult:
    """Run a batch; called again, it does what is new or was left.

    Args:
        config: see :func:`geomm.config.load_batch`.
        out: folder, or address of an object store such as ``s3://bucket/prefix``, of what is published.
        options: how to run.
        progress: told how far it is.

    Returns:
        What it came to. Failures of units are noted in the ledger, not raised.

    Raises:
        BusyError: another run is at work on the same output.
        ConfigError: recipe and options do not go together.
        GeommError: a catalog or a model cannot be used; what was published before stays.
    """
    config = recipe_of(config, BatchConfig)
    options = _options(options)
    target = open_target(str(out) if "://" in str(out) else Path(out).absolute())
    state = _state_of(target, options).absolute()
    _check(config, target, options)
    window = options.interval(dt.datetime.now(dt.UTC))
    planner = Planner(config, target, state, window)
    if options.dry_run:
        return _dry(planner, options)
    with alone(state), Ledger(state / LEDGER, write=True) as ledger:
        note = RunNote(_run_id(), time.time(), None, os.getpid(), socket.gethostname(), _command(), None)
        if not ledger.runs():
            for unit, manifest in adopted(target):
                ledger.add([unit])
                ledger.finish(unit, unit.state, manifest=manifest.to_dict(), seconds={})
        ledger.note("root", target.root)
        ledger.begin(note)
        ledger.orphans()
        with StopSwitch(options.grace) as stop, Heartbeat(state / "heartbeat.json", note.id) as heart:
            retries = Retries(options.attempts, options.delay)
            bench = Bench(
                target, _staging_of(target, state), Path(config.root), ledger, note, options, stop, heart, retries,
                progress, fetch=config.trust.fetch,
            )  # fmt: skip
            return _run(planner, bench)


def _options(options: Any) -> BatchOptions:
    """Return options, or their defaults.

    Raises:
        ConfigError: they are something else.
    """
    if options is None or isinstance(options, BatchOptions):
        return options or BatchOptions()
    fix = "write geomm.run_batch(config, out, geomm.BatchOptions(workers=2))"
    raise ConfigError("these are no options of a batch", where=repr(options)[:80], fix=fix)


def _command() -> str:
    """Return the command that this process was called with, as it can be typed again."""
    name = Path(sys.argv[0]).name
    return shlex.join(["geomm" if name in ("geomm", "__main__.py") else sys.argv[0], *sys.argv[1:]])


def _run(planner: Planner, bench: Bench) -> BatchResult:
    """Run all stages under the lock."""
    from geomm.batch.records import write_records

    actions, waits, code = list[Action](), list[str](), DONE
    error: GeommError | None = None
    try:
        _sweep(bench)
        for stage in planner.config.stages:
            if not _stage(planner, bench, stage, actions):
                waits.append(stage.name)
            if bench.stop.signal:
                break
    except GeommError as caught:
        error, code = caught, _status(caught)
    except Exception as caught:  # a mistake of ours: what was published is listed all the same
        failure = failure_of(caught)
        error, code = GeommError("geomm met what it did not expect", why=failure.message, fix="report it"), INTERNAL
    try:
        list_published(bench.out, bench.ledger, planner.config.name)
    except GeommError as caught:
        error, code = error or caught, code or INTERNAL
    if bench.stop.signal:
        code = 128 + bench.stop.signal
    units = tuple(u for key in bench.touched if (u := bench.ledger.find(*key)) is not None)
    if code == DONE and (bench.failures or waits):
        code = INCOMPLETE
    result = BatchResult(code, tuple(actions), units, None, error, tuple(waits))
    return replace(result, report=write_records(planner, bench, result))


def _stage(planner: Planner, bench: Bench, stage: Stage, actions: list[Action]) -> bool:
    """Plan a stage and work on it; return whether an earlier one had made what it needs."""
    plan = planner.plan(stage, bench.ledger)
    if plan.waits_for:
        return False
    mine = reconcile(plan, bench.out, bench.ledger)
    actions += mine
    _count_rejected(bench, stage, mine)
    order = sorted((a for a in mine if a.does), key=lambda a: a.why == "again")  # what failed holds nothing up
    todo = [a.unit for a in order][: bench.options.limit]
    bench.retries.budget += len(todo)  # one for every unit, on the average
    if todo:
        check_stage(plan, planner.config.root, bench.options)
        Coordinator(bench, plan, todo).run()
    return True


def _status(error: GeommError) -> int:
    if isinstance(error, TooManyFailuresError):
        return STOPPED
    return USAGE if isinstance(error, ConfigError) else INTERNAL


def _dry(planner: Planner, options: BatchOptions) -> BatchResult:
    """Plan, and write nothing."""
    import tempfile

    place = planner.state / LEDGER
    with tempfile.TemporaryDirectory(prefix="geomm-") as scratch:
        aside = replace(planner, state=Path(scratch))
        ledger = Ledger(place) if place.is_file() else None
        try:
            actions, waits = list[Action](), list[str]()
            for stage in planner.config.stages:
                plan = aside.plan(stage, ledger)
                if plan.waits_for:
                    waits.append(stage.name)
                else:
                    mine = reconcile(plan, planner.out, ledger, write=False)
                    if any(a.does for a in mine):
                        check_stage(plan, planner.config.root, options)
                    size = bytes_of(plan, [a.unit for a in mine if a.does])
                    actions += [replace(a, bytes=size.get(a.unit.id)) for a in mine]
            return BatchResult(DONE, tuple(actions), waits=tuple(waits))
        finally:
            if ledger is not None:
                ledger.close()


def _state_of(target: Target, options: BatchOptions) -> Path:
    """Return the folder of the ledger.

    Raises:
        ConfigError: the output is an object store and no folder was named.
    """
    if options.state is not None:
        return Path(options.state)
    if "://" in target.root:
        raise ConfigError(
            "the ledger needs a local folder", where=target.root, fix="name one: --state DIR, the same for every run"
        )
    return Path(target.root) / STATE


def _staging_of(target: Target, state: Path) -> Path:
    """Return where units are made: on the file system of the output where that is a folder, to be renamed."""
    return (state if "://" in target.root else Path(target.root) / STATE) / UNITS


def _sweep(bench: Bench) -> None:
    """Remove what units left that nobody will go on with, and what a killed publisher had moved out of the way."""
    if "://" not in bench.out.root:
        for place in bench.staging.parent.iterdir() if bench.staging.parent.is_dir() else ():
            if re.fullmatch("(trash|write)-[0-9a-f]{32}", place.name):
                shutil.rmtree(place) if place.is_dir() else place.unlink()
    if not bench.staging.is_dir():
        return
    kept = {u.id for u in bench.ledger.units(states=("PENDING", "CLAIMED", "FAILED", "ABORTED"))}
    for place in bench.staging.iterdir():
        if place.name not in kept and re.fullmatch("[0-9a-f]{32}", place.name):
            shutil.rmtree(place, ignore_errors=True)


def _count_rejected(bench: Bench, stage: Stage, actions: list[Action]) -> None:
    """Count items that cannot be understood as units of this run, the first time that they are met."""
    known = {(u.stage, u.id) for u in bench.ledger.units(stage.name, ("QUARANTINED",)) if u.run}
    for action in actions:
        key = (action.unit.stage, action.unit.id)
        if action.unit.state == "QUARANTINED" and not action.unit.place and key not in known:
            bench.touched[key] = action.unit
            bench.failures += 1
            bench.ledger.seen(action.unit, bench.run)


def _check(config: BatchConfig, target: Target, options: BatchOptions) -> None:
    """Refuse what could only fail later.

    Raises:
        ConfigError: the output is somebody else's, later stages would not find what earlier ones make, or the device
            is not here; that of a cluster's workers is theirs to know.
    """
    check_root(target)
    if options.device != "cpu" and options.scheduler in SCHEDULERS:
        from geomm.prediction.device import check_device

        check_device(options.device)
    if "://" in target.root and any(_chained(config, s) for s in config.stages):
        raise ConfigError(
            "models, chips and indexes that other stages use lie in a local folder",
            where=target.root,
            fix="train into a folder first, and name the model package in the recipe",
        )


def _chained(config: BatchConfig, stage: Stage) -> bool:
    return (
        stage.kind == "index"
        or getattr(stage, "model", "") in config.before(stage)
        or bool(getattr(stage, "chips", ""))
    )


def _run_id() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%f}Z-{os.getpid()}"
