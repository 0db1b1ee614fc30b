"""What is around a page: one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from html import escape

from geomm.pages.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing is loaded and no script runs, whatever the items are called."""


def page(title: str, body: str, *, footer: str, style: str = STYLE) -> str:
    """Return a whole page.

    Args:
        title: HTML text, for the window.
        body: HTML.
        footer: HTML.
        style: style sheet.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY, quote=False)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style>'
        f"</head><body>{body}<footer>{footer}</footer></body></html>\n"
    )
