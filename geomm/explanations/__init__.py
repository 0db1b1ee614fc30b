"""Every code of an error in plain words. Light: it imports nothing but the errors."""

from __future__ import annotations

import re

from geomm.errors import GeommError, UnknownNameError
from geomm.explanations.imagery import IMAGERY
from geomm.explanations.record import Explanation
from geomm.explanations.work import WORK

__all__ = ["EXPLANATIONS", "Explanation", "explain"]

EXPLANATIONS: dict[str, Explanation] = {one.code: one for one in (*IMAGERY, *WORK)}
"""Code to explanation, in the order of the codes."""

_CODE = re.compile(r"(?:geomm-)?(e[0-9]{3}|worker[_-]lost)", re.IGNORECASE)


def explain(code: str | GeommError) -> Explanation:
    """Explain an error.

    Args:
        code: such as ``E301`` or ``GEOMM-E301``, in upper or lower case; or the name of its class; or a whole message,
            which ends with its code; or the error itself.

    Returns:
        What it means, what usually brings it about and what to do; print it.

    Raises:
        UnknownNameError: there is no such code.

    >>> explain("geomm-e301").name
    'GridError'
    """
    text = code.code if isinstance(code, GeommError) else str(code).strip()
    found = _CODE.fullmatch(text) or re.search(r"\[GEOMM-(\w+)\]", text)
    key = found[1].upper().replace("-", "_") if found else text
    if key in EXPLANATIONS:
        return EXPLANATIONS[key]
    for one in EXPLANATIONS.values():
        if one.name.casefold() == text.casefold():
            return one
    known = [*EXPLANATIONS, *(one.name for one in EXPLANATIONS.values() if one.name.endswith("Error"))]
    error = UnknownNameError.of("code of an error", text, known)
    error.fix += "; `geomm explain` lists all codes"
    error.fix = error.fix.replace("?;", "? Else")
    raise error
