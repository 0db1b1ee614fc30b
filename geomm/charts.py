"""Charts as matplotlib figures, light or dark: calibration, figures with intervals, missing modalities, training.

Each returns a :class:`matplotlib.figure.Figure` that a notebook shows by itself; :func:`png` makes a file of it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.errors import ConfigError
from geomm.metrics import Interval, Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 5.4
"""Inches of a chart: its letters stay readable when a page shows it at half its width."""
_SMALL, _TEXT = 9.5, 10.5
"""Points of ticks and of labels."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of charts and maps."""

    paper: str
    """Behind everything."""
    ink: str
    """Text, frame and scale."""
    grid: str
    """Lines that help to read."""
    accent: str
    """What matters most; footprints and labels of maps."""
    label: str
    """Text on labels."""
    series: tuple[str, ...]
    """Of lines and points, in turn; told apart by people who see no red or no green as well."""


LIGHT = Theme(
    "#ffffff", "#3b4350", "#e3e7ec", "#0b62a8", "#ffffff",
    ("#1f77b4", "#c0504d", "#b8860b", "#2c8a57", "#7b52ab", "#5b6675"),
)  # fmt: skip
DARK = Theme(
    "#1d2128", "#c3cad4", "#30363f", "#6cb6ff", "#10151c",
    ("#5aa9e6", "#f2837b", "#e8bb55", "#5fc596", "#b392e0", "#9aa5b3"),
)  # fmt: skip


def reliability(found: Reliability | Sequence[Reliability], *, theme: Theme = LIGHT) -> Figure:
    """Show how often predictions of a confidence are right: on the diagonal, as often as they say.

    Args:
        found: of one model, or of each seed: a line and its points for each, points as large as their share.
        theme: colours.

    Raises:
        ConfigError: there is none.
    """
    seeds = [found] if isinstance(found, Reliability) else list(found)
    if not seeds:
        raise ConfigError(
            "a reliability diagram needs predictions",
            why="none is given",
            fix="give what evaluate(...).reliability holds",
        )
    figure, axes = _blank(4.6, 4.3, theme)
    axes.plot([0, 1], [0, 1], color=theme.ink, alpha=0.55, lw=1, ls="--")
    for k, seed in enumerate(seeds):
        mass, confidence, right = seed.curve().T
        color = theme.series[k % len(theme.series)]
        axes.plot(confidence, right, color=color, lw=1.2)
        axes.scatter(confidence, right, s=260 * mass, color=color)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    axes.grid(color=theme.grid, lw=0.7)
    error = np.mean([seed.ece() for seed in seeds])
    axes.set_title(f"expected calibration error {error:.3f}", fontsize=_TEXT, color=theme.ink)
    _name(axes, "confidence of the prediction", "share that is right", theme)
    return figure


