"""Which blocks a map is made of and which chips answer for each: integers only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from geomm.chips import Chip, ChipGrid, Visit
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
    >>> [(c.read.y, c.read.height, c.write.y, c.write.height) for c in plan.lattice[::4]]
    [(0, 48, 0, 32), (24, 48, 32, 32), (56, 48, 64, 32), (56, 48, 96, 4)]
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
        return tuple(
            Chip(c.index, Window(self._start(c.write.y, 0), self._start(c.write.x, 1), *self.sides), c.write)
            for c in ChipGrid(self.shape, self.settings.size)
        )

    def _start(self, written: int, axis: int) -> int:
        """Return where reading starts along an axis."""
        cells = 1 if self.settings.size % self.stride else self.stride
        last = -(-self.shape[axis] // cells) * cells - self.sides[axis]
        return max(min(written - self.halo, last), 0) if last > 0 else 0

    @cached_property
    def blocks(self) -> tuple[PlannedBlock, ...]:
        """All blocks, panel by panel, row by row."""
        grid = ChipGrid(self.shape, self.settings.block)
        wide = max(PANEL // self.settings.block, 1) * self.settings.block
        order = sorted(grid, key=lambda c: (c.write.x // wide, c.index))
        return tuple(PlannedBlock(b.write, self._chips_of(b.write), b.write.x // wide) for b in order)

    def _chips_of(self, block: Window) -> tuple[Chip, ...]:
        """Return the chips that write into a block, or, blended, that read any of it."""
        size, wide = self.settings.size, ChipGrid(self.shape, self.settings.size).counts[1]
        rows, columns = (
            self._near(start, length, axis) if self.settings.blend != "trim" else self._own(start, length, size)
            for axis, (start, length) in enumerate(((block.y, block.height), (block.x, block.width)))
        )
        return tuple(self.lattice[r * wide + c] for r in rows for c in columns)

    def _own(self, start: int, length: int, size: int) -> range:
        return range(start // size, -(-(start + length) // size))

    def _near(self, start: int, length: int, axis: int) -> list[int]:
        """Return the positions along an axis of chips that read any pixel of a block."""
        starts = [self._start(k, axis) for k in range(0, self.shape[axis], self.settings.size)]
        return [k for k, s in enumerate(starts) if s < start + length and s + self.sides[axis] > start]

    def visits(self, blocks: tuple[PlannedBlock, ...]) -> tuple[Visit, ...]:
        """Return what some blocks read, in their order."""
        return tuple(Visit(b.read.clip(self.shape), tuple(c.index for c in b.chips), b.panel) for b in blocks)
