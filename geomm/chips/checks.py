"""What people give in place of a grid's shape, of chips, of shares and of points."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError, SplitError
from geomm.types import check_whole

_PIXELS = "rows and columns in pixels are wanted: column, row = ~grid.affine @ (x, y), with x and y in the grid's CRS"


def check_shape(shape: Any) -> None:
    """Refuse what is no height and width.

    Raises:
        ConfigError: it is something else, such as a grid, or the shape of an array with more axes.
    """
    if not isinstance(shape, Collection) or isinstance(shape, (str, Mapping)) or len(shape) != 2:
        fix = 'give height and width: cube["optical"]["data"].shape[-2:]'
        where = repr(shape)[:80]
        if hasattr(shape, "affine"):
            where, fix = type(shape).__name__, "give height and width: grid.shape"
        raise ConfigError("the shape of a grid is height and width", where=where, fix=fix)
    height, width = shape
    check_whole({"height": height, "width": width}, fix="give height and width in pixels: (1000, 1000)")


def check_shares(fractions: Any) -> None:
    """Refuse what are no shares.

    Raises:
        SplitError: they have no names, are no numbers, or do not sum to one.
    """
    example = "{'train': 0.7, 'validation': 0.15, 'test': 0.15}"
    if not isinstance(fractions, Mapping):
        raise SplitError("the shares of the splits have names", where=repr(fractions)[:80], fix=f"give {example}")
    if not all(_is_number(v) and isfinite(v) for v in fractions.values()):
        raise SplitError("the shares of the splits are no numbers", where=repr(fractions)[:80], fix=f"give {example}")
    total = sum(fractions.values())
    if fractions and abs(total - 1.0) <= 1e-6 and min(fractions.values()) > 0:
        return
    scalable = fractions and min(fractions.values()) > 0
    fix = f"give { ({n: round(v / total, 3) for n, v in fractions.items()}) }" if scalable else f"give {example}"
    why = f"{dict(fractions)}, together {total:g}"
    raise SplitError("the shares of the splits are not positive with sum one", why=why, fix=fix)


def _is_number(value: object) -> bool:
    return isinstance(value, (Real, np.bool_)) and not isinstance(value, (bool, np.bool_))


def check_counts(counts: Any, cell: int, shape: tuple[int, int], name: str = "cell") -> NDArray[Any]:
    """Return label pixels per cell and class, once they are those of a grid.

    Raises:
        SplitError: they are something else, such as the labels themselves, or of other cells.
    """
    found = np.asarray(counts)
    wanted = tuple(-(-int(n) // cell) for n in shape)
    fix = f"count the labels in these cells: label_counts(labels, {cell}, len(classes))"
    if found.ndim != 3 or found.dtype.kind not in "iuf" or found.shape[:2] != wanted:
        why = f"they have the shape {found.shape}, but {name} {cell} cuts the grid {tuple(shape)} into {wanted} cells"
        raise SplitError("the counts are not (rows, columns, classes)", why=why, fix=fix)
    if not np.isfinite(found).all() or (found < 0).any():
        raise SplitError("the counts are no numbers of pixels", why="some are below 0, or not finite", fix=fix)
    return found


def points_of(centres: Any) -> list[tuple[float, float]]:
    """Return rows and columns.

    Raises:
        ConfigError: they are something else, such as geometries, one pair alone, or not finite.
    """
    try:
        points = np.asarray([(y, x) for y, x in centres], np.float64).reshape(-1, 2)
        wrong = np.flatnonzero(~np.isfinite(points).all(1))
    except (TypeError, ValueError) as error:
        fix = f"give a list of pairs, [(row, column), ...]; {_PIXELS}"
        where = type(centres).__name__ if hasattr(centres, "crs") else repr(centres)[:80]
        raise ConfigError("these are no points of a grid", where=where, why=str(error), fix=fix) from error
    if wrong.size:
        where, fix = f"point {wrong[0]}: {tuple(points[wrong[0]].tolist())}", "leave out points without a place"
        raise ConfigError("a point is no pair of numbers", where=where, fix=fix)
    return [(float(y), float(x)) for y, x in points]


def no_point(points: Sequence[tuple[float, float]], shape: tuple[int, int]) -> ConfigError:
    """Return the error for points that are no rows and columns of a grid."""
    why = f"the first is row {points[0][0]:g}, column {points[0][1]:g}; the grid has {shape[0]} x {shape[1]} pixels"
    return ConfigError("no point lies in the grid", why=why, fix=_PIXELS)


def moments_of(times: Any) -> list[dt.datetime]:
    """Return times: given as such, as text, or as numpy has them; one alone is a list of one.

    Raises:
        ConfigError: one is something else.
    """
    if isinstance(times, (str, dt.date, np.datetime64)):
        times = [times]
    found: list[dt.datetime] = []
    if not hasattr(times, "__iter__"):
        raise ConfigError("there are no times", where=repr(times)[:80], fix="give a list: ['2020-06-01T10:00']")
    for moment in getattr(times, "values", times):
        given: Any = moment
        try:
            if isinstance(given, str):
                given = dt.datetime.fromisoformat(given)
            elif isinstance(given, np.datetime64):
                given = given.astype("datetime64[us]").item()
            elif isinstance(given, dt.date) and not isinstance(given, dt.datetime):
                given = dt.datetime(given.year, given.month, given.day)  # noqa: DTZ001 UTC, as texts without a zone
        except ValueError:
            given = None
        if not isinstance(given, dt.datetime) or str(given) == "NaT":
            fix = "give datetimes, or texts such as '2020-06-01T10:00'"
            raise ConfigError("a time cannot be understood", where=repr(moment)[:80], fix=fix)
        found.append(given)
    return found
