"""The style sheet of a gallery, upon that of all pages: its cards."""

from __future__ import annotations

from geomm.pages.style import STYLE as BASE

_PAGE = """
.notes{margin:0 0 1.2rem;padding:0 0 0 .9rem;border-left:3px solid var(--line);list-style:none;color:var(--soft);
font-size:.87rem;overflow-wrap:anywhere}
.heat{max-width:26rem}
.ramp{height:.75rem;border-radius:3px}
.ends{display:flex;justify-content:space-between;font-size:.8rem;font-variant-numeric:tabular-nums;margin-top:.15rem}
.cards{list-style:none;margin:0;padding:0;display:grid;
grid-template-columns:repeat(auto-fill,minmax(min(100%,33rem),1fr));gap:1.25rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem;break-inside:avoid;
min-width:0}
.top{display:flex;align-items:center;justify-content:space-between;margin-bottom:.7rem}
.rank{background:var(--accent);color:var(--on);font-weight:700;border-radius:99px;min-width:1.8rem;height:1.8rem;
padding:0 .5rem;display:grid;place-items:center;font-variant-numeric:tabular-nums}
.score{color:var(--soft);font-size:.87rem}
.score b{color:var(--ink);font-size:1.1rem;font-variant-numeric:tabular-nums}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.5rem}
.pair img{display:block;width:100%;border-radius:5px;background:#808080;image-rendering:pixelated}
blockquote{margin:.8rem 0;font-size:1rem;overflow-wrap:anywhere}
.no{color:var(--soft);margin:.8rem 0;font-style:italic}
abbr{background:var(--mark);color:var(--markink);border-radius:4px;padding:.05rem .4rem;font-size:.78rem;
font-weight:600;text-decoration:none;cursor:help;margin-right:.25rem}
.none{font-size:1.1rem;padding:2rem;text-align:center;border:1px dashed var(--line);border-radius:10px}
@media (max-width:30rem){.card{padding:.8rem}}
@media print{.cards{grid-template-columns:1fr 1fr}}
"""

STYLE = BASE + _PAGE
