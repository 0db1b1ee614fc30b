"""Tables of the ledger, what is read from them beside units, and what is told of trouble with the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from geomm.errors import OutputError, PackageError
from geomm.ledger.units import State, Unit

COLUMNS = tuple(f.name for f in fields(Unit))
TABLES = f"""
CREATE TABLE IF NOT EXISTS units (
    {", ".join(f"{c} {'INTEGER' if c in ('attempts', 'deaths') else 'TEXT'} NOT NULL" for c in COLUMNS)},
    host TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0, changed REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (stage, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON units (stage, state);
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, started REAL NOT NULL, finished REAL, pid INTEGER NOT NULL, host TEXT NOT NULL,
    command TEXT NOT NULL, code INTEGER, counts TEXT NOT NULL DEFAULT '{{}}'
);
CREATE TABLE IF NOT EXISTS behind (stage TEXT NOT NULL, month TEXT NOT NULL, PRIMARY KEY (stage, month));
CREATE TABLE IF NOT EXISTS current (
    stage TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (stage, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class RunNote:
    """One run of a batch."""

    id: str
    """Time and process, sortable."""
    started: float
    """Seconds since 1970, UTC."""
    finished: float | None
    """The same; None while it runs, or where it was killed."""
    pid: int
    """Process."""
    host: str
    """Machine."""
    command: str
    """What was called."""
    code: int | None
    """Exit status; None as for ``finished``."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """State to number of units of this run."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a unit stands."""

    state: State
    """See :data:`geomm.ledger.State`."""
    tried: bool
    """Whether it was begun before."""
    place: str
    """Where it is published."""
    manifest: str
    """JSON, see :class:`geomm.archive.Manifest`."""


@contextmanager
def telling(path: Path, act: str, *further: type[Exception]) -> Iterator[None]:
    """Tell trouble with the disk from a file that is damaged; ``further`` errors are of what it says."""
    damage: tuple[type[Exception], ...] = (sqlite3.DatabaseError, UnicodeDecodeError, *further)
    try:
        yield
    except sqlite3.OperationalError as error:  # of a kind that has nothing to do with the content
        raise OutputError(
            f"the ledger cannot be {act}",
            where=str(path),
            why=str(error),
            fix="free the disk, check the permissions; a damaged ledger may be moved away: it is made again",
        ) from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # nothing is wrong with the file
    except damage as error:
        fix = "move it away: the next run finds what is published and writes another"
        raise PackageError("the ledger cannot be read", where=str(path), why=str(error), fix=fix) from error
