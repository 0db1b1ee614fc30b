"""Chips: integer windows of a grid that are read, and the parts of them that are answered for.

A chip says what to *read* (with its margin, always the same size), what to *write* (tiles that cover every pixel
exactly once) and, from both, what to *trim*. Planned by integer arithmetic alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, overload

from geomm.errors import ConfigError
from geomm.types import Window, check_whole


@dataclass(frozen=True, slots=True)
class Chip:
    """The unit of training and inference."""

    index: int
    """Position in its plan."""
    read: Window
    """What the model sees; may reach outside the grid, where pixels are invalid."""
    write: Window
    """What it answers for; always inside the grid."""
    time: dt.datetime | None = None
    """Of every modality the time step nearest to it is read; None for all time steps."""

    @property
    def trim(self) -> Window:
        """The written part in the coordinates of what was read."""
        return self.write.relative_to(self.read)


@dataclass(frozen=True, slots=True)
class ChipGrid:
    """Tiles of ``size`` that cover a grid exactly once, each read with ``halo`` pixels more on every side.

    >>> grid = ChipGrid((5, 7), size=4, halo=1)
    >>> [(c.write.y, c.write.x, *c.write.shape) for c in grid]
    [(0, 0, 4, 4), (0, 4, 4, 3), (4, 0, 1, 4), (4, 4, 1, 3)]
    >>> grid[0].read
    Window(y=-1, x=-1, height=6, width=6)
    """

    shape: tuple[int, int]
    """Height and width of the grid."""
    size: int
    """Height and width of a tile."""
    halo: int = 0
    """Margin that is read but not written."""

    def __post_init__(self) -> None:
        shape: Any = self.shape
        if not isinstance(shape, Collection) or isinstance(shape, (str, Mapping)) or len(shape) != 2:
            fix = 'give height and width: cube["optical"]["data"].shape[-2:]'
            raise ConfigError("the shape of a grid is height and width", where=f"{self.shape!r}"[:80], fix=fix)
        fix = "for example ChipGrid((1000, 1000), 256, 32)"
        sizes = {"height": self.shape[0], "width": self.shape[1], "size": self.size, "halo": self.halo}
        check_whole(sizes, least=None, fix=fix)
        if self.size < 1 or self.halo < 0 or min(self.shape) < 1:
            raise ConfigError(
                "a chip grid needs a positive size and grid and a halo of at least 0",
                why=f"got grid {self.shape}, size {self.size}, halo {self.halo}",
                fix="for example ChipGrid((1000, 1000), 256, 32)",
            )

    @classmethod
    def overlapping(cls, shape: tuple[int, int], size: int, overlap: int) -> ChipGrid:
        """Return chips that *read* ``size`` pixels, each sharing ``overlap`` of them with its neighbour.

        Raises:
            ConfigError: the overlap is odd, or leaves nothing of a chip.
        """
        if overlap % 2 or not 0 <= overlap < size:
            raise ConfigError(
                "chips overlap by an even number of pixels, less than their size",
                why=f"size {size}, overlap {overlap}",
                fix=f"for example overlap {max(0, min(int(overlap), int(size) - 2)) // 2 * 2}",
            )
        return cls(shape, size - overlap, overlap // 2)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of tiles along y and x."""
        return -(-self.shape[0] // self.size), -(-self.shape[1] // self.size)

    def __len__(self) -> int:
        rows, columns = self.counts
        return rows * columns

    @overload
    def __getitem__(self, index: int) -> Chip: ...

    @overload
    def __getitem__(self, index: slice) -> list[Chip]: ...

    def __getitem__(self, index: int | slice) -> Chip | list[Chip]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, self.counts[1])
        full = Window(row * self.size, column * self.size, self.size, self.size)
        return Chip(index, full.expand(self.halo), full.clip(self.shape))

    def __iter__(self) -> Iterator[Chip]:
        return (self[k] for k in range(len(self)))
