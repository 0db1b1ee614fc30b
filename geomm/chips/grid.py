"""Chips: integer windows of a grid that are read, and the parts of them that are answered for.

A chip says what to *read* (with its margin, always the same size), what to *write* (tiles that cover every pixel
exactly once) and, from both, what to *trim*. Planned by integer arithmetic alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

from geomm.chips.checks import check_shape
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
        check_shape(self.shape)
        fix = "for example ChipGrid((1000, 1000), 256, 32)"
        check_whole({"size": self.size, "halo": self.halo}, least=None, fix=fix)
        if self.size < 1 or self.halo < 0:
            raise ConfigError(
                "a chip grid needs a positive size and a halo of at least 0",
                why=f"got grid {self.shape}, size {self.size}, halo {self.halo}",
                fix="for example ChipGrid((1000, 1000), 256, 32)",
            )

    @classmethod
    def overlapping(cls, shape: tuple[int, int], size: int, overlap: int) -> ChipGrid:
        """Return chips that *read* ``size`` pixels, each sharing ``overlap`` of them with its neighbour.

        Raises:
            ConfigError: the overlap is odd, or leaves nothing of a chip.
        """
        check_whole({"size": size, "overlap": overlap}, least=None, fix="for example size 256, overlap 32")
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


def check_chips(chips: Any, fix: str = "give a list of chips, for example ChipGrid((1000, 1000), 256)") -> None:
    """Refuse what are no chips; of many, the first and the last are looked at.

    Raises:
        ConfigError: they are something else.
    """
    if not hasattr(chips, "__len__") or not hasattr(chips, "__getitem__") or isinstance(chips, (str, dict)):
        raise ConfigError("there are no chips", where=repr(chips)[:80], fix=fix)
    for chip in (chips[0], chips[len(chips) - 1]) if len(chips) else ():
        if not isinstance(chip, Chip):
            why = f"one of them is {chip!r}"[:80]
            raise ConfigError("these are no chips", where=type(chips).__name__, why=why, fix=fix)
