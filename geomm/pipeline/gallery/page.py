"""The page of a search: ranked cards with pictures and heat, and a map; one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from geomm._version import __version__
from geomm.charts import DARK, LIGHT
from geomm.errors import ConfigError, OutputError
from geomm.pages import facts, header, image, page, picture, plain
from geomm.pipeline.gallery.hits import Hit, read_hits, score_text
from geomm.pipeline.gallery.overview import overview
from geomm.pipeline.gallery.pictures import HeatScale, heat_colours, heated
from geomm.pipeline.gallery.style import STYLE
from geomm.whole import write_whole

_PNG = b"\x89PNG\r\n\x1a\n"


def write_gallery(
    path: str | Path,
    hits: Any,
    pictures: Sequence[bytes | None],
    heats: Sequence[NDArray[np.floating] | None],
    *,
    query: str,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page of a search; it appears whole, an older one is replaced.

    Args:
        path: of the HTML file.
        hits: see :func:`gallery_page`, as all that follows.
        pictures: a PNG for each, or None.
        heats: how much each part of the picture is like the words, or None.
        query: what was asked.
        notes: lines such as the filter that was used and the hash of the model.

    Returns:
        The path.

    Raises:
        ConfigError: not one picture and one heat per hit, a picture that is not a PNG, or another CRS.
        OutputError: the file cannot be written.
    """
    text = gallery_page(hits, pictures, heats, query=query, notes=notes)
    target = Path(path)
    try:
        write_whole(target, text.encode())
    except OSError as error:
        raise OutputError(
            "the gallery cannot be written",
            where=str(path),
            why=str(error),
            fix="name a file in a folder that you may write to",
        ) from error
    return target


def gallery_page(
    hits: Any,
    pictures: Sequence[bytes | None],
    heats: Sequence[NDArray[np.floating] | None],
    *,
    query: str,
    notes: Sequence[str] = (),
) -> str:
    """Return the page of a search as HTML that loads nothing and runs nothing.

    Args:
        hits: GeoDataFrame in EPSG:4326, best first, with any of the columns ``id, score, datetime, sensors, text,
            derived, items``; of ``items`` only addresses of the web, of files and relative ones become links.
        pictures: a PNG for each, or None.
        heats: how much each part of the picture is like the words, ``(rows, columns)``, or None; one scale for all.
        query: what was asked.
        notes: lines such as the filter that was used and the hash of the model.

    Raises:
        ConfigError: not one picture and one heat per hit, a picture that is not a PNG, or another CRS.
    """
    if not len(hits) == len(pictures) == len(heats):
        sizes = f"{len(hits)} hits, {len(pictures)} pictures, {len(heats)} heats"
        raise ConfigError(
            "every hit needs a picture and a heat, or None",
            why=sizes,
            fix="give lists as long as the hits, with None where there is none",
        )
    for k, data in enumerate(pictures):
        if data is not None and not data.startswith(_PNG):
            raise ConfigError(
                "a picture is not a PNG",
                where=f"picture {k}",
                why=f"it begins with {data[:8]!r}",
                fix="encode pictures as PNG first",
            )
    found, scale = read_hits(hits), HeatScale.of(heats)
    cards = [
        _card(hit, picture, None if heat is None or scale is None else heated(picture, np.asarray(heat), scale))
        for hit, picture, heat in zip(found, pictures, heats, strict=True)
    ]
    body = (
        f'<ol class="cards">{"".join(cards)}</ol>'
        if cards
        else '<p class="none">No hits. Nothing in the index passes the filter: try a larger place or a longer time.</p>'
    )
    return _page(plain(query), _head(found, scale, query, notes) + body)


def _page(title: str, body: str) -> str:
    footer = f"geomm {escape(__version__)}. Hits are what a model scores highest, not what is known to be there."
    return page(f"{escape(title)}: geomm", body, footer=footer, style=STYLE)


