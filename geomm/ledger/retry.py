"""Which failures may pass by themselves, and when to try again: exponential back-off with full jitter, and a budget.

Full jitter as in M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: a delay is uniform between
nothing and the bound, so that units that failed together do not come back together.
"""

from __future__ import annotations

import errno
import random
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from geomm.errors import GeommError

WORKER_LOST = "WORKER_LOST"
"""Code of a failure whose process was gone without a word: killed, out of memory, crashed."""

_PASSING = frozenset({
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EPIPE, errno.EHOSTUNREACH,
    errno.ENETUNREACH, errno.ESTALE,
})  # fmt: skip

_OUTPUT = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM})
"""What only writing meets here: trouble with sources is a :class:`geomm.errors.ReadError` before it comes so far."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a unit did not succeed."""

    code: str
    """Of the error: ``E304`` and the like, ``WORKER_LOST``, or the type of an error that geomm does not know."""
    message: str
    """For people."""
    transient: bool = False
    """Whether the same may succeed later."""
    item: str = ""
    """Item that is to blame."""
    asset: str = ""
    """Asset that is to blame."""
    window: str = ""
    """Rows and columns that are to blame."""
    after: float | None = None
    """Seconds that the server asked to be left alone for."""
    output: bool = False
    """Whether the output cannot be written, so that no other unit would succeed either."""


def failure_of(error: BaseException) -> Failure:
    """Describe an error.

    What geomm raises says itself whether it may pass. Of other errors, only those of the network may; what nobody
    expected is kept with its place in the code.
    """
    if isinstance(error, GeommError):
        about = error.about
        return Failure(
            error.code,
            str(error),
            error.transient,
            about.get("item", ""),
            about.get("asset", ""),
            about.get("window", ""),
            after=getattr(error, "retry_after", None),
            output=error.code == "E601",
        )
    passing = isinstance(error, (TimeoutError, ConnectionError)) or (
        isinstance(error, OSError) and error.errno in _PASSING
    )
    full = isinstance(error, OSError) and error.errno in _OUTPUT
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return Failure(type(error).__name__, f"{type(error).__name__}: {error}{place}", passing, output=full)


@dataclass(slots=True)
class Retries:
    """Decides whether and when a unit is tried again.

    A run that keeps failing stops asking: all its units together have a budget.
    """

    attempts: int = 4
    """Tries of a unit within a run."""
    base: float = 1.0
    """Bound of the first delay in seconds; it doubles with every further one."""
    cap: float = 120.0
    """Greatest bound."""
    budget: int = 50
    """Retries of all units of a run."""
    used: int = 0
    """Retries so far."""
    dice: random.Random = field(default_factory=random.Random)
    """Source of the jitter."""

    def delay(self, tried: int, failure: Failure) -> float | None:
        """Return after how many seconds to try again, and count it; None for never in this run.

        Args:
            tried: how often the unit was tried in this run, this time included.
            failure: what came of it.
        """
        if not failure.transient or tried >= self.attempts or self.used >= self.budget:
            return None
        self.used += 1
        bound = min(self.cap, self.base * 2 ** (tried - 1))
        return max(self.dice.uniform(0.0, bound), min(failure.after or 0.0, self.cap))
