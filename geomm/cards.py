"""Small HTML for notebooks: what an object is, at a glance. Text is escaped, nothing is loaded, no script runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from html import escape

_FRAME = (
    "font:13px/1.45 system-ui,sans-serif;border:1px solid color-mix(in srgb,currentColor 25%,transparent);"
    "border-radius:6px;padding:.6em .9em;margin:.3em 0;max-width:72em;overflow-x:auto"
)
_FAINT = "opacity:.72"
_TABLE = "font:inherit;color:inherit;margin:.4em 0;border:0"
_CELL = "text-align:left;vertical-align:top;padding:.1em 1.1em .1em 0;background:none;border:0"
COLOURS = ("#2c7fb8", "#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#a6761d", "#666666")
"""Of groups, such as the splits of chips; seen on white and on black."""


def card(title: str, parts: Sequence[str], *, kind: str) -> str:
    """Return a framed summary.

    Args:
        title: text.
        parts: HTML of :func:`facts`, :func:`table`, or of a drawing.
        kind: what the object is, in a word or two.
    """
    head = f'<b>{escape(title)}</b> <span style="{_FAINT}">{escape(kind)}</span>'
    return f'<div class="geomm-card" style="{_FRAME}">{head}{"".join(parts)}</div>'


def facts(rows: Mapping[str, str]) -> str:
    """Return names and values as HTML; both are text."""
    lines = "".join(
        f'<tr style="background:none"><td style="{_CELL};{_FAINT}">{escape(name)}</td>'
        f'<td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows.items()
        if value
    )
    return f'<table style="{_TABLE}">{lines}</table>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, most: int = 12) -> str:
    """Return a table as HTML; cells are text, or drawings made here. Rows beyond ``most`` are counted."""
    top = "".join(f'<th style="{_CELL};font-weight:600;{_FAINT}">{escape(h)}</th>' for h in head)
    lines = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="{_CELL}">{v if isinstance(v, Drawing) else escape(v)}</td>' for v in row)
        + "</tr>"
        for row in rows[:most]
    )
    more = f'<div style="{_FAINT}">and {len(rows) - most} more</div>' if len(rows) > most else ""
    return f'<table style="{_TABLE}"><tr style="background:none">{top}</tr>{lines}</table>{more}'


class Drawing(str):
    """HTML that was made here, with its text escaped."""

    __slots__ = ()


def swatches(names: Mapping[str, str]) -> Drawing:
    """Return names with a square of their colour.

    Args:
        names: name to ``#rrggbb``.
    """
    return Drawing(
        " ".join(
            f'<span style="white-space:nowrap;margin-right:.7em"><span style="display:inline-block;width:.8em;'
            f"height:.8em;margin-right:.3em;border:1px solid #8888;vertical-align:-.05em;background:{escape(color)}"
            f'"></span>{escape(name)}</span>'
            for name, color in names.items()
        )
    )


def world(places: Sequence[tuple[float, float, float, float]], *, most: int = 500) -> Drawing:
    """Draw where places lie on Earth, over lines of every 30 degrees.

    Args:
        places: west, south, east, north in degrees; west greater than east across the antimeridian.
        most: of them that are drawn, evenly chosen.
    """
    lines = "".join(f"M{x} 0V90" for x in range(0, 181, 15)) + "".join(f"M0 {y}H180" for y in range(0, 91, 15))
    boxes = []
    for west, south, east, north in places[:: max(1, -(-len(places) // most))]:
        x, y = (west + 180) / 2, (90 - north) / 2
        width, height = ((east - west) % 360 or 360 * (east != west)) / 2, (north - south) / 2
        if max(width, height) < 2:  # too small to see: a mark
            boxes.append(f'<circle cx="{x + width / 2:.2f}" cy="{y + height / 2:.2f}" r="2.2"/>')
        else:
            boxes.append(f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>')
    return Drawing(
        '<svg viewBox="-1 -1 182 92" width="182" height="92" role="img" aria-label="where it lies on Earth" '
        'style="display:block;margin:.4em 0"><path fill="none" stroke="currentColor" stroke-opacity=".18" '
        f'stroke-width=".5" d="{lines}M0 45H180M90 0V90"/><g fill="#d95f02" fill-opacity=".6" stroke="#d95f02" '
        f'stroke-width=".7">{"".join(boxes)}</g></svg>'
    )


def timeline(times: Sequence[dt.datetime], first: dt.datetime, last: dt.datetime) -> Drawing:
    """Draw times as marks between two."""
    span = max((last - first).total_seconds(), 1.0)
    alone = first == last
    marks = "".join(
        f"M{5 + 110 * (0.5 if alone else (t - first).total_seconds() / span):.1f} 2v12" for t in sorted(times)
    )
    return Drawing(
        '<svg viewBox="0 0 120 16" width="120" height="16" role="img" aria-label="times" style="vertical-align:middle">'
        '<path stroke="currentColor" stroke-opacity=".3" d="M5 8H115"/>'
        f'<path stroke="#2c7fb8" stroke-width="1.6" d="{marks}"/></svg>'
    )


def windows(
    shape: tuple[int, int], groups: Mapping[str, Sequence[tuple[int, int, int, int]]], *, most: int = 2000
) -> Drawing:
    """Draw windows of a grid, a colour for every group.

    Args:
        shape: height and width of the grid.
        groups: name to windows: row, column, height, width.
        most: windows of a group that are drawn, evenly chosen.
    """
    height, width = shape
    scale = 180 / max(height, width)
    layers = []
    for color, boxes in zip(COLOURS * (1 + len(groups) // len(COLOURS)), groups.values(), strict=False):
        some = boxes[:: max(1, -(-len(boxes) // most))]
        path = "".join(
            f"M{x * scale:.1f} {y * scale:.1f}h{w * scale:.1f}v{h * scale:.1f}h{-w * scale:.1f}z" for y, x, h, w in some
        )
        layers.append(f'<path fill="{color}" fill-opacity=".35" stroke="{color}" stroke-width=".8" d="{path}"/>')
    across, down = width * scale, height * scale
    return Drawing(
        f'<svg viewBox="-1 -1 {across + 2:.0f} {down + 2:.0f}" width="{across + 2:.0f}" height="{down + 2:.0f}" '
        'role="img" aria-label="where the chips lie" style="display:block;margin:.4em 0">'
        f'<rect width="{across:.1f}" height="{down:.1f}" fill="none" stroke="currentColor" stroke-opacity=".4"/>'
        f"{''.join(layers)}</svg>"
    )


def beside(*parts: str) -> str:
    """Put parts next to each other."""
    return f'<div style="display:flex;gap:1.6em;flex-wrap:wrap">{"".join(f"<div>{p}</div>" for p in parts)}</div>'
