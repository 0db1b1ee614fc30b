"""What will still be read of decoded blocks: each is kept exactly as long as a planned window needs it."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from geomm.cube.cache import BlockCache

RIM = 2
"""Pixels along the edges of a cell that are kept for its neighbours, which interpolate across the border."""

Cell = tuple[int, int, int, int]
"""First row, end row, first column, end column of what is decoded at once."""
Key = tuple[tuple[Hashable, ...], tuple[int, ...], Cell]
"""A cell of some bands of a file."""
Uses = Mapping[Key, Sequence[Cell]]
"""The parts of cells that will be read, in that order."""


class Expected:
    """Keeps account of announced reads, and the rims of cells that neighbours will ask for.

    Args:
        blocks: where cells and rims are kept.
    """

    def __init__(self, blocks: BlockCache) -> None:
        self._blocks = blocks
        self._parts: dict[Key, list[Cell]] = {}
        self._lasting = False
        self._lock = threading.Lock()

    def announce(self, uses: Uses, *, lasting: bool) -> None:
        """Add reads that will come; ``lasting`` keeps rims for those that are announced later."""
        with self._lock:
            self._lasting = lasting
            for key, parts in uses.items():
                self._parts.setdefault(key, []).extend(parts)

    def withdraw(self, uses: Uses) -> None:
        """Take back reads that did not come, and what was kept for them."""
        with self._lock:
            for key, parts in uses.items():
                left = self._parts.get(key, [])
                for part in parts:
                    if part in left:
                        left.remove(part)
            done = [key for key in uses if not self._parts.get(key)]
            for key in done:
                self._parts.pop(key, None)
        for key in done:
            self._blocks.drop(key)
            if not self._lasting:
                self._blocks.drop((key, "rim"))

    def after(self, key: Key, part: Cell) -> list[Cell] | None:
        """Strike a read off; return those of the cell that are left, or None where none was announced."""
        with self._lock:
            parts = self._parts.get(key)
            if parts is None:
                return None
            if part in parts:
                parts.remove(part)
            elif parts:  # a little different from what was planned
                parts.pop(0)
            if not parts:
                del self._parts[key]
            return list(parts)

    def keep_rim(self, key: Key, block: NDArray[Any], rest: Sequence[Cell] | None) -> None:
        """Keep the outermost pixels of a cell, where they will be asked for."""
        wanted = rest is not None and (self._lasting or any(on_rim(p, key[2]) for p in rest))
        if wanted and not self._blocks.holds((key, "rim")):
            sides = block[:, :RIM], block[:, -RIM:], block[:, :, :RIM], block[:, :, -RIM:]
            self._blocks.put((key, "rim"), tuple(s.copy() for s in sides))

    def from_rim(self, key: Key, part: Cell, out: NDArray[Any], *, last: bool) -> bool:
        """Fill in a part of a cell from its rim, if it lies there and the rim is kept."""
        sides = self._blocks.find((key, "rim")) if on_rim(part, key[2]) else None
        if sides is None:
            return False
        r0, r1, c0, c1 = key[2]
        for side, (top, left) in zip(sides, ((r0, c0), (r1 - RIM, c0), (r0, c0), (r0, c1 - RIM)), strict=True):
            y, x, height, width = part[0] - top, part[2] - left, part[1] - part[0], part[3] - part[2]
            if y >= 0 and x >= 0 and y + height <= side.shape[1] and x + width <= side.shape[2]:
                out[...] = side[:, y : y + height, x : x + width]
                break
        if last and not self._lasting:
            self._blocks.drop((key, "rim"))
        return True


def on_rim(part: Cell, cell: Cell) -> bool:
    """Tell whether a part of a cell lies within :data:`RIM` pixels of one of its edges."""
    r0, r1, c0, c1 = part
    return r1 <= cell[0] + RIM or r0 >= cell[1] - RIM or c1 <= cell[2] + RIM or c0 >= cell[3] - RIM
