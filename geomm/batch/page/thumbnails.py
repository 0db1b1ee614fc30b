"""Pictures of what was published, small, inside the page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from geomm.batch.record import RunRecord, UnitRow
from geomm.pages import image, text

MOST = 24
"""Pictures of a page."""
SIDE = 160
"""Most pixels of the longer side."""
_COLOURS = 128
"""Of a picture: one byte per pixel bounds the size of the page whatever is shown."""
_FILE, _PIXELS = 16_000_000, 16_000_000
"""Bytes and pixels beyond which a file is not looked at."""


def thumbnails(record: RunRecord, root: Path | None) -> str:
    """Return pictures of the run as HTML, spread evenly over its units; nothing where there are none.

    Args:
        record: of the run.
        root: folder that the pictures are relative to; nothing outside of it is read.
    """
    known = [u for u in record.units if u.thumbnail]
    if root is None or not known:
        return ""
    chosen = [known[k * len(known) // min(len(known), MOST)] for k in range(min(len(known), MOST))]
    shown = [(unit, picture) for unit in chosen if (picture := small_picture(root, unit.thumbnail)) is not None]
    lost = len(chosen) - len(shown)
    notes = [f"{len(shown)} of {len(known)} pictures"] if len(known) > len(chosen) else []
    notes += [f"{lost} could not be read"] if lost else []
    return _grid(shown) + (f'<p class="soft">{"; ".join(notes)}.</p>' if notes else "")


def small_picture(root: Path, name: str) -> bytes | None:
    """Return a PNG of at most :data:`SIDE` pixels; None where the file is missing, outside, too large or none.

    Args:
        root: folder.
        name: path in it, not trusted.
    """
    from PIL import Image

    try:
        path = (root / name).resolve(strict=True)
        if not path.is_relative_to(root.resolve()) or not path.is_file() or path.stat().st_size > _FILE:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > _PIXELS:
                    return None
                colours = image.convert("RGBA")
        colours.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        buffer = io.BytesIO()
        colours.quantize(_COLOURS, Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    except Exception:  # a damaged PNG raises whatever its decoder stumbles over; the page goes without it
        return None
    return buffer.getvalue()


def _grid(pictures: Sequence[tuple[UnitRow, bytes]]) -> str:
    cells = (
        f"<figure>{image(data, '')}"
        f"<figcaption>{text(unit.name, 64)}<br>{text(unit.time[:10], 12)}"
        f"{'' if unit.state == 'DONE' else f' {unit.state.lower()}'}</figcaption></figure>"
        for unit, data in pictures
    )
    return f'<div class="thumbs">{"".join(cells)}</div>' if pictures else ""
