"""How a batch runs, apart from what it makes."""

from __future__ import annotations

import datetime as dt
import os
import re
from dataclasses import dataclass
from pathlib import Path

from geomm.catalog import parse_interval
from geomm.errors import CatalogError, ConfigError
from geomm.types import check_whole

SCHEDULERS = ("threads", "local")
"""In this process, in processes of this machine; anything else is the address of a Dask scheduler."""

_KINDS: tuple[tuple[tuple[str, ...], tuple[type, ...], str, str], ...] = (
    (("scheduler", "device"), (str,), "text", "'...'"),
    (("since", "backfill"), (str,), "text", "'2024-05-31', since='7d' or backfill='2023-01-01/2023-12-31'"),
    (("state", "metrics"), (str, Path), "path", "'folder/name'"),
    (("delay", "grace", "memory_gb"), (int, float), "number", "4.0"),
)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch runs. None of it changes a byte of what comes out."""

    scheduler: str = "threads"
    """``threads``, ``local`` (worker processes), or ``tcp://...``, the address of a Dask scheduler."""
    workers: int = 1
    """Units that are worked on at a time; of a Dask cluster, as many as it has threads."""
    state: str | Path | None = None
    """Folder of ledger, lock and staging; default ``.geomm`` in the output, which must be a local folder then."""
    dry_run: bool = False
    """Say what would be done, and write nothing."""
    since: str | None = None
    """Only imagery from this date on, or of so many days before now, such as ``7d``."""
    backfill: str | None = None
    """Only imagery of this interval ``start/end``."""
    limit: int | None = None
    """Units that are worked on at most; the others wait for the next run."""
    max_failures: int = 100
    """Units that may fail in this run before it stops."""
    attempts: int = 4
    """Tries of a unit that meets trouble that may pass."""
    delay: float = 1.0
    """Bound of the first delay before another try, in seconds."""
    grace: float = 30.0
    """Seconds that units get to finish when the run is told to stop."""
    device: str = "cpu"
    """Torch device."""
    memory_gb: float | None = None
    """Address space that a worker process may use; None for no limit."""
    metrics: str | Path | None = None
    """File for a metrics collector."""

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.scheduler not in SCHEDULERS and "://" not in self.scheduler:
            raise ConfigError(
                f"unknown scheduler {self.scheduler!r}", fix="threads, local, or an address such as tcp://host:8786"
            )
        for name in ("workers", "attempts", "limit", "max_failures"):
            value = getattr(self, name)
            if value is not None:
                check_whole({name: value}, least=int(name != "max_failures"), fix=f"write {name}=4")
        if self.since is not None and self.backfill is not None:
            raise ConfigError("since and backfill exclude each other", fix="give the interval start/end as backfill")

    def _check_kinds(self) -> None:
        """Refuse what is of another kind, before a run fails by it after its work.

        Raises:
            ConfigError: the option, and how it is written.
        """
        for names, kinds, what, example in _KINDS:
            for name in names:
                value = getattr(self, name)
                if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
                    raise ConfigError(
                        f"{name} is no {what}", where=f"{name}={value!r}"[:80], fix=f"write {name}={example}"
                    )
        for name in ("state", "metrics"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))

    def interval(self, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
        """Return earliest and latest time of the imagery, UTC; None is open.

        Raises:
            ConfigError: a date that cannot be understood.
        """
        if self.since is None and self.backfill is None:
            return None, None
        days = re.fullmatch(r"(\d+)d", self.since or "")
        try:
            if days:
                return now - dt.timedelta(days=int(days[1])), None
            return parse_interval(self.backfill or f"{self.since}/..")
        except (CatalogError, OverflowError) as error:
            raise ConfigError(
                "the time cannot be understood",
                where=f"{self.since or self.backfill}",
                fix="--since 2024-05-31 or 7d, --backfill 2023-01-01/2023-12-31",
            ) from error

    @property
    def threads(self) -> int:
        """Threads of a model: always those of the machine, as the last digits depend on them."""
        given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # OpenMP takes one for every level
        return (int(given) if given.isdecimal() else 0) or len(os.sched_getaffinity(0))
