"""The style sheet of a gallery: light and dark, from 360 pixels upwards, and on paper."""

from __future__ import annotations

STYLE = """
:root{--paper:#f5f6f8;--card:#fff;--ink:#1a1f27;--soft:#5b6675;--line:#e1e5ea;--accent:#0b62a8;--on:#fff;
--mark:#fff3d6;--markink:#7a5200}
@media (prefers-color-scheme:dark){:root{--paper:#13161b;--card:#1d2128;--ink:#e8ebef;--soft:#9aa5b3;--line:#30363f;
--accent:#6cb6ff;--on:#10151c;--mark:#3d3218;--markink:#f2cf85}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0 auto;max-width:78rem;
padding:1.75rem 1.25rem;color:var(--ink);background:var(--paper);-webkit-text-size-adjust:100%}
header{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,30rem);gap:2rem;align-items:start;
margin-bottom:1.5rem}
h1{font-size:1.9rem;line-height:1.2;margin:.1rem 0 .8rem;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
.kicker{margin:0;color:var(--accent);font-weight:600;font-size:.8rem;letter-spacing:.04em;text-transform:uppercase}
.facts{margin:0 0 1rem;display:flex;flex-wrap:wrap;gap:.4rem}
.facts span{background:var(--card);border:1px solid var(--line);border-radius:99px;padding:.1rem .7rem;
font-size:.87rem}
.notes{margin:0 0 1.2rem;padding:0 0 0 .9rem;border-left:3px solid var(--line);list-style:none;color:var(--soft);
font-size:.87rem;overflow-wrap:anywhere}
figure{margin:0}
figcaption{color:var(--soft);font-size:.8rem;margin-top:.35rem}
.legend{max-width:26rem}
.bar{height:.75rem;border-radius:3px}
.ends{display:flex;justify-content:space-between;font-size:.8rem;font-variant-numeric:tabular-nums;margin-top:.15rem}
.map img{display:block;width:100%;border:1px solid var(--line);border-radius:8px}
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
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:.15rem .9rem;margin:0;font-size:.87rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
dd span{display:block}
a{color:var(--accent)}
.none{font-size:1.1rem;padding:2rem;text-align:center;border:1px dashed var(--line);border-radius:10px}
footer{color:var(--soft);font-size:.8rem;margin-top:1.75rem}
@media (max-width:60rem){header{grid-template-columns:minmax(0,1fr);gap:1.2rem}.map{max-width:40rem}}
@media (max-width:30rem){body{padding:1.1rem .8rem}h1{font-size:1.45rem}.card{padding:.8rem}}
@media print{body{background:#fff;max-width:none}.cards{grid-template-columns:1fr 1fr}}
"""