def intervals(
    rows: Mapping[str, Interval],
    label: str,
    *,
    marked: Sequence[str] = (),
    dots: Mapping[str, Sequence[float]] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Show a figure of several rows with its interval.

    Args:
        rows: name to figure, from top to bottom.
        label: what the figure is.
        marked: names in a quieter colour, such as those of what is compared with.
        dots: single values of a row, such as those of its seeds.
        theme: colours.

    Raises:
        ConfigError: there is no row.
    """
    if not rows:
        raise ConfigError("a chart of intervals needs a row", where=label, fix="give a name and its Interval at least")
    figure, axes = _blank(WIDE, 0.85 + 0.34 * len(rows), theme)
    for y, (name, found) in enumerate(rows.items()):
        color = theme.series[5] if name in marked else theme.series[0]
        for value in (dots or {}).get(name, ()):
            axes.plot([value], [y], "|", color=theme.ink, alpha=0.8, ms=9, mew=1.2)
        _interval(axes, y, found, color, theme)
    axes.set_yticks(range(len(rows)), map(_plainly, rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _frame(axes, list(rows.values()), [v for values in (dots or {}).values() for v in values])
    axes.grid(axis="x", color=theme.grid, lw=0.7)
    figure.supxlabel(label, fontsize=_TEXT, color=theme.ink)
    return figure


def missing(found: Mapping[tuple[str, ...], Interval], label: str, *, theme: Theme = LIGHT) -> Figure:
    """Show what is left when modalities are missing: a row for every subset, and the mean of those of each size.

    Args:
        found: modalities that the model saw, to the figure with its interval.
        label: what the figure is.
        theme: colours.

    Raises:
        ConfigError: there is no subset.
    """
    if not found:
        raise ConfigError(
            "a chart of missing modalities needs a subset",
            where=label,
            fix="evaluate subsets(names), each with only=...",
        )
    names = list(dict.fromkeys(n for subset in found for n in subset))
    order = sorted(found, key=lambda s: (-len(s), [names.index(n) for n in s]))
    figure, (matrix, axes) = _matrix(names, len(order), theme)
    for y, subset in enumerate(order):
        there = [k for k, n in enumerate(names) if n in subset]
        matrix.plot(range(len(names)), [y] * len(names), "o", color=theme.grid, ms=9)
        matrix.plot(there, [y] * len(there), "-o", color=theme.accent, ms=9, lw=2)
        _interval(axes, y, found[subset], theme.series[0], theme)
    sizes = sorted({len(s) for s in order}, reverse=True)
    groups = [[y for y, s in enumerate(order) if len(s) == size] for size in sizes]
    means = [float(np.mean([found[order[y]].value for y in rows])) for rows in groups]
    middles = [float(np.mean(rows)) for rows in groups]
    axes.plot(means, middles, color=theme.series[1], lw=1.2, ls="--", zorder=0.5, label="mean of as many modalities")
    for rows in groups[1:]:
        for part in (matrix, axes):
            part.axhline(rows[0] - 0.5, color=theme.grid, lw=1)
    _frame(axes, list(found.values()), [])
    axes.grid(axis="x", color=theme.grid, lw=0.7)
    if len(groups) > 1:
        _legend(figure, axes, theme)
    figure.supxlabel(label, fontsize=_TEXT, color=theme.ink)
    return figure


def curves(losses: Mapping[str, Sequence[Sequence[float]]], *, width: int = 10, theme: Theme = LIGHT) -> Figure:
    """Show training losses: the mean over the runs of a row, and the band between the least and the greatest.

    Args:
        losses: name to the losses of each of its runs, step by step.
        width: steps that are averaged; of short trainings a quarter of them.
        theme: colours.

    Raises:
        ConfigError: there is no loss.
    """
    if not any(len(run) for runs in losses.values() for run in runs):
        raise ConfigError("a chart of losses needs some", fix="give the losses of a fitted model, by name")
    figure, axes = _blank(WIDE, 3.2, theme)
    for k, (name, runs) in enumerate(losses.items()):
        table = np.array([r[: min(map(len, runs))] for r in runs], float)
        steps = max(1, min(width, table.shape[1] // 4))
        smooth = np.array([np.convolve(r, np.ones(steps) / steps, mode="valid") for r in table])
        color, style = theme.series[k % len(theme.series)], ("-", "--", ":")[k // len(theme.series) % 3]
        at = np.arange(steps, table.shape[1] + 1)
        axes.plot(at, smooth.mean(0), style, color=color, lw=1.4, label=_plainly(name))
        if len(runs) > 1:
            axes.fill_between(at, smooth.min(0), smooth.max(0), color=color, alpha=0.16, lw=0)
    axes.grid(axis="y", color=theme.grid, lw=0.7)
    if len(losses) > 1:
        _legend(figure, axes, theme)
    _name(axes, "step", "training loss", theme)
    return figure


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


def _blank(width: float, height: float, theme: Theme) -> tuple[Figure, Any]:
    """Return an empty figure and its axes, in inches."""
    figure = _chart()(figsize=(width, height), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    _plain(axes, theme)
    return figure, axes


def _matrix(names: Sequence[str], rows: int, theme: Theme) -> tuple[Figure, tuple[Any, Any]]:
    """Return a figure with a column for each name at the left, and room for a chart at the right."""
    figure = _chart()(figsize=(WIDE, 1.6 + 0.32 * rows), facecolor=theme.paper, layout="constrained")
    share = min(0.16 * len(names), 0.9)
    matrix, axes = figure.subplots(1, 2, sharey=True, width_ratios=[share, 1.7])
    for part in (matrix, axes):
        _plain(part, theme)
    matrix.set_xticks(range(len(names)), map(_plainly, names), rotation=55, ha="left", rotation_mode="anchor")
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
    axes.tick_params(colors=theme.ink, labelsize=_SMALL)


def _interval(axes: Any, y: int, found: Interval, color: str, theme: Theme) -> None:
    axes.plot([found.low, found.high], [y, y], color=color, lw=2.4, solid_capstyle="round", alpha=0.75)
    axes.plot([found.value], [y], "o", color=color, ms=6.5)
    axes.annotate(
        f"{found.value:.3f}",
        (max(found.high, found.value), y),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontsize=_SMALL,
        color=theme.ink,
    )


def _frame(axes: Any, found: Sequence[Interval], more: Sequence[float]) -> None:
    """Leave room around the intervals, at the right for their figures too."""
    low = min([f.low for f in found] + [f.value for f in found] + list(more))
    high = max([f.high for f in found] + [f.value for f in found] + list(more))
    room = max(0.02, 0.1 * (high - low))
    axes.set_xlim(low - room, high + 2.2 * room)


def _legend(figure: Figure, axes: Any, theme: Theme) -> None:
    """Put the legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(4, int(64 / (max(map(len, labels)) + 6))))
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        fontsize=_SMALL,
        frameon=False,
        labelcolor=theme.ink,
    )


def _plainly(name: str) -> str:
    """Return a name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def _name(axes: Any, across: str, up: str, theme: Theme) -> None:
    axes.set_xlabel(across, fontsize=_TEXT, color=theme.ink)
    axes.set_ylabel(up, fontsize=_TEXT, color=theme.ink)
