"""One line of the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    name: str
    """What was looked at."""
    status: Status
    """``fail`` makes the command end with status 1; a ``note`` is something optional that is missing, or scarce."""
    text: str
    """What was found."""
    fix: str = ""
    """What to do about it; empty where nothing is to be done."""
