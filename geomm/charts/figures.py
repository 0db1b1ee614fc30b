"""The charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geomm.charts.checks import Runs, check_intervals, check_subsets, runs_of, seeds_of
from geomm.charts.drawing import TEXT, WIDE, blank, draw_interval, legend, limit, matrix_beside, name_axes, plainly
from geomm.charts.theme import LIGHT, Theme
from geomm.metrics import Interval, Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability(found: Reliability | Sequence[Reliability], *, theme: Theme = LIGHT) -> Figure:
    """Show how often predictions of a confidence are right: on the diagonal, as often as they say.

    Args:
        found: of one model, or of each seed: a line and its points for each, points as large as their share.
        theme: colours.

    Raises:
        ConfigError: there is none, or it is something else.
    """
    seeds = seeds_of(found)
    figure, axes = blank(4.6, 4.3, theme)
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
    axes.set_title(f"expected calibration error {error:.3f}", fontsize=TEXT, color=theme.ink)
    name_axes(axes, "confidence of the prediction", "share that is right", theme)
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
        ConfigError: there is no row, or a figure without its interval.
    """
    check_intervals(rows, label)
    figure, axes = blank(WIDE, 0.85 + 0.34 * len(rows), theme)
    for y, (name, found) in enumerate(rows.items()):
        color = theme.series[5] if name in marked else theme.series[0]
        for value in (dots or {}).get(name, ()):
            axes.plot([value], [y], "|", color=theme.ink, alpha=0.8, ms=9, mew=1.2)
        draw_interval(axes, y, found, color, theme)
    axes.set_yticks(range(len(rows)), map(plainly, rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    limit(axes, list(rows.values()), [v for values in (dots or {}).values() for v in values])
    axes.grid(axis="x", color=theme.grid, lw=0.7)
    figure.supxlabel(label, fontsize=TEXT, color=theme.ink)
    return figure


def missing(found: Mapping[tuple[str, ...], Interval], label: str, *, theme: Theme = LIGHT) -> Figure:
    """Show what is left when modalities are missing: a row for every subset, and the mean of those of each size.

    Args:
        found: modalities that the model saw, to the figure with its interval.
        label: what the figure is.
        theme: colours.

    Raises:
        ConfigError: there is no subset, or a figure without its interval.
    """
    check_subsets(found, label)
    names = list(dict.fromkeys(n for subset in found for n in subset))
    order = sorted(found, key=lambda s: (-len(s), [names.index(n) for n in s]))
    figure, (matrix, axes) = matrix_beside(names, len(order), theme)
    for y, subset in enumerate(order):
        there = [k for k, n in enumerate(names) if n in subset]
        matrix.plot(range(len(names)), [y] * len(names), "o", color=theme.grid, ms=9)
        matrix.plot(there, [y] * len(there), "-o", color=theme.accent, ms=9, lw=2)
        draw_interval(axes, y, found[subset], theme.series[0], theme)
    sizes = sorted({len(s) for s in order}, reverse=True)
    groups = [[y for y, s in enumerate(order) if len(s) == size] for size in sizes]
    means = [float(np.mean([found[order[y]].value for y in rows])) for rows in groups]
    middles = [float(np.mean(rows)) for rows in groups]
    axes.plot(means, middles, color=theme.series[1], lw=1.2, ls="--", zorder=0.5, label="mean of as many modalities")
    for rows in groups[1:]:
        for part in (matrix, axes):
            part.axhline(rows[0] - 0.5, color=theme.grid, lw=1)
    limit(axes, list(found.values()), [])
    axes.grid(axis="x", color=theme.grid, lw=0.7)
    if len(groups) > 1:
        legend(figure, axes, theme)
    figure.supxlabel(label, fontsize=TEXT, color=theme.ink)
    return figure


def curves(losses: Mapping[str, Runs], *, width: int = 10, theme: Theme = LIGHT) -> Figure:
    """Show training losses: the mean over the runs of a row, and the band between the least and the greatest.

    Args:
        losses: name to the losses of each of its runs, step by step, or to those of its only run.
        width: steps that are averaged; of short trainings a quarter of them.
        theme: colours.

    Raises:
        ConfigError: there is no loss, or it is something else.
    """
    rows = runs_of(losses)
    figure, axes = blank(WIDE, 3.2, theme)
    for k, (name, runs) in enumerate(rows.items()):
        table = np.array([r[: min(map(len, runs))] for r in runs], float)
        steps = max(1, min(width, table.shape[1] // 4))
        smooth = np.array([np.convolve(r, np.ones(steps) / steps, mode="valid") for r in table])
        color, style = theme.series[k % len(theme.series)], ("-", "--", ":")[k // len(theme.series) % 3]
        at = np.arange(steps, table.shape[1] + 1)
        axes.plot(at, smooth.mean(0), style, color=color, lw=1.4, label=plainly(name))
        if len(runs) > 1:
            axes.fill_between(at, smooth.min(0), smooth.max(0), color=color, alpha=0.16, lw=0)
    axes.grid(axis="y", color=theme.grid, lw=0.7)
    if len(rows) > 1:
        legend(figure, axes, theme)
    name_axes(axes, "step", "training loss", theme)
    return figure
