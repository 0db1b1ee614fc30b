"""Figures that are as large as what they hold: pictures, titles, legends and colour bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geomm.errors import ConfigError

SIZE = 4.2
"""Width of a picture in inches."""
MOST_COLUMNS = 4
TALL = 2.0
"""Pictures that are higher than so many widths are made narrower instead."""
FLAT = 0.15
"""Least height of a picture's place, in widths."""
_THIN, _THICK = 0.06, 0.18
"""Least and greatest width of a colour bar in inches; it stands as far from its picture as it is wide at least."""
_ROOM = 0.3
"""Inches around the texts of a picture."""


def canvas(titles: Sequence[str], ax: Any | None = None, *, columns: int = MOST_COLUMNS, fix: str = "") -> Any:
    """Return axes for some pictures, as an array; given ones are taken.

    Args:
        titles: of the pictures, for messages.
        ax: axes to draw on, one for each picture.
        columns: most of them.
        fix: what to do where there are too few axes.

    Raises:
        ConfigError: there are not as many axes as pictures, or these are no axes.
    """
    if ax is not None:
        return _given(ax, titles, fix)
    from matplotlib import pyplot as plt

    across = min(len(titles), columns)
    down = -(-len(titles) // across)
    width = SIZE if across < 3 else 0.85 * SIZE
    size = (width * across, (width + 1) * down)
    whole = {"left": 0.0, "right": 1.0, "wspace": 0.0}  # where the layout begins: legends hang over nothing there
    _, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", gridspec_kw=whole)
    for left in axes.ravel()[len(titles) :]:
        left.set_axis_off()
    return axes.ravel()[: len(titles)]


def _given(ax: Any, titles: Sequence[str], fix: str) -> Any:
    from matplotlib.axes import Axes

    flat = np.array(ax, dtype=object).ravel()
    if not all(isinstance(one, Axes) for one in flat):
        fix = "give one that matplotlib has made: figure, ax = plt.subplots()"
        raise ConfigError("ax are axes of matplotlib", where=type(ax).__name__, fix=fix)
    if len(flat) != len(titles):
        told = "; ".join(t.replace("\n", ", ") for t in titles[:12])
        raise ConfigError(
            f"{len(titles)} pictures do not fit on {len(flat)} axes",
            why=told + (f"; and {len(titles) - 12} more" if len(titles) > 12 else ""),
            fix=f"{fix}; or give as many axes: ax=plt.subplots(1, {len(titles)})[1]; or leave ax out",
        )
    return flat


def settle(axes: Any) -> None:
    """Give a figure of :func:`canvas` the height that its pictures, titles and legends need.

    Whatever is saved of it then is whole, and pictures touch neither each other nor their texts.
    """
    axes = np.asarray(axes, object).ravel()
    figure = axes[0].figure
    rows, columns = axes[0].get_gridspec().get_geometry()
    width, ratio = float(figure.get_figwidth()), min(max(map(_ratio, axes), default=1.0), TALL)
    texts = [0.0] * rows
    for ax in axes:
        row = ax.get_subplotspec().rowspan.start
        texts[row] = max(texts[row], _texts(ax))
    height = rows * (width / columns * ratio + _ROOM) + sum(texts)
    aspects = [ax.get_aspect() for ax in axes]
    for ax in axes:  # fills its place, so that the layout sees all that its texts need
        ax.set_aspect("auto")
    for _ in range(2):
        figure.set_size_inches(width, height)
        figure.get_layout_engine().execute(figure)
        place = axes[0].get_position(original=True)
        height += rows * (place.width * width * max(ratio, FLAT) - place.height * height)
    figure.set_size_inches(width, height)
    for ax, aspect in zip(axes, aspects, strict=True):
        ax.set_aspect(aspect)


def _ratio(ax: Any) -> float:
    """Return how many times higher than wide the picture of axes is."""
    return float(ax.get_data_ratio() * ax.get_aspect()) if ax.get_images() else 0.0


def _texts(ax: Any) -> float:
    """Return the inches that title, label and legend need above and below a picture."""
    found = [part for part in (ax.title, ax.xaxis.label, ax.get_legend()) if part is not None]
    texts = [part for part in found if not hasattr(part, "get_text") or part.get_text()]
    return float(sum(part.get_window_extent().height / ax.figure.dpi + 0.08 for part in texts))


def inches_of(ax: Any) -> float:
    """Return about how wide the place of axes is."""
    spec = ax.get_subplotspec()
    share = 1 / spec.get_gridspec().ncols if spec is not None else ax.get_position(original=True).width
    return float(ax.get_figure(root=True).get_figwidth() * share)


class _Beside:
    """Where a colour bar stands: right of the picture, and as high."""

    def __init__(self, ax: Any, inner: Any) -> None:
        self._ax, self._inner = ax, inner

    def __call__(self, bar: Any, renderer: Any) -> Any:
        """Return the place in parts of the figure."""
        from matplotlib.transforms import Bbox

        locate = self._ax.get_axes_locator()
        self._ax.apply_aspect(locate(self._ax, renderer) if locate else None)
        whole, picture = bar.get_position(original=True), self._ax.get_position()
        part = self._inner(bar, renderer)  # without the ends that stand for larger and smaller values
        scale = picture.height / whole.height
        low = picture.y0 + (part.y0 - whole.y0) * scale
        width, height = bar.get_figure(root=True).get_size_inches()
        across = min(max(picture.height * height / 20, _THIN), _THICK) / width
        bar.set_box_aspect(None)  # the place is the bar's own already
        return Bbox.from_bounds(picture.x1 + _THIN / width, low, across, part.height * scale)

    def get_subplotspec(self) -> Any:
        """Return what tight_layout asks for."""
        return self._inner.get_subplotspec()


def beside(bar: Any, ax: Any) -> None:
    """Make a colour bar as high as the picture of its axes."""
    bar.set_axes_locator(_Beside(ax, bar.get_axes_locator()))
