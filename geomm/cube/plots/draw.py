"""Pictures on matplotlib axes: where they lie, how large a kilometre is, what the colours mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geomm.cube.grid import ground_size
from geomm.cube.plots.stretch import Picture
from geomm.types import ClassSpec

SIZE = 4.2
"""Width of a picture in inches."""
MOST_COLUMNS = 4
MOST_CLASSES = 16
"""Classes that a legend names where nothing says what they are."""
LETTERS = 72
"""Letters of a legend's line that are as wide as a picture."""


def canvas(
    number: int, ax: Any | None = None, *, columns: int = MOST_COLUMNS, shape: tuple[float, float] = (1, 1)
) -> Any:
    """Return axes for a number of pictures, as an array; a given one is taken.

    Args:
        number: of pictures.
        ax: axes to draw on, where there is one picture.
        columns: most of them.
        shape: height and width of a picture, for its proportions.
    """
    if ax is not None:
        return np.array([ax])
    from matplotlib import pyplot as plt

    across = min(number, columns)
    down = -(-number // across)
    width = SIZE if across < 3 else 0.85 * SIZE
    height = min(max(width * shape[0] / shape[1], 0.4 * width), 2 * width) + 0.9
    _, axes = plt.subplots(down, across, figsize=(width * across, height * down), squeeze=False, layout="constrained")
    for left in axes.ravel()[number:]:
        left.set_axis_off()
    return axes.ravel()[:number]


def show(ax: Any, picture: Picture, title: str, geobox: GeoBox | None) -> Any:
    """Draw a picture with its title, a scale bar, and a colour bar where it has one band.

    Returns:
        The axes.
    """
    frame(ax, picture.rgba, title, geobox, picture.every)
    if picture.colours:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(*picture.limits[0]), picture.colours)
        ends = "neither" if picture.limits[0] == (0.0, 1.0) else "both"
        bar = ax.figure.colorbar(scale, ax=ax, shrink=0.8, pad=0.02, extend=ends)
        bar.set_label(picture.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    if picture.classes:
        legend(ax, picture.classes[:MOST_CLASSES])
    return ax


def frame(ax: Any, colours: NDArray[Any], title: str, geobox: GeoBox | None, every: int = 1) -> Any:
    """Draw colours ``(y, x, 3 or 4)`` without axes, with a scale bar.

    Returns:
        The axes.
    """
    ax.imshow(colours, interpolation="nearest" if max(colours.shape[:2]) < 300 else "antialiased")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor("#e6e6e6")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_title(title, fontsize=9)
    if colours.shape[2] == 4 and not colours[..., 3].any():
        ax.text(0.5, 0.5, "nothing is valid here", transform=ax.transAxes, ha="center", fontsize=9, color="#555555")
    if geobox is not None and geobox.crs is not None:
        scale_bar(ax, colours.shape[1], ground_size(geobox) * every)
    return ax


def scale_bar(ax: Any, width: int, metres: float) -> None:
    """Draw a bar of a round length, about a fifth of the picture, in its lower left corner."""
    from matplotlib import patheffects

    length = round_length(width * metres / 5)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    halo = [patheffects.withStroke(linewidth=2.5, foreground="black", alpha=0.6)]
    share = length / metres / width
    at = ax.transAxes
    ax.plot(
        [0.03, 0.03 + share],
        [0.035, 0.035],
        color="white",
        lw=2,
        transform=at,
        path_effects=halo,
        solid_capstyle="butt",
    )
    ax.text(0.03, 0.05, text, color="white", fontsize=8, transform=at, path_effects=halo, va="bottom")


def round_length(metres: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not longer.

    >>> [round_length(v) for v in (0.7, 1.0, 4900.0, 5200.0)]
    [0.5, 1.0, 2000.0, 5000.0]
    """
    power = 10.0 ** math.floor(math.log10(metres))
    return max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power <= metres * (1 + 1e-9))


def legend(ax: Any, classes: Sequence[ClassSpec], shares: Sequence[float] | None = None) -> None:
    """Name the classes below the axes, with the share of each, where given; long names in fewer columns."""
    from matplotlib.patches import Patch

    known = shares if shares is not None else [math.nan] * len(classes)
    patches = [
        Patch(facecolor=c.color, edgecolor="#555555", lw=0.5, label=c.name + ("" if math.isnan(s) else f"  {s:.1%}"))
        for c, s in zip(classes, known, strict=True)
    ]
    longest = max((len(str(p.get_label())) for p in patches), default=0)
    ax.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.01),
        fontsize=8,
        frameon=False,
        ncols=max(1, min(4, len(patches), LETTERS // (longest + 5))),
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.2,
    )
