"""What charts are made of: figures, axes, intervals with their numbers, legends."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from geomm.charts.theme import Theme
from geomm.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 5.4
"""Inches of a chart: its letters stay readable when a page shows it at half its width."""
SMALL, TEXT = 9.5, 10.5
"""Points of ticks and of labels."""


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


@cache
def _chart() -> type[Figure]:
    """Return a kind of figure that notebooks show; plain ones are shown only once pyplot was used."""
    from matplotlib.figure import Figure

    class Chart(Figure):
        """A chart."""

        def _repr_png_(self) -> bytes:
            return png(self, dpi=100)

    return Chart


def blank(width: float, height: float, theme: Theme) -> tuple[Figure, Any]:
    """Return an empty figure and its axes, in inches."""
    figure = _chart()(figsize=(width, height), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    _plain(axes, theme)
    return figure, axes


def matrix_beside(names: Sequence[str], rows: int, theme: Theme) -> tuple[Figure, tuple[Any, Any]]:
    """Return a figure with a column for each name at the left, and room for a chart at the right."""
    figure = _chart()(figsize=(WIDE, 1.6 + 0.32 * rows), facecolor=theme.paper, layout="constrained")
    share = min(0.16 * len(names), 0.9)
    matrix, axes = figure.subplots(1, 2, sharey=True, width_ratios=[share, 1.7])
    for part in (matrix, axes):
        _plain(part, theme)
    matrix.set_xticks(range(len(names)), map(plainly, names), rotation=55, ha="left", rotation_mode="anchor")
    matrix.xaxis.tick_top()
    matrix.set_xlim(-0.6, len(names) - 0.4)
    for part in (matrix, axes):
        part.tick_params(axis="y", labelleft=False, length=0)
    matrix.tick_params(length=0)
    matrix.spines[:].set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(rows - 0.5, -0.5)
    return figure, (matrix, axes)


def _plain(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(theme.ink)
    axes.tick_params(colors=theme.ink, labelsize=SMALL)


def draw_interval(axes: Any, y: int, found: Interval, color: str, theme: Theme) -> None:
    """Draw a figure with its interval, and its number at the right."""
    axes.plot([found.low, found.high], [y, y], color=color, lw=2.4, solid_capstyle="round", alpha=0.75)
    axes.plot([found.value], [y], "o", color=color, ms=6.5)
    axes.annotate(  # in a column of its own, where nothing runs through it
        f"{found.value:.3f}",
        (1.0, y),
        (6, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        color=theme.ink,
    )


def limit(axes: Any, found: Sequence[Interval], more: Sequence[float]) -> None:
    """Leave room around the intervals."""
    low = min([f.low for f in found] + [f.value for f in found] + list(more))
    high = max([f.high for f in found] + [f.value for f in found] + list(more))
    room = max(0.02, 0.1 * (high - low))
    axes.set_xlim(low - room, high + room)


def legend(figure: Figure, axes: Any, theme: Theme) -> None:
    """Put the legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(4, int(64 / (max(map(len, labels)) + 6))))
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        labelcolor=theme.ink,
    )


def plainly(name: str) -> str:
    """Return a name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def name_axes(axes: Any, across: str, up: str, theme: Theme) -> None:
    """Say what the axes are."""
    axes.set_xlabel(across, fontsize=TEXT, color=theme.ink)
    axes.set_ylabel(up, fontsize=TEXT, color=theme.ink)
