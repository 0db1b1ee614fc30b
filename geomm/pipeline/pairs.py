"""Which scenes belong together: one of the first sensor that saw a place, and what others saw at nearly that time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEFT = 0.05
"""Share of a scene that no group covers, from which on it is one of its own."""

DAY = 0.5
"""Days within which scenes of one sensor count as one look, such as neighbours of one orbit."""


@dataclass(frozen=True, slots=True)
class Look:
    """A sensor saw a place at a time."""

    id: str
    """Of the item."""
    sensor: str
    """In the table of sensors."""
    time: dt.datetime
    """UTC."""
    footprint: Any
    """Geometry in degrees (shapely)."""


def pair(looks: Sequence[Look], order: Sequence[str], within: float) -> list[tuple[int, ...]]:
    """Group looks: each of the first sensor, with those of the other sensors that touch it and are nearest in time.

    Looks that hardly any group covers lead groups of their own. A look that comes later changes only the groups that it
    touches, and those of looks that it brings into or out of them.

    Args:
        looks: in any order.
        order: sensors, the leading one first.
        within: greatest distance in time of looks of different sensors, in days.

    Returns:
        Positions in ``looks`` of every group's members, the leading one first; in the order of sensors, times and ids.
    """
    import shapely

    rank = {name: k for k, name in enumerate(order)}
    ranked = sorted(range(len(looks)), key=lambda k: (rank[looks[k].sensor], looks[k].time, looks[k].id))
    inorder = [looks[k] for k in ranked]
    shapes = np.array([look.footprint for look in inorder], object)
    areas = shapely.area(shapes)
    near = _neighbours(inorder, shapes, within)
    covered: dict[int, Any] = {}
    groups = []
    for k in range(len(ranked)):
        left = shapes[k].difference(covered[k]).area if k in covered else areas[k]
        if left < LEFT * areas[k]:
            continue
        mates = _nearest(inorder, near.get(k, ()))
        for n in mates:
            covered[n] = shapely.union(covered[n], shapes[k]) if n in covered else shapes[k]
        groups.append(tuple(ranked[n] for n in (k, *mates)))
    return groups


def _neighbours(looks: Sequence[Look], shapes: Any, within: float) -> dict[int, list[tuple[float, int]]]:
    """Return of every look those of other sensors that touch it in time: how many days away, and which."""
    import shapely

    if len({look.sensor for look in looks}) < 2:
        return {}
    sensors = np.array([look.sensor for look in looks])
    days = np.array([look.time.timestamp() for look in looks]) / 86400
    one, other = shapely.STRtree(shapes).query(shapes)
    away = np.abs(days[one] - days[other])
    near = (sensors[one] != sensors[other]) & (away <= within)
    one, other, away = one[near], other[near], away[near]
    keep = shapely.intersects(shapes[one], shapes[other])  # of a few: most boxes that touch do so at other times
    found: dict[int, list[tuple[float, int]]] = {}
    for k, n, far in zip(one[keep].tolist(), other[keep].tolist(), away[keep].tolist(), strict=True):
        found.setdefault(k, []).append((far, n))
    return found


def _nearest(looks: Sequence[Look], near: Sequence[tuple[float, int]]) -> list[int]:
    """Return the looks of every sensor that are nearest in time, with those of the same pass."""
    nearest: dict[str, tuple[float, int]] = {}
    for away, n in near:
        nearest[looks[n].sensor] = min((away, n), nearest.get(looks[n].sensor, (away, n)))
    times = {sensor: looks[n].time for sensor, (_, n) in nearest.items()}
    day = dt.timedelta(days=DAY)
    return sorted(n for _, n in near if abs(looks[n].time - times[looks[n].sensor]) <= day)
