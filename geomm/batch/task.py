"""What goes to a worker and what comes back: both can be sent to another process or machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomm.archive import Manifest
from geomm.catalog import Scene
from geomm.config import Stage
from geomm.errors import GeommError
from geomm.ledger import Failure, Unit

type Told = Callable[[], None]
"""Called now and then by work in progress; raises :class:`Stopped` where it is to stop."""


class Stopped(GeommError, InterruptedError):  # noqa: N818 - nothing went wrong
    """The run was told to stop, and its time to finish is over."""

    code = "E901"


NOTHING = "nothing: the unit is skipped; if there should be something, look at `status` of its cube"
"""What to do about imagery without a valid pixel."""


class NothingThereError(GeommError, ValueError):
    """Imagery without a single valid pixel: there is nothing to make of it."""

    code = "E902"


@dataclass(frozen=True, slots=True)
class Task:
    """A unit, with all that a worker must know."""

    unit: Unit
    """What is to be made."""
    stage: Stage
    """How."""
    scenes: tuple[Scene, ...]
    """Of what, in the order of the unit's items."""
    folder: Path
    """Where its files go, aside from the output; what an earlier try left there is used again."""
    root: Path
    """Folder that relative paths of the recipe start from."""
    model: str = ""
    """Model package, where the stage wants one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Device and threads, and what else a stage needs: folders of an index or of chip stores."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task."""

    state: str
    """``DONE``, ``SKIPPED``, ``FAILED``, ``ABORTED``, or ``RETURNED`` by a process that was gone before it began."""
    made: Path | None = None
    """Folder of the files to publish."""
    manifest: Manifest | None = None
    """What they are."""
    reason: str = ""
    """Why there was nothing to make."""
    failure: Failure | None = None
    """Why it failed."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Spent on ``read``, ``model``, ``write`` and in all."""
