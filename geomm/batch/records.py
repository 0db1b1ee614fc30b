"""What a run leaves to be read: its record, the page for people, the figures for a metrics collector."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import resource
import shlex
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from geomm._version import __version__
from geomm.archive import Manifest
from geomm.batch.metrics import write_metrics
from geomm.batch.record import Part, RunRecord, StageCount, UnitRow
from geomm.errors import GeommError
from geomm.ledger import Unit

if TYPE_CHECKING:
    from geomm.batch.coordinator import Bench
    from geomm.batch.run import BatchResult
    from geomm.batch.stages import Planner


def write_records(planner: Planner, bench: Bench, result: BatchResult) -> Path | None:
    """Note how a run ended, and write its page; a disk that is full does not stop the run from ending in order.

    A run that found nothing to do leaves no page: of those there are many in a year.

    Returns:
        The page; None where there is none.
    """
    counts: dict[str, int] = {}
    for unit in result.units:
        counts[unit.state] = counts.get(unit.state, 0) + 1
    with suppress(GeommError):
        bench.ledger.end(bench.run.id, result.code, counts)
    record = _record(planner, bench, result)
    try:
        if bench.options.metrics is not None:
            write_metrics(record, Path(bench.options.metrics))
    except OSError as error:
        warnings.warn(f"The metrics cannot be written: {error}", stacklevel=2)
    try:
        if not result.units and result.code == 0:
            return None
        from geomm.batch.report import write_report

        folder = planner.state / "runs" / bench.run.id
        folder.mkdir(parents=True, exist_ok=True)
        return write_report(record, folder, root=None if "://" in bench.out.root else Path(bench.out.root))
    except OSError:
        return None


def _record(planner: Planner, bench: Bench, result: BatchResult) -> RunRecord:
    config, place = planner.config, shlex.quote(str(planner.state))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    troubled = any(u.state in ("QUARANTINED", "FAILED") for u in result.units)
    return RunRecord(
        bench.run.id,
        config.name,
        config.description,
        bench.run.command,
        f"geomm runs retry {place}" if troubled else "",
        hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest(),
        __version__,
        bench.run.host,
        _instant(bench.run.started),
        _instant(dt.datetime.now(dt.UTC).timestamp()),
        result.code,
        outcome(result),
        tuple(_count(s.name, result) for s in config.stages),
        bench.retries.used,
        tuple(_row(u) for u in result.units),
        peak / 1024,
    )


def outcome(result: BatchResult) -> str:
    """Say in a sentence what a run came to."""
    told = ", ".join(
        f"{number} {word}"
        for word, number in (
            ("published", sum(u.state == "DONE" for u in result.units)),
            ("without data", sum(u.state == "SKIPPED" for u in result.units)),
            ("quarantined", sum(u.state == "QUARANTINED" for u in result.units)),
            ("failed", sum(u.state == "FAILED" for u in result.units)),
            ("stopped in the middle", sum(u.state == "ABORTED" for u in result.units)),
            ("there already", sum(a.why == "present" for a in result.actions)),
            ("put aside before", sum(a.why == "quarantined" for a in result.actions) - _rejected(result)),
            ("left for the next run", sum(a.does for a in result.actions) - len(result.units) + _rejected(result)),
        )
        if number
    )
    return (told or "nothing to do") + (f"; {result.error}" if result.error else "")


def _rejected(result: BatchResult) -> int:
    """Count the items of this run that cannot be understood."""
    return sum(not u.place for u in result.units)


def _count(stage: str, result: BatchResult) -> StageCount:
    mine = [u for u in result.units if u.stage == stage]
    planned = [a for a in result.actions if a.unit.stage == stage]
    states = [u.state for u in mine]
    return StageCount(
        stage,
        sum(a.does for a in planned),
        states.count("DONE"),
        states.count("SKIPPED"),
        states.count("QUARANTINED"),
        states.count("FAILED"),
        sum(a.why == "present" for a in planned),
    )


def _row(unit: Unit) -> UnitRow:
    manifest = Manifest.from_dict(dict(unit.manifest)) if unit.manifest else None
    told: tuple[Part, ...] = ("read", "model", "write")
    spent: dict[Part, float] = {k: max(float(unit.seconds.get(k, 0.0)), 0.0) for k in told}
    spent["other"] = max(float(unit.seconds.get("all", 0.0)) - sum(spent.values()), 0.0)
    picture = next((f.name for f in manifest.files if f.name.endswith(".png")), "") if manifest else ""
    return UnitRow(
        unit.stage,
        unit.id,
        unit.name,
        "PENDING" if unit.state == "CLAIMED" else unit.state,
        unit.time,
        unit.bbox,
        unit.code,
        unit.message,
        unit.item,
        unit.asset,
        unit.window,
        unit.attempts,
        spent,
        manifest.size if manifest else 0,
        manifest.digest if manifest else "",
        f"{unit.place}/{manifest.item}" if manifest else "",
        f"{unit.place}/{picture}" if picture else "",
    )


def _instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
