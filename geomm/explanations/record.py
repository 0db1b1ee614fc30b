"""What is told about one code."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

WIDTH = 100
"""Characters of a line of an explanation."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A code of an error in plain words; ``str()`` of it is what ``geomm explain`` prints."""

    code: str
    """Such as ``E301``."""
    name: str
    """Class of the error, or the state that a batch calls so."""
    meaning: str
    """What it means, in a sentence."""
    causes: tuple[str, ...]
    """What usually brings it about, the most frequent first."""
    remedies: tuple[str, ...]
    """What to do, the first thing first; commands stand between backticks."""
    advice: str
    """The same in one line, for the page of a run."""
    also: tuple[str, ...] = ()
    """Built-in exceptions that it also is, by which it can be caught."""
    retry: bool = False
    """Whether the same may succeed a little later, without any change."""

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [f"GEOMM-{self.code}  {self.name}", "", *textwrap.wrap(self.meaning, WIDTH)]
        for title, points in (("Usual causes", self.causes), ("What to do", self.remedies)):
            lines += ["", f"{title}:"]
            for point in points:
                lines += _wrapped(point)
        lines += ["", f"In Python: {self._caught()}", f"Try again:  {self._again()}"]
        return "\n".join(lines)

    def _caught(self) -> str:
        if not self.name.endswith("Error"):
            return "a state of a unit of a batch, not an exception"
        return "caught as " + " or ".join(dict.fromkeys((self.name, "GeommError", *self.also)))

    def _again(self) -> str:
        if self.retry:
            return "helps: the cause may pass by itself; a batch does so with growing delays"
        return "does not help before something was changed"


def _wrapped(point: str) -> list[str]:
    """Break a point of a list into lines, but never inside a command."""
    kept = re.sub("`[^`]*`", lambda m: m[0].replace(" ", "\0"), point)
    lines = textwrap.wrap(kept, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]
