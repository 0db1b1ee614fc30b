"""A unit of work: some items, one model, one configuration, and what has become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_args

State = Literal["PENDING", "CLAIMED", "DONE", "SKIPPED", "QUARANTINED", "FAILED", "ABORTED"]
"""``PENDING`` waits; ``CLAIMED`` is being worked on; ``DONE`` is published; ``SKIPPED`` holds nothing to map;
``QUARANTINED`` cannot succeed as it is; ``FAILED`` met trouble that may pass, and is tried again by the next run;
``ABORTED`` was stopped in the middle, and is tried again too."""

STATES: tuple[State, ...] = get_args(State)
OPEN: tuple[State, ...] = ("PENDING", "CLAIMED", "FAILED", "ABORTED")
"""States of units that a run works on."""
KEPT: tuple[State, ...] = ("DONE", "SKIPPED")
"""States of units that are published."""


class Part(NamedTuple):
    """An item that goes into a unit."""

    id: str
    """Of the item."""
    sensor: str
    """In the table of sensors."""
    fingerprint: str
    """Hash of all that the item says."""
    collection: str = ""
    """Of the item, or empty."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work."""

    stage: str
    """Name of the stage that it belongs to."""
    id: str
    """Hash of all that decides what comes out: items, model, configuration, version of the code."""
    name: str
    """For people: of its scene, or of its tile and time."""
    place: str
    """Folder of its files, relative to the output; it follows from the id."""
    time: str = ""
    """Of the imagery, ISO 8601, UTC."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west is greater than east across the antimeridian."""
    items: tuple[Part, ...] = ()
    """Everything that goes in."""
    note: Mapping[str, Any] = field(default_factory=dict)
    """What else the worker must know, JSON types."""
    state: State = "PENDING"
    """What has become of it."""
    attempts: int = 0
    """How often it was tried in vain."""
    deaths: int = 0
    """How often the process that worked on it was gone without a word."""
    code: str = ""
    """Of the error, or the reason why it was skipped."""
    message: str = ""
    """The error, for people."""
    item: str = ""
    """Item that is to blame."""
    asset: str = ""
    """Asset that is to blame."""
    window: str = ""
    """Rows and columns that are to blame."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of reading, of the model, of writing, and in all."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """See :class:`geomm.archive.Manifest`; of published units."""
    run: str = ""
    """Run that worked on it last."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Unit:
        """Read a row of the ledger."""
        values = {f.name: row[f.name] for f in fields(cls)}
        for name in ("note", "seconds", "manifest"):
            values[name] = json.loads(values[name])
        box = json.loads(values["bbox"])
        values["bbox"] = None if box is None else tuple(box)
        values["items"] = tuple(Part(*i) for i in json.loads(values["items"]))
        return cls(**values)

    def to_row(self) -> dict[str, Any]:
        """Return the columns of the ledger."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("note", "seconds", "manifest", "bbox", "items"):
            value = row[name]
            row[name] = json.dumps(dict(value) if isinstance(value, Mapping) else value, sort_keys=True)
        return row
