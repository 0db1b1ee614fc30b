"""In which order chips are read: area by area, so that what is decoded once serves all chips of an area.

The grid is cut into square areas, and these are visited group by group. In grid order the chips of an area follow each
other. Shuffled, several areas in different places are open at a time and every batch takes its chips from all of them
in turn: each source block is still decoded about once, and the chips of a batch come from as many places. Both are
plain functions of the seed and the epoch: every process of a distributed run computes the same order and takes its own
part of it, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geomm.chips.grid import Chip
from geomm.errors import ConfigError
from geomm.types import Window

AREA = 1024
"""Height and width in pixels of what is read at once: 37 MB for 13 bands of three sensors."""
GROUP = 2
"""Areas along a side of a group, which are read one after the other: they share the blocks of coarser bands."""
RUN = 3
"""Neighbouring groups that are visited one after the other when shuffled."""
PANEL = 3
"""Groups along a row; wider grids are read in panels, so that what is kept for the next row does not grow with them."""


@dataclass(frozen=True, slots=True)
class Visit:
    """An area that is read at once."""

    window: Window
    """The smallest that holds its chips, cut to the grid."""
    chips: tuple[int, ...]
    """Their positions in the list of chips."""
    scope: int
    """Number of the panel or group: source blocks are kept for later visits of the same scope."""


@dataclass(frozen=True, slots=True)
class Itinerary:
    """All that one process reads in one epoch."""

    visits: tuple[Visit, ...]
    """In the order in which they are first needed."""
    draws: NDArray[np.int64]
    """``(number, 2)``: position of the visit and of the chip, in the order of delivery."""

    def batches(self, size: int) -> list[NDArray[np.int64]]:
        """Cut the draws into batches; the last may be smaller."""
        return [self.draws[k : k + size] for k in range(0, len(self.draws), size)]

    def joined(self, scopes: int) -> Itinerary:
        """Return the same with this many scopes made one: no block is decoded for each, but more are kept."""
        return replace(self, visits=tuple(replace(v, scope=v.scope // scopes) for v in self.visits))


@dataclass(frozen=True, slots=True)
class ChipOrder:
    """The order of a list of chips.

    >>> from geomm.chips import ChipGrid
    >>> grid = ChipGrid((4096, 4096), 256)
    >>> order = ChipOrder(tuple(grid), grid.shape)
    >>> [chip for _, chip in order.epoch(0).draws[:6]] == [0, 1, 2, 3, 16, 17]
    True
    """

    chips: tuple[Chip, ...]
    """What is read."""
    shape: tuple[int, int]
    """Height and width of the grid."""
    lanes: int = 0
    """Areas in different places from which a batch is drawn in turn; 0 for the order of the grid."""
    seed: int = 0
    """Of the shuffling."""
    rank: int = 0
    """Number of this process."""
    world: int = 1
    """Processes that share the chips."""
    area: int = AREA
    """Height and width of an area in pixels."""

    def __post_init__(self) -> None:
        if self.lanes < 0 or self.area < 1 or not 0 <= self.rank < self.world:
            raise ConfigError(
                "an order needs a positive area, at least 0 lanes and a rank below the number of processes",
                why=f"area {self.area}, lanes {self.lanes}, rank {self.rank} of {self.world}",
                fix="ranks count from 0; shuffle 0 is the order of the grid",
            )

    def epoch(self, number: int) -> Itinerary:
        """Return what this process reads in an epoch.

        In grid order every chip is read by one process, once. Shuffled, processes that have fewer chips than others
        repeat some of theirs, so that all deliver the same number.
        """
        groups = _groups(self.chips, self.shape, self.area)
        if sum(len(g) for g in groups) < self.world:  # few areas for many processes: share them by chips
            groups = [[v] for v in _divided([v for g in groups for v in g], self.chips, self.shape, self.world)]
        elif len(groups) < self.world:
            groups = [[v] for g in groups for v in g]
        if not self.lanes:
            share = -(-len(groups) // self.world)
            return _in_order([v for g in groups[self.rank * share : (self.rank + 1) * share] for v in g])
        runs = _runs(groups, RUN if len(groups) >= RUN * 2 * self.lanes * self.world else 1)
        order = np.random.default_rng([self.seed, number]).permutation(len(runs))
        shares = [[runs[k] for k in order[r :: self.world]] for r in range(self.world)]
        mine = _shuffled(shares[self.rank], self.lanes, np.random.default_rng([self.seed, number, self.rank]))
        return _repeated(mine, max((sum(len(v.chips) for run in s for g in run for v in g) for s in shares), default=0))


def _groups(chips: Sequence[Chip], shape: tuple[int, int], area: int) -> list[list[Visit]]:
    """Sort chips into areas by the middle of what they read, and areas into groups, panel by panel."""
    side, found = area * GROUP, dict[tuple[int, ...], dict[tuple[int, int], list[int]]]()
    for k, chip in enumerate(chips):
        y = min(max(chip.read.y + chip.read.height // 2, 0), shape[0] - 1)
        x = min(max(chip.read.x + chip.read.width // 2, 0), shape[1] - 1)
        group = (x // (side * PANEL), y // side, x // side)
        found.setdefault(group, {}).setdefault((y // area, x // area), []).append(k)
    return [
        [Visit(_hull([chips[k] for k in mine], shape), tuple(mine), key[0]) for _, mine in sorted(found[key].items())]
        for key in sorted(found)
    ]


def _runs(groups: list[list[Visit]], length: int) -> list[list[list[Visit]]]:
    """Join neighbouring groups, and number the scopes anew: one for each run."""
    return [
        [[replace(v, scope=number) for v in group] for group in groups[start : start + length]]
        for number, start in enumerate(range(0, len(groups), length))
    ]


def _hull(chips: Sequence[Chip], shape: tuple[int, int]) -> Window:
    top, left = min(c.read.y for c in chips), min(c.read.x for c in chips)
    bottom, right = max(c.read.y + c.read.height for c in chips), max(c.read.x + c.read.width for c in chips)
    return Window(top, left, bottom - top, right - left).clip(shape)


def _divided(visits: list[Visit], chips: Sequence[Chip], shape: tuple[int, int], parts: int) -> list[Visit]:
    """Cut visits, the largest first, until there are as many as parts, or one for every chip."""
    while len(visits) < parts and max((len(v.chips) for v in visits), default=0) > 1:
        visits.sort(key=lambda v: -len(v.chips))
        first, *rest = visits
        half = len(first.chips) // 2
        halves = (first.chips[:half], first.chips[half:])
        visits = rest + [Visit(_hull([chips[k] for k in part], shape), part, first.scope) for part in halves]
    return visits


def _in_order(visits: list[Visit]) -> Itinerary:
    draws = [(n, chip) for n, visit in enumerate(visits) for chip in visit.chips]
    return Itinerary(tuple(visits), np.array(draws, np.int64).reshape(-1, 2))


@dataclass(slots=True)
class _Open:
    """An area that chips are being drawn from."""

    visit: Visit
    left: list[int]
    number: int = -1


def _shuffled(runs: list[list[list[Visit]]], lanes: int, generator: np.random.Generator) -> Itinerary:
    """Draw chips from ``lanes`` runs at a time, in turn, each visiting its areas one after the other."""
    waiting = list(reversed(runs))
    going = [_laid_out(waiting.pop(), generator) for _ in range(min(lanes, len(waiting)))]
    visits: list[Visit] = []
    draws: list[tuple[int, int]] = []
    # At first lanes are drawn from at different speeds, so that they do not all run out of chips at once.
    speed, credit = np.arange(1.0, len(going) + 1), np.zeros(len(going))
    while going:
        credit += speed
        lane = int(credit.argmax())
        credit[lane] -= speed.sum()
        area = going[lane][-1]
        if area.number < 0:
            area.number = len(visits)
            visits.append(area.visit)
        draws.append((area.number, area.left.pop()))
        if area.left:
            continue
        going[lane].pop()
        speed = np.ones_like(speed)
        if not going[lane] and waiting:
            going[lane] = _laid_out(waiting.pop(), generator)
        elif not going[lane]:
            del going[lane]
            speed, credit = speed[1:], np.delete(credit, lane)
    return Itinerary(tuple(visits), np.array(draws, np.int64).reshape(-1, 2))


def _laid_out(run: list[list[Visit]], generator: np.random.Generator) -> list[_Open]:
    """Shuffle areas in their groups and chips in their areas; groups follow each other one way or the other."""
    groups = run if generator.integers(2) else run[::-1]
    visits = [group[k] for group in groups for k in generator.permutation(len(group))]
    return [_Open(v, [int(c) for c in generator.permutation(v.chips)]) for v in visits]


def _repeated(itinerary: Itinerary, number: int) -> Itinerary:
    """Go round again until there are as many draws."""
    missing = number - len(itinerary.draws)
    if missing <= 0 or not len(itinerary.draws):
        return itinerary
    rounds = -(-missing // len(itinerary.draws))
    again = [np.add(itinerary.draws, (n * len(itinerary.visits), 0)) for n in range(rounds + 1)]
    return Itinerary(itinerary.visits * (rounds + 1), np.concatenate(again)[:number])
