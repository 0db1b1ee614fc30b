"""Where chips lie when they do not tile a grid: at random, balanced by class, around points, at given times."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.chips.checks import check_counts, check_shape, moments_of, no_point, points_of
from geomm.chips.grid import Chip, check_chips
from geomm.chips.split import SpatialSplit, check_split
from geomm.errors import ConfigError, SplitError
from geomm.types import Window, check_whole

FAR = 10
"""Sides of the grid beyond which points are no rows and columns, but coordinates in metres."""


def random_chips(
    shape: tuple[int, int], size: int, number: int, *, seed: int = 0, within: int | None = None
) -> list[Chip]:
    """Draw chips that lie inside a grid, uniformly.

    Args:
        shape: height and width of the grid.
        size: height and width of a chip.
        number: how many.
        seed: of the generator.
        within: chips do not cross the lines at multiples of this many pixels: at 2,048, what is read for one area
            serves all of its chips. Pixels beside the lines are seen less often.

    Raises:
        ConfigError: a chip does not fit.
    """
    _check_draw(shape, size, number, seed)
    if within is not None:
        check_whole({"within": within}, fix="give a distance of lines in pixels, for example within=2048")
    cell = within or max(shape)
    if size > min(*shape, cell):
        raise ConfigError(
            "chips do not fit",
            why=f"chips of {size} pixels, grid {shape}, within {within}",
            fix="choose smaller chips, or a larger area",
        )
    generator = np.random.default_rng(seed)
    ends = [[(a, min(a + cell, n)) for a in range(0, n, cell) if min(a + cell, n) - a >= size] for n in shape]
    room = [np.array([b - a - size + 1 for a, b in e], float) for e in ends]
    chips = []
    for k in range(number):
        corner = []
        for e, r in zip(ends, room, strict=True):
            low, high = e[int(generator.choice(len(e), p=r / r.sum()))]
            corner.append(int(generator.integers(low, high - size + 1)))
        window = Window(corner[0], corner[1], size, size)
        chips.append(Chip(k, window, window))
    return chips


def label_counts(labels: NDArray[Any], cell: int, classes: int) -> NDArray[np.int64]:
    """Count class indices in cells of a grid.

    Args:
        labels: class index ``(y, x)``, or what NumPy can make an array of; values below 0, of ``classes`` and more,
            and NaN are not counted.
        cell: height and width of a cell in pixels.
        classes: number of classes.

    Returns:
        ``(rows, columns, classes)``.

    Raises:
        ConfigError: the labels have other axes, or are no whole numbers; or there is no cell or class.
    """
    check_whole({"cell": cell}, fix="give the side of a cell in pixels, for example 512")
    check_whole({"classes": classes}, fix="give how many classes there are: len(classes)")
    try:
        values = np.asarray(labels)
    except (TypeError, ValueError):  # such as a node of a cube, or rows of different length
        values = np.asarray(None)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        why = f"got {values.dtype} of the shape {values.shape}"
        fix = 'give one band of one time: label_counts(cube["label"]["data"][0, 0], 512, 3)'
        raise ConfigError("labels are class indices (y, x)", why=why, fix=fix)
    if values.dtype.kind == "f" and (values[np.isfinite(values)] % 1).any():
        raise ConfigError("labels are whole numbers", why="some are fractions", fix="give class indices, not shares")
    rows, columns = (-(-n // cell) for n in values.shape)
    counts = np.zeros((rows, columns, classes), np.int64)
    y, x = np.nonzero((values >= 0) & (values < classes))
    np.add.at(counts, (y // cell, x // cell, values[y, x].astype(np.int64)), 1)
    return counts


def balanced_chips(
    counts: NDArray[np.integer],
    cell: int,
    shape: tuple[int, int],
    size: int,
    number: int,
    *,
    seed: int = 0,
    split: tuple[SpatialSplit, str] | None = None,
) -> list[Chip]:
    """Draw chips so that every class is at the centre's cell equally often; none where there is no label.

    A class is drawn first, then a cell in proportion to how much of the class it holds, then a centre in it.

    Args:
        counts: label pixels ``(rows, columns, classes)``, see :func:`label_counts`.
        cell: height and width of a cell in pixels.
        shape: height and width of the grid.
        size: height and width of a chip; it may reach beyond the grid.
        number: how many.
        seed: of the generator.
        split: a split and a name in it, to whose blocks the centres are confined.

    Raises:
        SplitError: there is no label, or none in the split; or the counts are of other cells.
    """
    _check_draw(shape, size, number, seed)
    check_whole({"cell": cell}, fix="give the side of a cell in pixels, as in label_counts")
    weight = check_counts(counts, cell, shape).astype(float)
    generator = np.random.default_rng(seed)
    if split is not None:
        check_split(split, shape)
        weight *= _share(split, cell, weight.shape[:2])[..., None]
    present = np.flatnonzero(weight.sum((0, 1)) > 0)
    if not present.size:
        raise SplitError(
            "there is no label to draw chips around",
            where=f"split {split[1]}" if split else "the grid",
            fix="check the values of the classes, or draw with random_chips, which needs no label",
        )
    chances = {k: (weight[..., k] / weight[..., k].sum()).ravel() for k in present}
    chips: list[Chip] = []
    while len(chips) < number:
        kind = present[generator.integers(len(present))]
        row, column = divmod(int(generator.choice(chances[kind].size, p=chances[kind])), weight.shape[1])
        y, x = (
            int(generator.integers(c * cell, min((c + 1) * cell, n))) for c, n in ((row, shape[0]), (column, shape[1]))
        )
        if split is None or split[0].mask(split[1], Window(y, x, 1, 1)).all():
            chips.append(_around(len(chips), y, x, shape, size))
    return chips


def centred_chips(
    centres: Sequence[tuple[float, float]], shape: tuple[int, int], size: int, *, jitter: int = 0, seed: int = 0
) -> list[Chip]:
    """Place a chip around every point, such as the annotations of a grid; points outside the grid are left out.

    Args:
        centres: rows and columns in pixels.
        shape: height and width of the grid.
        size: height and width of a chip; it may reach beyond the grid.
        jitter: greatest displacement in pixels, so that the object is not always in the middle.
        seed: of the displacement.

    Raises:
        ConfigError: these are no points; or all lie so far from the grid that they are no rows and columns.
    """
    _check_draw(shape, size, 0, seed)
    check_whole({"jitter": jitter}, least=0, fix="give the greatest displacement in pixels, for example jitter=16")
    points = points_of(centres)
    generator = np.random.default_rng(seed)
    chips: list[Chip] = []
    for y, x in points:
        dy, dx = generator.integers(-jitter, jitter + 1, 2)
        row, column = int(np.floor(y)) + int(dy), int(np.floor(x)) + int(dx)
        if 0 <= y < shape[0] and 0 <= x < shape[1]:
            chips.append(
                _around(len(chips), min(max(row, 0), shape[0] - 1), min(max(column, 0), shape[1] - 1), shape, size)
            )
    if points and not chips and min(max(abs(y), abs(x)) for y, x in points) > FAR * max(shape):
        raise no_point(points, shape)
    return chips


def timed_chips(chips: Sequence[Chip], times: Sequence[dt.datetime | np.datetime64 | str]) -> list[Chip]:
    """Return every chip at every time: of each modality the time step nearest to it is read.

    Args:
        chips: such as a :class:`geomm.ChipGrid`.
        times: as datetimes, as texts such as ``2020-06-01T10:00``, or as ``cube[...]["time"]`` has them; UTC.

    Raises:
        ConfigError: these are no chips, or no times.
    """
    check_chips(chips)
    return [
        dataclasses.replace(c, index=k * len(chips) + n, time=t)
        for k, t in enumerate(moments_of(times))
        for n, c in enumerate(chips)
    ]


def _check_draw(shape: Any, size: Any, number: Any, seed: Any) -> None:
    check_shape(shape)
    check_whole({"size": size}, fix="give the side of a chip in pixels, for example 128")
    check_whole({"number": number}, least=0, fix="give how many chips to draw, for example 1000")
    check_whole({"seed": seed}, least=0, fix="give a whole number of at least 0, for example seed=0")


def _around(index: int, y: int, x: int, shape: tuple[int, int], size: int) -> Chip:
    window = Window(y - size // 2, x - size // 2, size, size)
    return Chip(index, window, window.clip(shape))


def _share(split: tuple[SpatialSplit, str], cell: int, counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return which part of every cell belongs to a split."""
    parts = np.zeros(counts)
    for row in range(counts[0]):
        mask = split[0].mask(split[1], Window(row * cell, 0, cell, counts[1] * cell))
        parts[row] = mask.reshape(cell, counts[1], cell).mean((0, 2))
    return parts
