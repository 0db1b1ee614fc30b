"""The style sheet of a run, upon that of all pages: the colours of the states of units and of where the time went."""

from __future__ import annotations

from geomm.pages.style import STYLE as BASE

_STATES = {
    "DONE": "blue",
    "SKIPPED": "grey",
    "QUARANTINED": "amber",
    "FAILED": "red",
    "ABORTED": "violet",
    "PENDING": "pale",
}
_SPENT = {"read": "blue", "model": "amber", "write": "green", "other": "grey", "between": "line"}

_COLOURS = "".join(
    f".dot.{s},.bar .{s}{{background:var(--{c})}}.badge.{s}{{--c:var(--{c})}}.map .{s}{{--c:var(--{c})}}"
    for s, c in _STATES.items()
) + "".join(f".t-{p}{{background:var(--{c})}}" for p, c in _SPENT.items())

_PAGE = """
.map .FAILED,.map .QUARANTINED{fill-opacity:.55;stroke-width:1.8}
.where span{display:block}.where em{color:var(--soft);font-style:normal}
.where .at{display:grid;grid-template-columns:4rem minmax(0,1fr)}
.badge{color:var(--ink);border:1px solid var(--c);background:color-mix(in srgb,var(--c) 18%,transparent);
border-radius:99px;padding:.02rem .55rem;font-size:.8rem;white-space:nowrap}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.9rem}
.thumbs img{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--card);
border:1px solid var(--line);border-radius:6px;image-rendering:pixelated}
.thumbs figcaption{overflow-wrap:anywhere}
@media (max-width:47rem){.thumbs{grid-template-columns:repeat(auto-fill,minmax(6.3rem,1fr))}}
"""

STYLE = BASE + _COLOURS + _PAGE
