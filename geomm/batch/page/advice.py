"""What to do next, by the code of a reason, by the state of a unit, by the exit code of a run."""

from __future__ import annotations

from dataclasses import dataclass

from geomm.batch.record import State


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

_BY_CODE = {
    "E000": "This is a fault of geomm: report it with run.json and the log.",
    "E101": "Correct the name in the recipe; the message lists those that there are.",
    "E102": "Register the sensor, fusion or task once, or under another name.",
    "E201": "Correct the item in its catalog, or leave it out of the search; then try again.",
    "E202": "Find items that have the band, or take a model that does not need it.",
    "E203": "The catalog did not answer: try again later.",
    "E301": "Look at CRS and extent of the item with gdalinfo; name crs and resolution in the recipe.",
    "E302": "Look at the file with gdalinfo; have it delivered again if it is damaged, then try again.",
    "E303": "State the unit of the band in the catalog, or take a model for the unit that it has.",
    "E304": "The source did not answer, or not in full: try again later; if it stays, ask its operator.",
    "E305": "Refused on purpose. Trust the address only if you know who wrote it.",
    "E306": "The file is not what its catalog says: have it delivered again, or correct the checksum, then try again.",
    "E307": "Refused for its size. If it really is that large, raise the limit and try again.",
    "E401": "Choose smaller blocks or another buffer for the split.",
    "E501": "Take a model that was trained on such imagery; the message says what does not fit.",
    "E502": "Check the model package with geomm verify and copy it again.",
    "E503": "The model was replaced during the run: the same command takes the new one.",
    "E601": "Free space on the disk, or correct the permissions of the output; then try again.",
    "E602": "Find out what changed without changing the unit; remove the older one if it is bad.",
    "E603": "The output did not answer: try again later.",
    "E701": "Correct the field of the recipe that the message names.",
    "E702": "Install the package that the message names.",
    "E801": "Wait for the other run: geomm runs list says how far it is.",
    "E802": "Remedy what most of the messages say, then try again; more may fail with --max-failures.",
    "E901": "Run the same command again: it was stopped while at work.",
    "E902": "Nothing: there is nothing to be made of it.",
    "WORKER_LOST": "See whether memory was short (fewer --workers); then try the item by itself.",
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
    told = _BY_CODE.get(reason.removeprefix("GEOMM-")) if state in ("QUARANTINED", "FAILED") else None
    return told or _BY_STATE[state]
