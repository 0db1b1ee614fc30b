"""The ledger: states of all units in one sqlite file. One process writes it; every change is whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from geomm.errors import OutputError, PackageError
from geomm.ledger.retry import WORKER_LOST, Failure
from geomm.ledger.tables import COLUMNS, TABLES, RunNote, Standing, telling
from geomm.ledger.units import State, Unit

VERSION = 1
"""Of the tables."""


class Ledger:
    """An open ledger.

    Args:
        path: of the sqlite file.
        write: make it if it is not there, and allow changes; the caller holds the lock of the output.

    Raises:
        PackageError: the file is no ledger, or of another version.
        OutputError: it cannot be made, or is not there.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        if not write and not self.path.is_file():
            raise OutputError("there is no ledger", where=str(path), fix="name the folder that `geomm run` wrote to")
        with telling(self.path, "opened"):
            # Where nobody writes, nothing is touched, not even the files that readers of a log leave.
            still = not self.path.with_name(f"{self.path.name}-wal").exists()
            mode = "rwc" if write else "ro&immutable=1" if still else "ro"
            self._base = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30.0,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            self._base.row_factory = sqlite3.Row
            if write:
                self._prepare()
            found = self._base.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            raise PackageError(
                "the ledger is of another version",
                where=str(path),
                why=f"{found}, not {VERSION}",
                fix="use the geomm that wrote it, or move the file away: it is read again from the output",
            )

    def _prepare(self) -> None:
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")  # a state that was told of is on disk
        if self._base.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._base.executescript(f"BEGIN; {TABLES} PRAGMA user_version={VERSION}; COMMIT;")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was written before is there."""
        self._base.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Make changes that are there together or not at all.

        Raises:
            OutputError: the file cannot be written.
            PackageError: it is damaged.
        """
        with telling(self.path, "written"):
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _ask[T](self, read: Callable[[dict[str, Any]], T], command: str, values: Sequence[Any] = ()) -> list[T]:
        """Return what is read from the rows of an answer.

        Raises:
            OutputError: the file cannot be read.
            PackageError: it is damaged.
        """
        with telling(self.path, "read", ValueError, TypeError), closing(self._base.execute(command, values)) as found:
            return [read(dict(row)) for row in found]

    def add(self, units: Iterable[Unit]) -> int:
        """Enter units that are not known yet, and return how many; those that are known stay as they are."""
        marks = ", ".join(f":{c}" for c in COLUMNS)
        command = f"INSERT OR IGNORE INTO units ({', '.join(COLUMNS)}, changed) VALUES ({marks}, :changed)"  # noqa: S608 names of our own
        with self._change() as base:
            before = base.total_changes
            base.executemany(command, [u.to_row() | {"changed": time.time()} for u in units])
            return base.total_changes - before

    def units(self, stage: str | None = None, states: Sequence[State] = (), *, newest: bool = False) -> list[Unit]:
        """Return units by time and name, or with ``newest`` those first whose state changed last."""
        order = "changed DESC" if newest else "time"
        return self._select(Unit.from_row, ", ".join(COLUMNS), stage, states, order=order)

    def stages(self) -> list[str]:
        """Return the names of all stages that have units."""
        return self._ask(lambda row: str(row["stage"]), "SELECT DISTINCT stage FROM units ORDER BY stage")

    def standing(self, stage: str) -> dict[str, Standing]:
        """Return of every unit of a stage how it stands: as much as can be read of many thousands in no time."""

        def read(row: dict[str, Any]) -> tuple[str, Standing]:
            return row["id"], Standing(row["state"], bool(row["tried"]), row["place"], row["manifest"])

        return dict(self._select(read, "id, state, attempts + deaths AS tried, place, manifest", stage, ()))

    def _select[T](
        self, read: Callable[[dict[str, Any]], T], columns: str, stage: str | None, states: Sequence[State], *,
        order: str = "time",
    ) -> list[T]:  # fmt: skip
        conditions, values = ["1"], list[Any]()
        if stage is not None:
            conditions.append("stage = ?")
            values.append(stage)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        where = " AND ".join(conditions)
        command = f"SELECT {columns} FROM units WHERE {where} ORDER BY stage, {order}, name, id"  # noqa: S608 names of our own
        return self._ask(read, command, values)

    def find(self, stage: str, number: str) -> Unit | None:
        """Return one unit."""
        command = f"SELECT {', '.join(COLUMNS)} FROM units WHERE stage = ? AND id = ?"  # noqa: S608 names of our own
        found = self._ask(Unit.from_row, command, (stage, number))
        return found[0] if found else None

    def _set(
        self, stage: str, number: str, values: Mapping[str, Any], *, more: Mapping[str, int] | None = None,
        behind: str = "",
    ) -> None:  # fmt: skip
        """Change a unit, counting from what the ledger holds: a run has its units as they were planned."""
        more = more or {}
        settings = ", ".join([f"{name} = :{name}" for name in values] + [f"{name} = {name} + :{name}" for name in more])
        command = f"UPDATE units SET {settings}, changed = :_now WHERE stage = :_stage AND id = :_id"  # noqa: S608 names of our own
        with self._change() as base:
            done = base.execute(command, {**values, **more, "_now": time.time(), "_stage": stage, "_id": number})
            if done.rowcount != 1:
                raise PackageError(
                    "the ledger does not know the unit",
                    where=f"{stage} {number}",
                    fix="geomm runs show OUT lists the units that there are",
                )
            if behind:
                base.execute("INSERT OR IGNORE INTO behind (stage, month) VALUES (?, ?)", (stage, behind))

    def claim(self, unit: Unit, run: RunNote) -> None:
        """Note that a run works on a unit: for as long as its process holds the lock of the output."""
        self._set(unit.stage, unit.id, {"state": "CLAIMED", "run": run.id, "host": run.host, "pid": run.pid})

    def finish(
        self, unit: Unit, state: State, *, reason: str = "", manifest: Mapping[str, Any], seconds: Mapping[str, float]
    ) -> None:
        """Note that a unit is published or holds nothing, and that the catalog of its month is behind."""
        fresh = dict.fromkeys(("message", "item", "asset", "window"), "") | {"code": reason, "deaths": 0}
        told = {"manifest": json.dumps(dict(manifest)), "seconds": json.dumps(dict(seconds))}
        self._set(unit.stage, unit.id, {"state": state, **told, **fresh}, behind=unit.time[:7])

    def seen(self, unit: Unit, run: RunNote) -> None:
        """Note that a run has told of a unit."""
        self._set(unit.stage, unit.id, {"run": run.id})

    def fail(self, unit: Unit, state: State, failure: Failure) -> None:
        """Note that a unit did not succeed; a failure of its process counts as a death too."""
        told = {"code": failure.code, "message": failure.message[:4000]}
        told |= {k: getattr(failure, k) for k in ("item", "asset", "window")}
        self._set(
            unit.stage, unit.id, {"state": state, **told}, more={"attempts": 1, "deaths": failure.code == WORKER_LOST}
        )

    def choose(self, stage: str, units: Sequence[Unit]) -> None:
        """Note which unit stands for its name now; months in which another one did are behind."""
        before = self.current(stage)
        fresh = [u for u in units if before.get(u.name) != u.id]
        with self._change() as base:
            base.executemany(
                "INSERT OR REPLACE INTO current (stage, name, id) VALUES (?, ?, ?)",
                [(stage, u.name, u.id) for u in fresh],
            )
            base.executemany(
                "INSERT OR IGNORE INTO behind (stage, month) SELECT stage, substr(time, 1, 7) FROM units "
                "WHERE stage = ? AND id IN (?, ?) AND manifest <> '{}'",
                [(stage, before[u.name], u.id) for u in fresh if u.name in before],
            )

    def current(self, stage: str) -> dict[str, str]:
        """Return which unit stands for every name of a stage."""
        command = "SELECT name, id FROM current WHERE stage = ?"
        return dict(self._ask(lambda row: (row["name"], row["id"]), command, (stage,)))

    def note(self, key: str, value: str) -> None:
        """Keep something worth knowing of the whole."""
        with self._change() as base:
            base.execute("INSERT OR REPLACE INTO about (key, value) VALUES (?, ?)", (key, value))

    def noted(self, key: str) -> str:
        """Return what was kept; empty where nothing was."""
        found = self._ask(lambda row: str(row["value"]), "SELECT value FROM about WHERE key = ?", (key,))
        return found[0] if found else ""

    def release(self, unit: Unit, state: State) -> None:
        """Give a unit back that nobody is to blame for."""
        self._set(unit.stage, unit.id, {"state": state})

    def reset(self, stage: str, ids: Sequence[str]) -> None:
        """Make units wait again as if they were new; the catalogs of their months are behind."""
        clean = dict.fromkeys(("code", "message", "item", "asset", "window"), "") | {"manifest": "{}"}
        for number in ids:
            unit = self.find(stage, number)
            published = unit.time[:7] if unit is not None and unit.manifest else ""
            self._set(stage, number, {"state": "PENDING", "attempts": 0, "deaths": 0, **clean}, behind=published)

    def orphans(self) -> None:
        """Give units back that a process had claimed which is gone, with one more death.

        The caller holds the lock of the output, so that nobody can be working on them.
        """
        with self._change() as base:
            base.execute(
                "UPDATE units SET state = 'PENDING', deaths = deaths + 1, changed = ? WHERE state = 'CLAIMED'",
                (time.time(),),
            )

    def counts(self, stage: str | None = None) -> dict[State, int]:
        """Return how many units there are of every state."""
        where, values = ("WHERE stage = ?", [stage]) if stage is not None else ("", [])
        command = f"SELECT state, count(*) AS n FROM units {where} GROUP BY state"  # noqa: S608 text of our own
        return dict(self._ask(lambda row: (row["state"], row["n"]), command, values))

    def begin(self, run: RunNote) -> None:
        """Enter a run."""
        with self._change() as base:
            base.execute(
                "INSERT INTO runs (id, started, pid, host, command) VALUES (?, ?, ?, ?, ?)",
                (run.id, run.started, run.pid, run.host, run.command),
            )

    def end(self, run: str, code: int, counts: Mapping[str, int]) -> None:
        """Note how a run ended."""
        with self._change() as base:
            base.execute(
                "UPDATE runs SET finished = ?, code = ?, counts = ? WHERE id = ?",
                (time.time(), code, json.dumps(dict(counts), sort_keys=True), run),
            )

    def runs(self) -> list[RunNote]:
        """Return all runs, the newest first."""

        def read(row: dict[str, Any]) -> RunNote:
            return RunNote(**(row | {"counts": json.loads(row["counts"])}))

        return self._ask(read, "SELECT * FROM runs ORDER BY started DESC, id DESC")

    def behind(self) -> list[tuple[str, str]]:
        """Return stages and months whose catalogs do not yet say what is published."""
        command = "SELECT stage, month FROM behind ORDER BY stage, month"
        return self._ask(lambda row: (row["stage"], row["month"]), command)

    def listed(self, stage: str, month: str) -> None:
        """Note that the catalog of a month says what is published."""
        with self._change() as base:
            base.execute("DELETE FROM behind WHERE stage = ? AND month = ?", (stage, month))