def _head(hits: Sequence[Hit], scale: HeatScale | None, query: str, notes: Sequence[str]) -> str:
    said = [f"{len(hits)} hit{'' if len(hits) == 1 else 's'}{', best first' if len(hits) > 1 else ''}"]
    scores = [h.score for h in hits if not math.isnan(h.score)]
    if scores:
        said.append(f"scores {score_text(max(scores))} to {score_text(min(scores))}")
    if days := sorted({h.time[:10] for h in hits if h.time}):
        said.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    if sensors := list(dict.fromkeys(s for h in hits for s in h.sensors)):
        said.append(", ".join(sensors))
    lines = "".join(f"<li>{escape(plain(n))}</li>" for n in notes)
    listed = f'<ul class="notes">{lines}</ul>' if lines else ""
    body = f"{facts(map(escape, said))}{listed}{_legend(scale)}"
    return header("Search by text", escape(plain(query)), body, beside=_map(hits))


def _legend(scale: HeatScale | None) -> str:
    """Return the bar of colours as they lie over a middle grey."""
    if scale is None:
        return ""
    colours = heat_colours(np.linspace(0, 1, 17), np.full(17, 0.5))
    stops = ",".join(f"rgb({','.join(str(round(255 * c)) for c in rgb)})" for rgb in colours.tolist())
    return (
        f'<figure class="heat"><div class="ramp" style="background:linear-gradient(90deg,{stops})"></div>'
        f'<div class="ends"><span>\u2264 {scale.low:.2g}</span><span>\u2265 {scale.high:.2g}</span></div>'
        "<figcaption>Heat: how like the words the model finds each part of the picture. One scale for all pictures; "
        "it does not prove what is there.</figcaption></figure>"
    )


def _map(hits: Sequence[Hit]) -> str:
    day, night = (overview(hits, theme) for theme in (LIGHT, DARK))
    if day is None or night is None:
        return ""
    unknown = sum(h.shape is None for h in hits)
    caption = "Where the hits lie, by rank" + (f"; {unknown} without a footprint" if unknown else "")
    return (
        f'<figure class="map">{picture(day, night, "Map of the footprints")}<figcaption>{caption}</figcaption></figure>'
    )


def _card(hit: Hit, view: bytes | None, hot: bytes | None) -> str:
    shown = [
        image(data, escape(f"{label}, hit {hit.rank}"))
        for label, data in (("Picture", view), ("Picture with heat", hot))
        if data is not None
    ]
    rows = [
        ("Time", escape(hit.time)),
        ("Sensors", escape(", ".join(hit.sensors))),
        ("Centre", escape(hit.place)),
        ("Chip", escape(hit.name)),
        ("Items", " ".join(f"<span>{_link(i)}</span>" for i in hit.items)),
    ]
    label = (
        '<abbr title="made by a program from other data, not written by a person">derived</abbr> '
        if hit.derived
        else ""
    )
    words = f"<blockquote>{label}{escape(hit.text)}</blockquote>" if hit.text else '<p class="no">No text is known.</p>'
    return (
        f'<li class="card" id="hit-{hit.rank}"><div class="top"><span class="rank">{hit.rank}</span>'
        f'<span class="score"><b>{score_text(hit.score)}</b> score</span></div>'
        f'<div class="pair">{"".join(shown) or "<p class=no>No picture.</p>"}</div>{words}'
        f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in rows if value)}</dl></li>"
    )


def _link(address: str) -> str:
    """Return an address as link where it is one of the web, a file or a relative path; any other as text."""
    text = plain(address)
    name = text.rstrip("/").rsplit("/", 1)[-1].split("?", 1)[0] or text
    if not _opens(address):
        return escape(text)
    return f'<a rel="noreferrer" href="{escape(address.strip())}" title="{escape(text)}">{escape(name)}</a>'


def _opens(address: str) -> bool:
    """Tell whether an address may be a link: no script, no data, no other host without a scheme."""
    if any(ord(c) < 32 or c == "\\" for c in address):
        return False
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return bool(parts.netloc)
    if parts.scheme == "file":
        return not parts.netloc
    return not parts.scheme and not parts.netloc and ("/" in parts.path or parts.path.endswith((".json", ".geojson")))
