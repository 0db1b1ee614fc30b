"""A map of where hits lie, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.charts import Theme, png
from geomm.pipeline.gallery.hits import Hit, unwrapped

EARTH = 111_195.0
"""Metres in a degree of a great circle, of a sphere of 6 371 km."""
_SIZE = (5.0, 3.4)
"""Inches of the map."""
_INSIDE = (0.15, 0.095, 0.84, 0.885)
"""Left, bottom, width and height of what is inside the frame, as shares of the map."""
_LETTER, _HEIGHT = 7.0, 18.0
"""Size of a label in hundredths of an inch: of each letter, and of the whole."""


def overview(hits: Sequence[Hit], theme: Theme) -> bytes | None:
    """Draw the footprints with their ranks; None where no footprint is known.

    Ranks whose labels would cover each other share one.

    Args:
        hits: best first.
        theme: colours.
    """
    known = [h for h in hits if h.shape is not None]
    if not known:
        return None
    shapes = unwrapped([h.shape for h in known])
    figure, axes = _frame(shapes, theme)
    for shape in shapes:
        for part in getattr(shape, "geoms", [shape]):
            if part.geom_type == "Polygon":
                axes.fill(
                    *np.asarray(part.exterior.coords)[:, :2].T,
                    facecolor=theme.accent + "40",
                    edgecolor=theme.accent,
                    lw=1,
                )
    middles = np.array([(s.centroid.x, s.centroid.y) for s in shapes])
    axes.plot(*middles.T, ".", color=theme.accent, ms=3)
    pixels = axes.transData
    for place, label in _labels(pixels.transform(middles), [h.rank for h in known]):
        axes.annotate(
            label,
            pixels.inverted().transform(place),
            (0, 8),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color=theme.label,
            bbox={
                "boxstyle": "round,pad=0.25,rounding_size=0.7",
                "facecolor": theme.accent,
                "edgecolor": theme.paper,
                "lw": 0.8,
            },
        )
    _scale_bar(axes, theme)
    return png(figure, dpi=110)


def _frame(shapes: Sequence[Any], theme: Theme) -> tuple[Any, Any]:
    """Return a figure and its axes around shapes, a degree as wide and as high as on the ground in the middle."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bounds = np.array([s.bounds for s in shapes])
    (west, south), (east, north) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    figure = Figure(figsize=_SIZE, facecolor=theme.paper)
    axes = figure.add_axes(_INSIDE)
    narrow = max(math.cos(math.radians((south + north) / 2)), 0.05)
    # Room around them: a sixth of the extent, and for single chips half their own size.
    room = max((east - west) * narrow, north - south, 1e-5) / 6
    room = max(room, float(np.median(bounds[:, 3] - bounds[:, 1])) / 2)
    shape = _SIZE[1] * _INSIDE[3] / (_SIZE[0] * _INSIDE[2])
    high = max(north - south + 2 * room, ((east - west) * narrow + 2 * room) * shape) / 2
    wide = high / shape / narrow
    axes.set_xlim((west + east) / 2 - wide, (west + east) / 2 + wide)
    axes.set_ylim((south + north) / 2 - high, (south + north) / 2 + high)
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.grid, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, labelsize=8.5, length=0)
    axes.spines[:].set_color(theme.grid)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _degrees((v + 180.0) % 360.0 - 180.0, "EW")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _degrees(v, "NS")))
    return figure, axes


def _degrees(value: float, sides: str) -> str:
    return f"{abs(round(value, 6)):g}° {sides[int(value < 0)]}"


def _labels(places: NDArray[np.float64], ranks: Sequence[int]) -> list[tuple[NDArray[np.float64], str]]:
    """Return labels and their places in pixels; those that would cover each other are made one."""
    groups = [([rank], place) for rank, place in zip(ranks, places, strict=True)]
    k = 0
    while k < len(groups):
        mine, place = groups[k]
        near = [n for n in range(len(groups)) if n != k and _cover(groups[k], groups[n])]
        if not near:
            k += 1
            continue
        other, there = groups.pop(near[0])
        whole = len(mine) + len(other)
        k -= near[0] < k
        groups[k] = (sorted(mine + other), (place * len(mine) + there * len(other)) / whole)
        k = 0
    return [(place, _ranks(ranks)) for ranks, place in groups]


def _cover(one: tuple[list[int], NDArray[np.float64]], other: tuple[list[int], NDArray[np.float64]]) -> bool:
    wide = [_LETTER * len(_ranks(ranks)) + 8 for ranks, _ in (one, other)]
    across, down = np.abs(one[1] - other[1])
    return bool(across < sum(wide) / 2 and down < _HEIGHT)


def _ranks(ranks: Sequence[int]) -> str:
    """Return ranks as people list them: 1, 3-5."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    parts = [", ".join(map(str, run)) if len(run) < 3 else f"{run[0]}\u2013{run[-1]}" for run in runs]
    return ", ".join(parts) if len(parts) <= 4 else f"{', '.join(parts[:3])} +{sum(map(len, runs[3:]))}"


def _scale_bar(axes: Any, theme: Theme) -> None:
    """Draw a bar of a round length, at most a quarter of the width; it holds at the latitude of the middle."""
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    metre = 1 / (EARTH * max(math.cos(math.radians((south + north) / 2)), 0.05))  # in degrees of longitude
    most = (east - west) / metre / 4
    power = 10.0 ** math.floor(math.log10(most))
    length = power * max(n for n in (1, 2, 5) if n * power <= most)
    left, bottom = west + 0.04 * (east - west), south + 0.05 * (north - south)
    axes.plot([left, left + length * metre], [bottom, bottom], color=theme.ink, lw=3, solid_capstyle="butt")
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.annotate(text, (left, bottom), (0, 4), textcoords="offset points", fontsize=8.5, color=theme.ink)
