"""What to do next, by the code of a reason (:mod:`geomm.explanations`), by the state of a unit, by the exit code."""

from __future__ import annotations

from dataclasses import dataclass

from geomm.batch.record import State
from geomm.explanations import EXPLANATIONS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an exit code means."""

    tone: str
    """How it is shown: good, wary, bad or idle."""
    words: str
    """What it means."""


OUTCOMES = {
    0: Outcome("good", "everything is done"),
    1: Outcome("bad", "internal error"),
    2: Outcome("bad", "the recipe or the command cannot be used"),
    3: Outcome("wary", "finished; some units failed or were put aside"),
    4: Outcome("bad", "stopped: too many failures"),
    75: Outcome("idle", "another run holds the output"),
    130: Outcome("idle", "interrupted; what was begun is finished or dropped"),
    143: Outcome("idle", "told to stop; what was begun is finished or dropped"),
}

_BY_STATE: dict[State, str] = {
    "DONE": "Nothing.",
    "SKIPPED": "Nothing: there is nothing to be made of it.",
    "QUARANTINED": "Remedy what the message says, then try again; until then it is not tried.",
    "FAILED": "Try again; if it fails in the same way, remedy what the message says.",
    "ABORTED": "Run the same command again: it was stopped while at work.",
    "PENDING": "Run the same command again: it was not begun.",
}


def outcome_of(exit_code: int) -> Outcome:
    """Return what an exit code means."""
    return OUTCOMES.get(exit_code, Outcome("bad", "unknown exit code"))


def next_step(state: State, reason: str) -> str:
    """Return what to do about units, as text.

    Args:
        state: of the units.
        reason: code, with or without the name of the program.
    """
    told = EXPLANATIONS.get(reason.removeprefix("GEOMM-")) if state in ("QUARANTINED", "FAILED") else None
    return told.advice if told else _BY_STATE[state]
