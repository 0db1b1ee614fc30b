"""What chips look like: all modalities of some of them, aligned, with label and text; where they lie."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomm import radiometry
from geomm.cards import COLOURS, Drawing, beside, card, facts, table, windows
from geomm.chipping.batch import ChipArrays
from geomm.cube.plots.draw import frame, legend
from geomm.cube.plots.explore import map_of
from geomm.cube.plots.ground import proportion_of
from geomm.cube.plots.layout import settle
from geomm.cube.plots.stretch import colours_of, shown_bands
from geomm.errors import ConfigError
from geomm.sensors import get_sensor
from geomm.types import INVALID_CLASS, ClassSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = 1.9
"""Width of a chip."""
_LETTERS = 30
"""Letters of a text that fit below a chip."""


class ChipViews:
    """Pictures of a source of chips, for those that look at them before they train on them."""

    if TYPE_CHECKING:
        table: Any
        """One row per chip, with its footprint in degrees and, where there are splits, the column ``split``."""

        def __len__(self) -> int: ...

        def read(self, numbers: Sequence[int]) -> ChipArrays:
            """Read some chips."""

        def streams(self) -> Mapping[str, Mapping[str, Any]]:
            """Return modality to sensor, bands and units."""

    def plot(self, n: int = 4, *, numbers: Sequence[int] = (), classes: Sequence[ClassSpec] = ()) -> Any:
        """Show chips, a row for each: every modality, the label, the text; all of one modality stretched alike.

        Args:
            n: how many, evenly chosen.
            numbers: which; default ``n`` of all.
            classes: names and colours of the label.

        Returns:
            Array of axes ``(chips, modalities and label)``.

        Raises:
            ConfigError: there is no chip, or no such chip, or these are no numbers or classes.
        """
        size = len(self)
        _check(n, numbers, classes)
        if not size or n < 1:
            raise ConfigError("there is no chip to show", why=f"{size} chips, {n} asked for", fix="ask for one or more")
        chosen = list(numbers) or np.unique(np.linspace(0, size - 1, min(n, size)).round().astype(int)).tolist()
        if not all(-size <= k < size for k in chosen):
            raise ConfigError("there is no such chip", why=f"asked for {chosen}", fix=f"numbers from 0 to {size - 1}")
        places = [k % size for k in chosen]
        tall = proportion_of(list(self.table.geometry.iloc[places]))
        return plot_arrays(self.read(places), self.streams(), classes, tall=tall)

    def explore(self, *, map: Any | None = None) -> Any:  # noqa: A002
        """Lay the footprints over a map to pan in, in the colours of their splits.

        Args:
            map: folium map to add to; default a new one.

        Returns:
            A folium map.

        Raises:
            DependencyError: folium is not installed.
        """
        return map_of(_groups(self.table), onto=map)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} chips of {', '.join(self.streams())})"

    def _repr_html_(self) -> str:
        return chips_card(type(self).__name__, len(self), self.streams(), self.table)


def plot_arrays(
    arrays: ChipArrays,
    about: Mapping[str, Mapping[str, Any]],
    classes: Sequence[ClassSpec] = (),
    *,
    tall: float = 1.0,
) -> NDArray[np.object_]:
    """Draw a batch of chips; see :meth:`ChipViews.plot`.

    Args:
        arrays: the batch.
        about: modality to sensor and bands.
        classes: names and colours of the label.
        tall: how many times higher than wide pixels are on the ground.
    """
    from matplotlib import pyplot as plt

    number, labelled = len(arrays.index), arrays.target is not None
    columns = len(arrays.images) + labelled
    size = (_INCHES * columns + 0.3, (_INCHES * tall + 0.5) * number + 0.9)
    figure, axes = plt.subplots(number, columns, figsize=size, squeeze=False, layout="constrained")
    for column, name in enumerate(arrays.images):
        title, rows = _pictures(arrays, name, about[name])
        for row, rgba in enumerate(rows):
            frame(axes[row, column], rgba, f"{name}\n{title}" if row == 0 else "", None, tall=tall)
    if labelled:
        _labels(axes[:, -1], arrays, classes, tall)
    for row, number_ in enumerate(arrays.index.tolist()):
        text = arrays.text[row] if arrays.text else ""
        axes[row, 0].set_ylabel(f"chip {number_}", fontsize=8)
        if text:
            lines = textwrap.wrap(text, _LETTERS * columns, max_lines=3, placeholder=" ...")
            axes[row, 0].set_xlabel("\n".join(lines).replace("$", r"\$"), fontsize=8, loc="left")
    figure.align_ylabels()
    settle(axes)
    found: NDArray[np.object_] = axes
    return found


def _pictures(arrays: ChipArrays, name: str, about: Mapping[str, Any]) -> tuple[str, list[NDArray[np.uint8]]]:
    """Return what is shown of a modality, and the colours of every chip."""
    sensor, bands = get_sensor(str(about["sensor"])), list(about["bands"])
    dtype = arrays.images[name].dtype
    chosen = shown_bands(sensor, bands, dtype)
    valid = arrays.valid[name]
    steps = valid.any((2, 3)).argmax(1)  # the first time step that holds anything
    chips = []
    for b, step in enumerate(steps):
        table = arrays.calibration[name][b, step][chosen].T[:, :, None, None]
        stored = arrays.images[name][b, step][chosen].astype(np.float32)
        value = radiometry.to_physical(stored, *(table if np.isfinite(table[2]).any() else table[:2]))
        chips.append(np.where(valid[b, step], value, np.nan))
    joined = np.concatenate(chips, 1).astype(np.float32)  # one below the other: one stretch for all
    picture = colours_of(joined, [sensor.band(bands[k]) for k in chosen], dtype=dtype)
    unit = f" ({picture.unit})" if picture.unit and not picture.classes else ""
    return f"{picture.title}{unit}", np.split(picture.rgba, len(chips))


def _check(n: Any, numbers: Any, classes: Any) -> None:
    """Refuse what is no number of chips, no numbers of chips, or no classes."""
    if isinstance(n, (Sequence, np.ndarray)) and not isinstance(n, str):
        fix = f"write plot(numbers={list(n)[:12]})"
        raise ConfigError("n is how many chips are shown", where=f"n {str(n)[:60]}", why="these are several", fix=fix)
    if not isinstance(n, (int, np.integer)):
        raise ConfigError("n is how many chips are shown", where=f"n {n!r}"[:80], fix="write plot(4)")
    if isinstance(numbers, (int, np.integer)):
        raise ConfigError("numbers are those of several chips", where=f"{numbers}", fix=f"write numbers=[{numbers}]")
    if not all(isinstance(k, (int, np.integer)) for k in numbers):
        raise ConfigError("numbers of chips are whole", where=repr(numbers)[:80], fix="write numbers=[3, 5]")
    if isinstance(classes, ClassSpec) or not all(isinstance(c, ClassSpec) for c in classes):
        fix = 'classes=[ClassSpec(0, "clear", "#3f7f4f"), ...]'
        raise ConfigError("classes are a list of ClassSpec", where=repr(classes)[:80], fix=fix)


def _labels(axes: Sequence[Axes], arrays: ChipArrays, classes: Sequence[ClassSpec], tall: float) -> None:
    """Draw the targets; classes without a name are numbers."""
    assert arrays.target is not None
    seen = sorted(set(np.unique(arrays.target).tolist()) - {INVALID_CLASS})
    named = dict(enumerate(classes)) or {k: ClassSpec(k, str(k), COLOURS[k % len(COLOURS)]) for k in seen}
    colours = np.full((256, 4), 255, np.uint8)
    colours[INVALID_CLASS] = 0
    for k, spec in named.items():
        colours[k, :3] = spec.rgb
    for row, (ax, target) in enumerate(zip(axes, arrays.target, strict=True)):
        frame(ax, colours[target], "label" if row == 0 else "", None, tall=tall)
    legend(axes[-1], [named[k] for k in seen if k in named])


def _groups(frame_: Any) -> dict[str, Any]:
    """Return split to footprints; all under one name where there are no splits."""
    if "split" not in frame_:
        return {"chips": frame_.geometry}
    return {str(name): part.geometry for name, part in frame_.groupby("split", sort=False)}


def chips_card(kind: str, number: int, about: Mapping[str, Mapping[str, Any]], frame_: Any) -> str:
    """Return HTML that says what a source of chips holds; no pixel is read."""
    rows = [[n, str(a.get("sensor", "?")), " ".join(a["bands"]), str(a.get("units", "?"))] for n, a in about.items()]
    parts = {n: g.total_bounds for n, g in _groups(frame_).items()} if number else {}
    sizes = sorted({int(s) for s in frame_["size"]}) if number and "size" in frame_ else []
    told = {
        "chips": f"{number:,}" + (f" of {' or '.join(f'{s} x {s}' for s in sizes)} pixels" if sizes else ""),
        "splits": ", ".join(f"{n} {len(g):,}" for n, g in _groups(frame_).items()) if len(parts) > 1 else "",
    }
    streams = table(["modality", "sensor", "bands", "unit"], rows)
    return card(kind, [beside(_plan(frame_, number), facts(told)), streams], kind="chips")


def _plan(frame_: Any, number: int) -> Drawing:
    """Draw where chips lie in their grid; nothing where they are of several."""
    if not number or not {"y", "x", "size"} <= set(frame_) or ("site" in frame_ and frame_["site"].nunique() > 1):
        return Drawing()
    shape = int((frame_["y"] + frame_["size"]).max()), int((frame_["x"] + frame_["size"]).max())
    names = frame_["split"] if "split" in frame_ else ["chips"] * number
    groups: dict[str, list[tuple[int, int, int, int]]] = {}
    for name, y, x, size in zip(names, frame_["y"], frame_["x"], frame_["size"], strict=True):
        groups.setdefault(str(name), []).append((int(y), int(x), int(size), int(size)))
    return windows(shape, groups)
