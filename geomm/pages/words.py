"""Data as text in a page: escaped, short, without characters that turn the direction of reading; figures as words."""

from __future__ import annotations

import unicodedata
from html import escape

LONG = 90
"""Characters of an identity that are shown."""
MESSAGE = 220
"""Characters of a message that are shown."""
_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of what is not seen but does something."""
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(value: object) -> str:
    """Return text on one line, without characters that steer a terminal or turn the direction of reading."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in str(value))
    return " ".join("".join(c for c in kept if c not in _TURNING).split())


def text(value: object, most: int = LONG) -> str:
    """Return data as HTML text on one line, at most so many characters."""
    words = plain(str(value)[: 4 * most])
    return escape(words if len(words) <= most else words[: most - 1] + "…")


def code(value: object, most: int = LONG) -> str:
    """Return data as HTML in the letters of code; a dash where there is none."""
    return f"<code>{text(value, most)}</code>" if value else "-"


def digest(value: str) -> str:
    """Return a hash as HTML of which the beginning is seen and the whole is copied; a dash where there is none."""
    return f'<code class="hash">{text(value, 128)}</code>' if value else "-"


def command(line: str) -> str:
    """Return a command as HTML, whole, as it would be typed."""
    return f"<pre><code>{escape(''.join(c for c in line if unicodedata.category(c) not in _STEERING))}</code></pre>"


def listing(lines: str) -> str:
    """Return several lines as HTML, whole, with their indentation."""
    kept = ("".join(c for c in line if unicodedata.category(c) not in _STEERING) for line in lines.splitlines())
    return f"<pre><code>{escape(chr(10).join(kept))}</code></pre>"


def duration(seconds: float) -> str:
    """Return a time span in words."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def share(part: float, whole: float) -> float:
    """Return a part in per cent, 0 where there is nothing."""
    return 100 * part / whole if whole > 0 else 0.0
