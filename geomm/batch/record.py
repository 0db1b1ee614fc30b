"""What became of a run: one record of the whole, one row per unit of work; JSON and back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from geomm.errors import ConfigError
from geomm.types import BBox

State = Literal["DONE", "SKIPPED", "QUARANTINED", "FAILED", "ABORTED", "PENDING"]
STATES: tuple[State, ...] = get_args(State)
"""What a unit can be at the end of a run, from what is as it should be to what was not begun."""
TROUBLE: tuple[State, ...] = ("FAILED", "QUARANTINED")
"""Units that need a look."""

Part = Literal["read", "model", "write", "other"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What the time of a unit goes into."""

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One unit of work: one item, or one mosaic, of one stage."""

    __pydantic_config__ = _STRICT

    stage: str
    """Stage of the recipe."""
    unit: str
    """Identity: a hash of the item, the model, the settings and the code."""
    name: str
    """What people call it, the item's id for example; as the catalog has it, so not to be trusted."""
    state: State
    """What became of it."""
    time: str
    """When the imagery was taken, ISO 8601 in UTC; empty where unknown."""
    bbox: BBox | None
    """West, south, east, north in degrees, west > east across longitude 180; None where unknown or not on the globe."""
    code: str
    """Code of the reason, ``E302`` for example; empty where all is well."""
    message: str
    """The reason in words."""
    item: str
    """Item that is to blame; empty where none is."""
    asset: str
    """Asset of it."""
    window: str
    """Pixels of it, as text."""
    attempts: int
    """How often it was tried in this run."""
    seconds: Mapping[Part, float]
    """Seconds for each of :data:`PARTS`."""
    bytes: int
    """Bytes of what was published."""
    digest: str
    """SHA-256 of what was published; empty where nothing was."""
    path: str
    """Published item, relative to the output; empty where nothing was."""
    thumbnail: str
    """PNG, relative to the output; empty where there is none."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ConfigError(
                "a unit has a state that there is not",
                where=self.unit,
                why=f"{self.state!r}",
                fix=f"use one of {', '.join(STATES)}",
            )
        if unknown := sorted(set(self.seconds) - set(PARTS)):
            raise ConfigError(
                "time went into parts that there are not",
                where=self.unit,
                why=f"{unknown}",
                fix=f"name parts of {', '.join(PARTS)}",
            )
        if not all(math.isfinite(s) and s >= 0 for s in self.seconds.values()):
            raise ConfigError(
                "seconds are finite and not negative",
                where=self.unit,
                why=f"{dict(self.seconds)}",
                fix="measure with a monotonic clock, and leave out what was not measured",
            )
        # A catalog's box may be anything; that must not cost the report of everything else.
        object.__setattr__(self, "bbox", _on_the_globe(self.bbox))

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return math.fsum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class StageCount:
    """How many units of a stage came to what."""

    __pydantic_config__ = _STRICT

    stage: str
    """Stage of the recipe."""
    new: int
    """To be made in this run."""
    done: int
    """Made and published."""
    skipped: int
    """Left out for a reason that is no fault, such as imagery without data."""
    quarantined: int
    """Put aside: they would fail again."""
    failed: int
    """Failed; they may succeed when tried again."""
    present: int
    """Published before this run."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of ``geomm run`` over a catalog."""

    __pydantic_config__ = _STRICT

    run: str
    """Identity of the run."""
    name: str
    """Name of the recipe."""
    description: str
    """What the recipe is for."""
    command: str
    """Command that made this run."""
    retry: str
    """Command that tries again what failed; empty where there is none."""
    recipe_sha256: str
    """Hash of the recipe."""
    version: str
    """Version of geomm."""
    host: str
    """Machine that coordinated."""
    started: str
    """ISO 8601 with time zone."""
    finished: str
    """ISO 8601 with time zone."""
    exit_code: int
    """What the process returned."""
    outcome: str
    """What came of it, in a sentence."""
    stages: tuple[StageCount, ...]
    """In the order of the recipe."""
    retries: int
    """Attempts that were repeated, over all units."""
    units: tuple[UnitRow, ...]
    """Those of this run."""
    resident_mb: float
    """Most memory that was used, in megabytes."""

    def __post_init__(self) -> None:
        for field in ("started", "finished"):
            _moment(field, getattr(self, field))

    @property
    def began(self) -> dt.datetime:
        """When it started."""
        return _moment("started", self.started)

    @property
    def ended(self) -> dt.datetime:
        """When it finished."""
        return _moment("finished", self.finished)

    @property
    def wall(self) -> float:
        """Seconds from start to end; 0 where the clock was set back."""
        return max((self.ended - self.began).total_seconds(), 0.0)

    def count(self, stage: str | None = None) -> dict[State, int]:
        """Return how many units of a stage, or of all, are in each state."""
        found = Counter(u.state for u in self.units if stage in (None, u.stage))
        return {state: found[state] for state in STATES}

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        rows = [{n: getattr(u, n) for n in _UNIT} for u in self.units]
        units = [r | {"bbox": r["bbox"] and list(r["bbox"]), "seconds": dict(r["seconds"])} for r in rows]
        return about | {"stages": [dataclasses.asdict(s) for s in self.stages], "units": units}

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned, or what JSON made of it.

        Raises:
            ConfigError: fields are missing, unknown or of another type.
        """
        try:
            return TypeAdapter(cls).validate_json(json.dumps(about))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(
                "this is no record of a run", where=where, why=first["msg"], fix="give run.json as `geomm run` wrote it"
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigError(
                "this is no record of a run",
                why=str(error),
                fix="give run.json as `geomm run` wrote it; if it broke off, the next run writes a new one",
            ) from error


_UNIT = tuple(f.name for f in dataclasses.fields(UnitRow))


def _moment(field: str, text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            "a time is not ISO 8601", where=field, why=str(error), fix="write it as 2024-05-31T12:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise ConfigError("a time has no time zone", where=field, why=text, fix="write 2026-01-31T12:00:00Z")
    return moment


def _on_the_globe(box: Iterable[float] | None) -> BBox | None:
    """Return a box of degrees; None where it is none."""
    values = tuple(float(v) for v in box or ())
    if len(values) != 4 or not all(map(math.isfinite, values)):
        return None
    west, south, east, north = values
    inside = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90
    return (west, south, east, north) if inside else None
