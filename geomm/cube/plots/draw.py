"""Pictures on matplotlib axes: where they lie, how large a kilometre is, what the colours mean."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geomm.cube.plots.ground import pixel_metres, proportion
from geomm.cube.plots.layout import TALL, beside, inches_of
from geomm.cube.plots.stretch import Picture
from geomm.types import ClassSpec

MOST_CLASSES = 16
"""Classes that a legend names where nothing says what they are."""
LETTERS = 17
"""Letters of a legend's line in an inch; of a title's a little less."""


def show(ax: Any, picture: Picture, title: str, geobox: GeoBox | None) -> Any:
    """Draw a picture with its title, a scale bar, and a colour bar where it has one band.

    Returns:
        The axes.
    """
    frame(ax, picture.rgba, title, geobox, picture.every)
    if picture.colours and picture.rgba[..., 3].any():
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(*picture.limits[0]), picture.colours)
        ends = "neither" if picture.limits[0] == (0.0, 1.0) else "both"
        bar = ax.figure.colorbar(scale, ax=ax, pad=0.02, extend=ends)
        bar.set_label(picture.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        beside(bar.ax, ax)
    if picture.classes:
        legend(ax, picture.classes[:MOST_CLASSES], more=len(picture.classes) - MOST_CLASSES)
    return ax


def frame(
    ax: Any, colours: NDArray[Any], title: str, geobox: GeoBox | None, every: int = 1, *, tall: float = 1.0
) -> Any:  # fmt: skip
    """Draw colours ``(y, x, 3 or 4)`` without axes, with a scale bar; metres are as long down as across.

    Args:
        ax: axes.
        colours: as bytes.
        title: wrapped where it is wider than the axes.
        geobox: of the picture; None for no scale bar.
        every: pixels of the grid along each side of one of the picture's.
        tall: how many times higher than wide a pixel is, where there is no grid.

    Returns:
        The axes.
    """
    known = geobox is not None and geobox.crs is not None
    smooth = "nearest" if max(colours.shape[:2]) < 300 else "antialiased"
    ax.imshow(colours, interpolation=smooth, aspect=proportion(geobox) if known else tall)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor("#e6e6e6")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_title(wrapped(title, int(0.8 * LETTERS * inches_of(ax))), fontsize=9)
    if colours.shape[2] == 4 and not colours[..., 3].any():
        ax.text(0.5, 0.5, "no valid pixel", transform=ax.transAxes, ha="center", fontsize=9, color="#555555")
    if geobox is not None and known:
        scale_bar(ax, colours.shape[1], pixel_metres(geobox)[0] * every)
    return ax


def wrapped(text: str, letters: int) -> str:
    r"""Return a text whose lines hold so many letters at most, as matplotlib takes it.

    >>> wrapped("a_very_long_name, 2020-01-01", 12)
    'a_very_\nlong_name,\n2020-01-01'
    """
    parted = text.replace("_", "_ ").split("\n")  # long names break where they are joined
    lines = [part for line in parted for part in textwrap.wrap(line, max(letters, 8)) or [""]]
    return "\n".join(lines).replace("_ ", "_").replace("$", r"\$")


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


def legend(ax: Any, classes: Sequence[ClassSpec], shares: Sequence[float] | None = None, *, more: int = 0) -> None:
    """Name the classes below the axes, with the share of each, where given; long names in fewer columns.

    Args:
        ax: axes with the picture.
        classes: to name.
        shares: of each, of what is known.
        more: classes that are not named; how many is said.
    """
    from matplotlib.patches import Patch

    letters = LETTERS * inches_of(ax)
    known = shares if shares is not None else [math.nan] * len(classes)
    patches = [
        Patch(
            facecolor=c.color,
            edgecolor="#555555",
            lw=0.5,
            label=wrapped(c.name + ("" if math.isnan(s) else f"  {s:.1%}"), int(letters) - 5),
        )
        for c, s in zip(classes, known, strict=True)
    ]
    if more > 0:
        patches.append(Patch(alpha=0.0, label=f"and {more} more"))
    longest = max((len(line) for p in patches for line in str(p.get_label()).split("\n")), default=0)
    place = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.01)}
    if ax.get_images() and ax.get_data_ratio() * ax.get_aspect() > TALL:  # narrower than the legend may be
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01)}
    for columns in range(max(1, min(6, len(patches), int(letters / (longest + 5)))), 0, -1):
        drawn = ax.legend(
            handles=patches,
            **place,
            fontsize=8,
            frameon=False,
            ncols=columns,
            handlelength=0.9,
            handleheight=0.9,
            handletextpad=0.4,
            borderpad=0.1,
            borderaxespad=0.4,
            columnspacing=0.7,
        )
        if drawn.get_window_extent().width <= (inches_of(ax) - 0.3) * drawn.get_figure(root=True).dpi:
            break
