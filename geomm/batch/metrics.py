"""Figures of a run for Prometheus, as a file that node_exporter's textfile collector reads.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geomm.archive.durable import explained
from geomm.batch.record import PARTS, RunRecord, StageCount
from geomm.whole import write_whole

Sample = tuple[dict[str, str], float]
"""Labels and value."""

_SUCCESS = "geomm_run_last_success_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    """Of the metric."""
    kind: str
    """Of the metric: gauge or counter."""
    about: str
    """What it says."""
    samples: tuple[Sample, ...]
    """Without the label of the run."""


def write_metrics(record: RunRecord, path: Path) -> None:
    """Write the figures of a run; they replace those of the run before.

    The time of the last success is kept from the file that is replaced where this run was none, so that an alert can
    ask how old the newest complete output is.

    Args:
        record: of the run.
        path: file with the extension ``.prom``, one for each recipe.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = []
    for family in _families(record, record.ended.timestamp() if record.exit_code == 0 else _last(record.name, path)):
        if family.samples:
            lines += [f"# HELP {family.name} {family.about}", f"# TYPE {family.name} {family.kind}"]
            lines += [_line(family.name, {"run_name": record.name} | labels, value) for labels, value in family.samples]
    with explained("a file cannot be written", path):
        write_whole(path, ("\n".join(lines) + "\n").encode(errors="replace"))


def _families(record: RunRecord, success: float | None) -> Iterator[_Family]:
    def gauge(name: str, about: str, samples: Iterable[Sample]) -> _Family:
        return _Family(name, "gauge", about, tuple(samples))

    yield gauge("geomm_run_units", "Units by what they are at the end of the run.", _units(record))
    yield gauge("geomm_run_exit_code", "Exit code of the run.", [({}, record.exit_code)])
    yield gauge("geomm_run_started_timestamp_seconds", "When the run started.", [({}, record.began.timestamp())])
    yield gauge("geomm_run_finished_timestamp_seconds", "When the run finished.", [({}, record.ended.timestamp())])
    about = "When a run last finished with nothing left to do."
    yield gauge(_SUCCESS, about, [({}, success)] if success is not None else [])
    yield gauge("geomm_run_seconds", "Seconds of work over all units, by what they went into.", _seconds(record))
    yield _Family("geomm_run_retries_total", "counter", "Attempts that were repeated.", (({}, record.retries),))
    yield gauge("geomm_run_bytes", "Bytes that were published.", [({}, sum(u.bytes for u in record.units))])
    yield gauge("geomm_run_resident_bytes", "Most memory that was used.", [({}, record.resident_mb * 1e6)])


def _units(record: RunRecord) -> Iterator[Sample]:
    for stage in record.stages:
        unfinished = record.count(stage.stage)
        counts = _counts(stage) | {"aborted": unfinished["ABORTED"], "pending": unfinished["PENDING"]}
        for state, count in counts.items():
            yield {"stage": stage.stage, "state": state}, count


def _counts(stage: StageCount) -> dict[str, int]:
    return {s: getattr(stage, s) for s in ("done", "skipped", "quarantined", "failed", "present")}


def _seconds(record: RunRecord) -> Iterator[Sample]:
    for stage in record.stages:
        mine = [u.seconds for u in record.units if u.stage == stage.stage]
        for part in PARTS:
            yield {"stage": stage.stage, "part": part}, math.fsum(s.get(part, 0.0) for s in mine)


def _line(name: str, labels: dict[str, str], value: float) -> str:
    return f"{_series(name, labels)} {repr(float(value)).removesuffix('.0')}"


def _series(name: str, labels: dict[str, str]) -> str:
    escaped = (f'{k}="{_escape(v)}"' for k, v in labels.items())
    return f"{name}{{{','.join(escaped)}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _last(name: str, path: Path) -> float | None:
    """Return the time of the last success that a file tells of; None where it tells none."""
    start = f"{_series(_SUCCESS, {'run_name': name})} "
    try:
        lines = path.read_bytes().decode(errors="replace").split("\n")
        (line,) = [text for text in lines if text.startswith(start)]
        value = float(line.removeprefix(start))
    except (OSError, ValueError):
        return None
    return value if math.isfinite(value) else None
