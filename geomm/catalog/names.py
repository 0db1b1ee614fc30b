"""File names from texts that others wrote: item ids, asset keys, names of bands and layers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 128
"""Bytes of a name in UTF-8: room for a suffix and for what is written aside, in the 255 of common file systems."""
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{d}{k}" for d in ("com", "lpt") for k in "0123456789¹²³"
}


def safe_name(text: str) -> str:
    """Return a text as the name of one file or folder, on any system.

    A text that is such a name already stays as it is. Any other is changed and gets a piece of its hash, so that
    different texts stay different.

    >>> safe_name("S2A_32TMT_20240601"), safe_name("../../etc/passwd")
    ('S2A_32TMT_20240601', 'etc-passwd-3754d6cb')
    """
    kept = unicodedata.normalize("NFC", str(text))
    kept = "".join("-" if unicodedata.category(c)[0] == "C" else c for c in _FORBIDDEN.sub("-", kept))
    kept = kept.lstrip(".-~ ").rstrip(". ")
    if kept.partition(".")[0].rstrip().casefold() in _RESERVED:
        kept = f"_{kept}"
    if kept and kept == text and len(kept.encode()) <= LONGEST:
        return kept
    return _marked(kept or "unnamed", text)


def safe_names(texts: Iterable[str]) -> list[str]:
    """Return a name for every text, no two of which are the same where upper and lower case are.

    Args:
        texts: in any order: which names a group of equals gets does not depend on it, unless a text occurs twice.
    """
    wanted = list(texts)
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(wanted):
        groups.setdefault(_folded(safe_name(text)), []).append(text)
    names = {t: safe_name(t) for t in wanted}
    for group in groups.values():
        names |= {text: _marked(safe_name(text), text) for text in sorted(group)[1:]}
    taken: set[str] = set()
    result = []
    for text in wanted:
        name, again = names[text], 0
        while _folded(name) in taken:
            again += 1
            name = _marked(names[text], f"{text}\0{again}")
        taken.add(_folded(name))
        result.append(name)
    return result


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _marked(name: str, text: str) -> str:
    """Cut a name where it is too long, and add a piece of the hash of a text."""
    mark = hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    cut = name.encode()[: LONGEST - len(mark) - 1].decode("utf-8", "ignore").rstrip(". ")
    return f"{cut}-{mark}"
