"""Hits of a search in a notebook: their page in a frame, their pictures beside their heat."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError
from geomm.pages import plain
from geomm.pipeline.gallery.files import write_hits
from geomm.pipeline.gallery.hits import Hit, read_hits, score_text
from geomm.pipeline.gallery.page import gallery_page, write_gallery
from geomm.pipeline.gallery.pictures import HeatScale, heat_colours, heated

HEIGHT = 680
"""Height of the page in a notebook, in pixels."""
SCALE = 0.75
"""Size of the page there: it is made for a window, and the cells of a notebook are narrower."""
COLUMNS = 6
"""Hits beside each other in a picture."""
_INCHES, _LETTERS = 1.9, 26
"""Width of a hit in a picture, and how many letters of its text fit into a line below it."""


@dataclass(frozen=True, eq=False, repr=False)
class Gallery:
    """What a search found, to look at: a notebook shows its page, ``plot`` draws pictures beside heat."""

    query: str
    """What was asked, in words."""
    hits: Any
    """GeoDataFrame, best first, see :func:`geomm.pipeline.gallery.gallery_page`."""
    pictures: Sequence[bytes | None]
    """PNG of each hit."""
    heats: Sequence[NDArray[np.floating] | None]
    """How much each part of the picture of a hit is like what was asked, ``(rows, columns)``."""
    notes: Sequence[str] = field(default=())
    """Lines such as the filter that was used."""

    def __len__(self) -> int:
        return len(self.hits)

    def __repr__(self) -> str:
        return f"Gallery({self.query!r}, {len(self)} hits)"

    def _repr_html_(self) -> str:
        page = gallery_page(self.hits, self.pictures, self.heats, query=self.query, notes=self.notes)
        title = escape(f"Hits of {plain(self.query)}")
        size = f"width:{100 / SCALE:g}%;height:{HEIGHT / SCALE:g}px;transform:scale({SCALE:g});transform-origin:0 0"
        return (
            f'<div style="height:{HEIGHT}px;overflow:hidden;border:1px solid #8888;border-radius:6px">'
            f'<iframe title="{title}" sandbox="" srcdoc="{escape(page)}" style="{size};border:0"></iframe></div>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, or the hits, as the extension says; the file appears whole, an older one is replaced.

        Args:
            path: ``.html`` for the page; ``.geojson``, ``.gpkg`` or ``.parquet`` for the hits.

        Returns:
            The path.

        Raises:
            ConfigError: another extension.
            OutputError: the file cannot be written.
        """
        if Path(path).suffix.lower() in (".html", ".htm"):
            return write_gallery(path, self.hits, self.pictures, self.heats, query=self.query, notes=self.notes)
        return write_hits(path, self.hits)

    def plot(self, *, most: int = COLUMNS) -> Any:
        """Draw the best hits: above what was seen, below how much each part of it is like what was asked.

        Args:
            most: hits that are drawn.

        Returns:
            Array of axes ``(2, hits)``, a column for each hit; ``(1, hits)`` where the index keeps no heat.

        Raises:
            ConfigError: there is no hit to draw, or less than one is wanted.
        """
        found = read_hits(self.hits)[:most] if most > 0 else []
        if not found:
            raise ConfigError(
                "there is no hit to draw",
                where=self.query,
                why=f"{len(self)} hits, at most {most} wanted",
                fix="ask with a larger place, a longer time, or fewer sensors",
            )
        return _draw(self.query, found, self.pictures, self.heats)


def _draw(
    query: str, hits: Sequence[Hit], pictures: Sequence[bytes | None], heats: Sequence[NDArray[np.floating] | None]
) -> NDArray[np.object_]:
    from matplotlib import pyplot as plt

    scale = HeatScale.of(heats[: len(hits)])
    rows = 1 if scale is None else 2
    size = (_INCHES * max(len(hits), 3) + 0.8, _INCHES * rows + 1.3)
    figure, axes = plt.subplots(rows, len(hits), figsize=size, squeeze=False, layout="constrained")
    for column, hit in enumerate(hits):
        view, heat = pictures[column], heats[column]
        _picture(axes[0, column], view)
        axes[0, column].set_title(f"{hit.rank}   score {score_text(hit.score)}", fontsize=9)
        if scale is not None:
            _picture(axes[1, column], None if heat is None else heated(view, np.asarray(heat), scale))
        said = f"derived: {hit.text}" if hit.text and hit.derived else hit.text
        lines = [*textwrap.wrap(said, _LETTERS, max_lines=3, placeholder=" ..."), *hit.sensors]
        axes[-1, column].set_xlabel("\n".join(map(_literal, lines)), fontsize=7.5)
    figure.suptitle(_literal(textwrap.shorten(plain(query), 90, placeholder=" ...")), fontsize=11)
    if scale is not None:
        _bar(figure, axes, scale)
    drawn: NDArray[np.object_] = axes
    return drawn


def _picture(ax: Any, data: bytes | None) -> None:
    """Draw a PNG without axes; say so where there is none."""
    from matplotlib.image import imread

    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    if data is None:
        ax.set_box_aspect(1)
        ax.set_facecolor("#e6e6e6")
        ax.text(0.5, 0.5, "no picture", transform=ax.transAxes, ha="center", fontsize=8, color="#555555")
    else:
        ax.imshow(imread(io.BytesIO(data), format="png"), interpolation="nearest")


def _bar(figure: Any, axes: NDArray[np.object_], scale: HeatScale) -> None:
    """Say what the colours of the heat are, as they lie over a middle grey."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = ListedColormap(heat_colours(np.linspace(0, 1, 128), np.full(128, 0.5)))
    shown = ScalarMappable(Normalize(scale.low, scale.high), colours)
    bar = figure.colorbar(shown, ax=list(axes[1]), extend="both", shrink=0.9, pad=0.02)
    bar.set_label("heat: part of the score", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _literal(text: str) -> str:
    """Return a text that matplotlib draws as it is, without taking dollars for formulas."""
    return text.replace("$", r"\$")
