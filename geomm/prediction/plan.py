"""Which blocks a map is made of and which chips answer for each: integers only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

from geomm.chips import Chip, Visit
from geomm.prediction.settings import PredictSettings
from geomm.types import Window

PANEL = 6144
"""Width in pixels of what is mapped row by row: source blocks that the next row needs too are kept, so wider grids are
mapped in panels, whose width the memory depends on instead."""


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    """A block of the output and what it takes."""

    window: Window
    """What is written, inside the grid."""
    chips: tuple[Chip, ...]
    """What answers for it; blended, also the neighbours whose margins reach into it."""
    panel: int
    """Number of the panel: source blocks are kept for later blocks of the same one."""

    @property
    def read(self) -> Window:
        """The smallest window that holds what the chips read; may reach outside the grid."""
        top, left = min(c.read.y for c in self.chips), min(c.read.x for c in self.chips)
        bottom = max(c.read.y + c.read.height for c in self.chips)
        right = max(c.read.x + c.read.width for c in self.chips)
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class PredictPlan:
    """The chips of a grid, the same whatever the blocks, and the blocks.

    Chips lie on one lattice and all read equally much. Those at the border read further inside instead of outside, so
    that a network's own padding lies where it would lie if it saw the whole grid. Where the written part is a multiple
    of the network's coarsest stride, so is every position, and cells of coarse levels fall where they would.

    >>> plan = PredictPlan((100, 100), PredictSettings(32, 8, 64), stride=8)
    >>> [(c.read.y, c.read.height, c.write.y, c.write.height) for c in plan.lattice[::3]]
    [(0, 48, 0, 40), (32, 48, 40, 32), (56, 48, 72, 28)]
    >>> len(plan.blocks)
    4
    """

    shape: tuple[int, int]
    """Height and width of the grid."""
    settings: PredictSettings
    """Sizes and blend."""
    stride: int = 1
    """Pixels per cell of the network's coarsest level."""
    any_size: bool = False
    """Whether chips may have any whole number of cells: those of a smaller grid then end where it ends."""

    @property
    def halo(self) -> int:
        """The margin, rounded up to whole cells where chips are whole cells."""
        halo = self.settings.halo
        return halo if self.settings.size % self.stride else -(-halo // self.stride) * self.stride

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of what every chip reads."""
        side = self.settings.size + 2 * self.halo
        if not self.any_size or self.settings.size % self.stride:
            return side, side
        height, width = (min(side, -(-n // self.stride) * self.stride) for n in self.shape)
        return height, width

    @cached_property
    def lattice(self) -> tuple[Chip, ...]:
        """All chips, row by row."""
        rows, columns = (pairwise(self._edges(axis)) for axis in (0, 1))
        places = product(list(rows), list(columns))
        return tuple(
            Chip(
                index,
                Window(self._start(top, 0), self._start(left, 1), *self.sides),
                Window(top, left, bottom - top, right - left),
            )
            for index, ((top, bottom), (left, right)) in enumerate(places)
        )

    def _edges(self, axis: int) -> list[int]:
        """Return where written parts begin and end along an axis.

        Those at the border have no margin on one side, and are larger by as much.
        """
        length, size = self.shape[axis], self.settings.size
        inner = range(size + self.halo, max(length - self.halo, 0), size)
        return [0, *inner, length]

    def _start(self, written: int, axis: int) -> int:
        """Return where reading starts along an axis."""
        cells = 1 if self.settings.size % self.stride else self.stride
        last = -(-self.shape[axis] // cells) * cells - self.sides[axis]
        return max(min(written - self.halo, last), 0) if last > 0 else 0

    @cached_property
    def blocks(self) -> tuple[PlannedBlock, ...]:
        """All blocks, panel by panel, row by row."""
        many = self.settings.block // self.settings.size
        rows, columns = (self._groups(self._edges(axis), many) for axis in (0, 1))
        wide = max(PANEL // self.settings.block, 1)
        order = sorted(product(range(len(rows)), range(len(columns))), key=lambda p: (p[1] // wide, p))
        return tuple(self._block(rows[r], columns[c], c // wide) for r, c in order)

    def _groups(self, edges: list[int], many: int) -> list[tuple[int, int]]:
        """Return first and last edge of every ``many`` chips."""
        ends = [*edges[:-1:many], edges[-1]]
        return list(pairwise(ends))

    def _block(self, rows: tuple[int, int], columns: tuple[int, int], panel: int) -> PlannedBlock:
        """Return a block with the chips that write into it, or, blended, that read any of it."""
        window = Window(rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0])
        wide, blended = len(self._edges(1)) - 1, self.settings.blend != "trim"
        chosen = []
        for axis, (start, end) in enumerate((rows, columns)):
            parts = list(enumerate(pairwise(self._edges(axis))))
            spans = [(k, self._start(a, axis), self.sides[axis]) if blended else (k, a, b - a) for k, (a, b) in parts]
            chosen.append([k for k, first, length in spans if first < end and first + length > start])
        return PlannedBlock(window, tuple(self.lattice[r * wide + c] for r in chosen[0] for c in chosen[1]), panel)

    def visits(self, blocks: tuple[PlannedBlock, ...]) -> tuple[Visit, ...]:
        """Return what some blocks read, in their order."""
        return tuple(Visit(b.read.clip(self.shape), tuple(c.index for c in b.chips), b.panel) for b in blocks)
