"""Parts of a page as HTML: header, section, table, tiles, bar of shares, pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from geomm.pages.words import share


def header(kicker: str, title: str, body: str, *, beside: str = "") -> str:
    """Return the top of a page.

    Args:
        kicker: what kind of page it is, HTML text.
        title: HTML text.
        body: HTML below the title.
        beside: HTML at the right of it, such as a map; below it where the page is narrow.
    """
    alone = "" if beside else ' class="alone"'
    return (
        f'<header{alone}><div class="asked"><p class="kicker">{kicker}</p><h1>{title}</h1>{body}</div>{beside}</header>'
    )


def section(title: str, body: str, *, name: str) -> str:
    """Return a part of a page with its heading; nothing where the body is empty."""
    return f'<section id="{name}"><h2>{title}</h2>{body}</section>' if body else ""


def facts(chips: Iterable[str]) -> str:
    """Return short facts, HTML, as chips in a row."""
    return f'<p class="facts">{"".join(f"<span>{c}</span>" for c in chips)}</p>'


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Return figures with what they are, HTML text, as tiles in a row."""
    each = (f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in figures)
    return f'<div class="tiles">{"".join(each)}</div>'


def shares(parts: Sequence[tuple[str, str, float]]) -> str:
    """Return parts of a whole as a bar, with a legend in per cent.

    Args:
        parts: class of the colour, name as HTML text, size; those of size 0 are left out.
    """
    seen = [p for p in parts if p[2] > 0]
    whole = sum(p[2] for p in seen)
    bar = "".join(f'<i class="{kind}" style="width:{share(part, whole):.3f}%"></i>' for kind, _, part in seen)
    legend = "".join(
        f'<span><i class="dot {kind}"></i>{name} {share(part, whole):.0f} %</span>' for kind, name, part in seen
    )
    return f'<div class="bar">{bar}</div><p class="legend">{legend}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, figures: int = 0) -> str:
    """Return a table as HTML that becomes a list of cards where the page is narrow.

    Args:
        head: names of the columns, HTML.
        rows: cells, HTML.
        figures: how many columns, the last ones, hold figures.
    """
    names = [
        f' class="n" data-name="{h}"' if k >= len(head) - figures else f' data-name="{h}"' for k, h in enumerate(head)
    ]
    top = "".join(f"<th{' class="n"' if k >= len(head) - figures else ''}>{h}</th>" for k, h in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{n}><div>{c}</div></td>" for n, c in zip(names, row, strict=True)) + "</tr>"
        for row in rows
    )
    few = ' class="few"' if len(head) <= 4 else ""
    return f'<div class="wide"><table{few}><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def image(png: bytes, alt: str) -> str:
    """Return a PNG as HTML that needs no other file; ``alt`` is HTML text without quotes."""
    return f'<img alt="{alt}" src="{_address(png)}">'


def picture(light: bytes, dark: bytes, alt: str) -> str:
    """Return a picture as HTML, in the colours of the page; ``alt`` is HTML text without quotes.

    Args:
        light: PNG for a light page.
        dark: the same for a dark one.
        alt: what it shows.
    """
    dimmed = f'<source media="(prefers-color-scheme: dark)" srcset="{_address(dark)}">'
    return f"<picture>{dimmed}{image(light, alt)}</picture>"


def chart(light: bytes, dark: bytes, alt: str) -> str:
    """Return a chart as HTML that is as wide as its letters want; see :func:`picture`."""
    wide = int.from_bytes(light[16:20]) * 2 // 3  # of 150 pixels to the inch, 100 are shown
    return f'<figure class="chart" style="width:{wide}px">{picture(light, dark, alt)}</figure>'


def _address(data: bytes) -> str:
    """Return a PNG as an _address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
