"""The style sheet that all pages share: light and dark, from 360 pixels upwards, and on paper.

Text stands out from what is behind it by a contrast of 4.5 at least (WCAG AA). Colours that tell things apart do so for
people who see no red or no green as well, and never without a word beside them.
"""

from __future__ import annotations

_COLOURS = """
:root{color-scheme:light dark;--paper:#f5f6f8;--card:#fff;--ink:#1a1f27;--soft:#5b6675;--line:#e1e5ea;--accent:#0b62a8;
--on:#fff;--mark:#fff3d6;--markink:#7a5200;--blue:#1f77b4;--amber:#d98200;--green:#2c8a57;--red:#c62f45;
--violet:#7b52ab;--grey:#9aa3ae;--pale:#c9ced6;--sea:#fff}
@media (prefers-color-scheme:dark){:root{--paper:#13161b;--card:#1d2128;--ink:#e8ebef;--soft:#9aa5b3;--line:#30363f;
--accent:#6cb6ff;--on:#10151c;--mark:#3d3218;--markink:#f2cf85;--blue:#5aa9e6;--amber:#f0a83c;--green:#5fc596;
--red:#f2667b;--violet:#b392e0;--grey:#6d7784;--pale:#454d59;--sea:#1d2128}}
"""

_TEXT = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0 auto;max-width:78rem;
padding:1.75rem 1.25rem;color:var(--ink);background:var(--paper);-webkit-text-size-adjust:100%}
header{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,30rem);gap:2rem;align-items:start;
margin-bottom:1.5rem}
header.alone{grid-template-columns:minmax(0,1fr)}
h1{font-size:1.9rem;line-height:1.2;margin:.1rem 0 .8rem;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
section{margin-top:2.2rem}
section p{margin:.3rem 0 .6rem;max-width:62rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 .7rem;font-weight:650;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.3rem 0 .5rem;font-weight:600;overflow-wrap:anywhere}
a{color:var(--accent)}
.kicker{margin:0;color:var(--accent);font-weight:600;font-size:.8rem;letter-spacing:.04em;text-transform:uppercase}
.lead{margin:0 0 1rem;color:var(--soft);overflow-wrap:anywhere}
.soft,small{color:var(--soft);font-size:.82rem}
footer{color:var(--soft);font-size:.8rem;margin-top:1.75rem;overflow-wrap:anywhere}
figure{margin:0}
figcaption{color:var(--soft);font-size:.8rem;margin-top:.35rem}
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:.15rem .9rem;margin:0;font-size:.87rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
dd span{display:block}
summary{cursor:pointer;color:var(--accent);font-weight:600}
code{font:.92em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;unicode-bidi:isolate;overflow-wrap:anywhere}
.hash{display:inline-block;max-width:8ch;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;vertical-align:bottom;
user-select:all;-webkit-user-select:all;color:var(--soft);cursor:copy}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;margin:.3rem 0 1rem;
white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;-webkit-user-select:all}
"""

_PARTS = """
.facts{margin:0 0 1rem;display:flex;flex-wrap:wrap;gap:.4rem}
.facts span{background:var(--card);border:1px solid var(--line);border-radius:99px;padding:.1rem .7rem;
font-size:.87rem;min-width:0;overflow-wrap:anywhere}
.outcome{border-left:4px solid var(--t);background:var(--card);border-radius:0 8px 8px 0;padding:.7rem 1rem;
margin:0 0 1.2rem;overflow-wrap:anywhere}
.outcome b{display:block}.outcome p{margin:0}.outcome p+p{margin-top:.5rem}.outcome small{color:var(--soft)}
.good{--t:var(--green)}.wary{--t:var(--amber)}.bad{--t:var(--red)}.idle{--t:var(--grey)}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin-bottom:.9rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.45rem .9rem;min-width:6rem}
.tile b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.82rem}
.dot{display:inline-block;width:.68rem;height:.68rem;border-radius:2px;margin-right:.4rem}
.bar{display:flex;height:.75rem;border-radius:4px;overflow:hidden;background:var(--line);margin:.9rem 0 .5rem}
.bar i{display:block;min-width:2px}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:0 0 .8rem;font-size:.87rem;max-width:none}
.map svg{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:8px}
.map img{display:block;width:100%;border:1px solid var(--line);border-radius:8px}
.map figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1rem}
.map path{stroke:var(--c);fill:var(--c);fill-opacity:.3;stroke-width:1.2;vector-effect:non-scaling-stroke}
.map .grid{stroke:var(--line);fill:none}.sea{fill:var(--sea)}
.map text{font-size:14px;fill:var(--soft);stroke:var(--sea);stroke-width:3px;paint-order:stroke}
.wide{overflow-x:auto}.few{width:auto;min-width:min(100%,34rem)}
table{border-collapse:collapse;width:100%;font-size:.87rem;margin:.9rem 0}
th{font-weight:600;color:var(--soft);text-align:left;vertical-align:bottom;border-bottom:1px solid var(--line)}
td,th{padding:.45rem .7rem .45rem 0;vertical-align:top}
td{border-bottom:1px solid var(--line);overflow-wrap:anywhere;unicode-bidi:isolate}
.n{text-align:right;padding:.45rem 0 .45rem .7rem;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}td:first-child{min-width:8rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1rem;align-items:start}
.chart{max-width:100%}.chart img{display:block;width:100%;border:1px solid var(--line);border-radius:8px}
.looks{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:1rem;align-items:start}
.looks img{display:block;width:100%;border:1px solid var(--line);border-radius:6px;background:var(--card);
image-rendering:pixelated}
section .looks .map text{font-size:28px}.looks b{display:block;color:var(--ink);font-weight:600}
"""

_SIZES = """
@media (max-width:60rem){header{grid-template-columns:minmax(0,1fr);gap:1.2rem}.map{max-width:40rem}}
@media (max-width:47rem){
.map text{font-size:19px}
thead{display:none}tr{display:block;border-bottom:1px solid var(--line);padding:.55rem 0}
td,td.n,td:first-child{min-width:0;display:grid;grid-template-columns:7.2rem minmax(0,1fr);
gap:.6rem;border:0;padding:.12rem 0;text-align:left;
white-space:normal}
td::before{content:attr(data-name);color:var(--soft)}
.tile{min-width:5.2rem;padding:.4rem .7rem}.looks{grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr))}}
@media (max-width:30rem){body{padding:1.1rem .8rem}h1{font-size:1.45rem}}
@media print{body{background:#fff;max-width:none}details:not([open])>*{display:none}
.bar i,.dot,.badge{print-color-adjust:exact}.looks figure,tr,.chart{break-inside:avoid}}
"""

STYLE = _COLOURS + _TEXT + _PARTS + _SIZES
