"""The style sheet of a run, upon that of a gallery: light and dark, from 360 pixels upwards, and on paper.

The colours of the states are told apart by people who see no red or no green as well.
"""

from __future__ import annotations

from geomm.pipeline.gallery.style import STYLE as GALLERY

_COLOURS = """
:root{--done:#1f77b4;--skipped:#9aa3ae;--quarantined:#d98200;--failed:#c62f45;--aborted:#7b52ab;--pending:#c9ced6;
--read:#1f77b4;--model:#d98200;--write:#3a9a6b;--other:#9aa3ae;--between:#e1e5ea;--sea:#fff;--good:#2c8a57}
@media (prefers-color-scheme:dark){:root{--done:#5aa9e6;--skipped:#6d7784;--quarantined:#f0a83c;--failed:#f2667b;
--aborted:#b392e0;--pending:#454d59;--read:#5aa9e6;--model:#f0a83c;--write:#5fc596;--other:#6d7784;--between:#30363f;
--sea:#1d2128;--good:#5fc596}}
"""

_STATES = "".join(
    f".dot.{s},.bar .{s}{{background:var(--{s.lower()})}}.badge.{s}{{--c:var(--{s.lower()})}}"
    f".map .{s}{{--c:var(--{s.lower()})}}"
    for s in ("DONE", "SKIPPED", "QUARANTINED", "FAILED", "ABORTED", "PENDING")
)

_PARTS = "".join(f".t-{p}{{background:var(--{p})}}" for p in ("read", "model", "write", "other", "between"))

_PAGE = """
section{margin-top:2.2rem}
h2{font-size:1.2rem;margin:0 0 .7rem;font-weight:650}
h3{font-size:1rem;margin:1.3rem 0 .5rem;font-weight:600}
.lead{margin:0 0 1rem;color:var(--soft);overflow-wrap:anywhere}
.outcome{border-left:4px solid var(--t);background:var(--card);border-radius:0 8px 8px 0;padding:.7rem 1rem;
margin:0 0 1.2rem;overflow-wrap:anywhere}
.outcome b{display:block}.outcome small{color:var(--soft)}
.good{--t:var(--good)}.wary{--t:var(--quarantined)}.bad{--t:var(--failed)}.idle{--t:var(--skipped)}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.45rem .9rem;min-width:6rem}
.tile b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span,.soft,small{color:var(--soft);font-size:.82rem}
.dot{display:inline-block;width:.68rem;height:.68rem;border-radius:2px;margin-right:.4rem}
.bar{display:flex;height:.75rem;border-radius:4px;overflow:hidden;background:var(--line);margin:.9rem 0 .5rem}
.bar i{display:block;min-width:2px}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:0 0 .8rem;font-size:.87rem;max-width:none}
.map svg{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:8px}
.map figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1rem}
.map path{stroke:var(--c);fill:var(--c);fill-opacity:.3;stroke-width:1.2;vector-effect:non-scaling-stroke}
.map .FAILED,.map .QUARANTINED{fill-opacity:.55;stroke-width:1.8}
.map .grid{stroke:var(--line);fill:none}.sea{fill:var(--sea)}
.map text{font-size:14px;fill:var(--soft);stroke:var(--sea);stroke-width:3px;paint-order:stroke}
table{border-collapse:collapse;width:100%;font-size:.87rem;margin-top:.9rem}
th{white-space:nowrap;font-weight:600;color:var(--soft);text-align:left;border-bottom:1px solid var(--line)}
td,th{padding:.45rem .7rem .45rem 0;vertical-align:top}
td{border-bottom:1px solid var(--line);overflow-wrap:anywhere;unicode-bidi:isolate}
.n{text-align:right;padding:.45rem 0 .45rem .7rem;font-variant-numeric:tabular-nums;white-space:nowrap}
.where span{display:block}.where em{color:var(--soft);font-style:normal}
.where .at{display:grid;grid-template-columns:4rem minmax(0,1fr)}
.badge{color:var(--ink);border:1px solid var(--c);background:color-mix(in srgb,var(--c) 18%,transparent);
border-radius:99px;padding:.02rem .55rem;font-size:.8rem;white-space:nowrap}
code{font:.92em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;unicode-bidi:isolate}
.hash{display:inline-block;max-width:8ch;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;vertical-align:bottom;
user-select:all;-webkit-user-select:all;color:var(--soft);cursor:copy}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;margin:.3rem 0 1rem;
white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;-webkit-user-select:all}
section p{margin:.3rem 0}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.9rem}
.thumbs img{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--card);
border:1px solid var(--line);
border-radius:6px;image-rendering:pixelated}
.thumbs figcaption{overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--accent);font-weight:600}
@media (max-width:47rem){
.map text{font-size:19px}
thead{display:none}tr{display:block;border-bottom:1px solid var(--line);padding:.55rem 0}
td,td.n{display:grid;grid-template-columns:7.2rem minmax(0,1fr);gap:.6rem;border:0;padding:.12rem 0;text-align:left;
white-space:normal}
td::before{content:attr(data-name);color:var(--soft)}
.thumbs{grid-template-columns:repeat(auto-fill,minmax(6.3rem,1fr))}.tile{min-width:5.2rem;padding:.4rem .7rem}}
@media print{details:not([open])>*{display:none}.bar i,.dot,.badge{print-color-adjust:exact}}
"""

STYLE = GALLERY + _COLOURS + _STATES + _PARTS + _PAGE
