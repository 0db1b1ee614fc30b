"""Charts of an evaluation and of an ablation, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geomm.metrics import Interval, Reliability
from geomm.pipeline.figures import COLORS, blank_figure, png


def reliability_chart(found: Sequence[Reliability]) -> bytes:
    """Show how often predictions of a confidence are right, a line per seed: on the diagonal, as often as they say."""
    figure, axes = blank_figure(4.6, 4.2)
    axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
    for k, seed in enumerate(found):
        mass, confidence, right = seed.curve().T
        axes.plot(confidence, right, color=COLORS[k % len(COLORS)], lw=1)
        axes.scatter(confidence, right, s=200 * mass, color=COLORS[k % len(COLORS)])
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence of the prediction", fontsize=8)
    axes.set_ylabel("share that is right", fontsize=8)
    error = np.mean([seed.ece() for seed in found])
    axes.set_title(f"expected calibration error {error:.3f}; 15 bins of equal mass", fontsize=9)
    return png(figure)


def intervals_chart(rows: Mapping[str, Interval], label: str, marked: Sequence[str] = ()) -> bytes:
    """Show a figure of several rows with its interval.

    Args:
        rows: name to figure, from top to bottom.
        label: what the figure is.
        marked: names in another colour.
    """
    figure, axes = blank_figure(7.0, 0.8 + 0.3 * len(rows))
    for y, (name, found) in enumerate(rows.items()):
        color = COLORS[1] if name in marked else COLORS[0]
        axes.plot([found.low, found.high], [y, y], color=color, lw=1.5)
        axes.plot([found.value], [y], "o", color=color, ms=5)
        axes.annotate(f"{found.value:.3f}", (found.high, y), (4, -3), textcoords="offset points", fontsize=7)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    low, high = min(f.low for f in rows.values()), max(f.high for f in rows.values())
    margin = max(0.02, 0.1 * (high - low))
    axes.set_xlim(low - margin, high + 1.5 * margin)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_xlabel(label, fontsize=8)
    return png(figure)


def curves_chart(losses: Mapping[str, Sequence[Sequence[float]]], width: int = 10) -> bytes:
    """Show the training loss of every row, mean over seeds, smoothed over ``width`` steps."""
    figure, axes = blank_figure(7.0, 3.0)
    for k, (name, runs) in enumerate(losses.items()):
        mean = np.mean([r[: min(map(len, runs))] for r in runs], 0)
        steps = min(width, len(mean))
        smooth = np.convolve(mean, np.ones(steps) / steps, mode="valid")
        style = ("-", "--", ":")[k // len(COLORS) % 3]
        axes.plot(range(steps - 1, len(mean)), smooth, style, color=COLORS[k % len(COLORS)], lw=1, label=name)
    axes.legend(fontsize=7, frameon=False, ncols=2)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("training loss", fontsize=8)
    return png(figure)
