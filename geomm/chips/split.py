"""Spatial splits: square blocks of a grid go to training or test, with a buffer between them.

No pixel of one split lies within ``buffer`` pixels of another. Integers only, no pixel is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomm.chips.checks import check_counts, check_shape, check_shares
from geomm.chips.grid import Chip, ChipGrid
from geomm.errors import ConfigError, GridError, SplitError, UnknownNameError, did_you_mean
from geomm.types import Window, check_whole


@dataclass(frozen=True, slots=True)
class SpatialSplit:
    """Blocks of a grid, each assigned to a split."""

    shape: tuple[int, int]
    """Height and width of the grid."""
    block: int
    """Height and width of a block in pixels."""
    buffer: int
    """Chebyshev distance in pixels that pixels of different splits exceed."""
    names: tuple[str, ...]
    """Names of the splits."""
    assignment: tuple[tuple[int, ...], ...]
    """Index into ``names`` for every block, by row and column."""

    def __post_init__(self) -> None:
        if self.margin * 2 >= self.block:
            raise SplitError(
                "the buffer leaves nothing of a block",
                why=f"block {self.block} pixels, buffer {self.buffer}",
                fix="choose blocks larger than the buffer",
            )
        used = {k for row in self.assignment for k in row}
        missing = [name for k, name in enumerate(self.names) if k not in used]
        if missing:
            raise SplitError(
                f"split {_few(missing)} is empty",
                where=f"grid {self.shape}, {len(self.assignment)}x{len(self.assignment[0])} blocks of {self.block}",
                fix="choose smaller blocks or larger fractions",
            )

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int],
        fractions: Mapping[str, float],
        *,
        block: int,
        buffer: int,
        seed: int = 0,
        counts: np.ndarray | None = None,
    ) -> SpatialSplit:
        """Assign blocks at random.

        Args:
            shape: height and width of the grid.
            fractions: share of blocks per split; the shares sum to one.
            block: block size in pixels.
            buffer: smallest distance between splits in pixels.
            seed: of the generator.
            counts: label pixels per block and class ``(rows, columns, classes)``. Given, 200 drawings are compared and
                the one taken whose splits are most alike in their class shares.

        Raises:
            SplitError: a split gets no block, or the buffer leaves nothing of a block; or the counts are of others.
        """
        check_shares(fractions)
        check_shape(shape)
        check_whole({"block": block}, fix="give the side of a block in pixels, for example block=512")
        check_whole({"buffer": buffer}, least=0, fix="give a distance in pixels, for example buffer=64")
        check_whole({"seed": seed}, least=0, fix="give a whole number of at least 0, for example seed=0")
        rows, columns = -(-shape[0] // block), -(-shape[1] // block)
        number = rows * columns
        ends = np.round(np.cumsum(list(fractions.values())) * number).astype(int)
        ordered = np.searchsorted(ends, np.arange(number), side="right")
        generator = np.random.default_rng(seed)
        held = None if counts is None else check_counts(counts, block, shape, "block").reshape(number, -1)
        if held is not None and not held.any():
            held = None  # nothing to be alike in
        draws = [generator.permutation(ordered) for _ in range(200 if held is not None else 1)]
        best = draws[0] if held is None else min(draws, key=lambda d: _imbalance(d, held, len(fractions)))
        table = tuple(tuple(int(v) for v in row) for row in best.reshape(rows, columns))
        return cls(shape, block, buffer, tuple(fractions), table)

    @classmethod
    def folds(
        cls,
        shape: tuple[int, int],
        number: int,
        *,
        block: int,
        buffer: int,
        seed: int = 0,
        counts: np.ndarray | None = None,
    ) -> list[SpatialSplit]:
        """Return splits into ``train`` and ``test`` for cross-validation: every block is tested in one of them.

        Args:
            shape: height and width of the grid.
            number: of folds, at least two.
            block: block size in pixels.
            buffer: smallest distance between splits in pixels.
            seed: of the generator.
            counts: see :meth:`draw`; folds are then alike in their class shares.

        Raises:
            SplitError: there are fewer blocks than folds, or the buffer leaves nothing of a block.
        """
        check_whole({"number of folds": number}, least=2, fix="give at least 2, for example 5")
        names = {f"fold{k}": 1.0 / number for k in range(number)}
        drawn = cls.draw(shape, names, block=block, buffer=buffer, seed=seed, counts=counts)
        tables = [tuple(tuple(int(v == k) for v in row) for row in drawn.assignment) for k in range(number)]
        return [cls(shape, block, buffer, ("train", "test"), table) for table in tables]

    @classmethod
    def whole(cls, shape: tuple[int, int], name: str, block: int) -> SpatialSplit:
        """Put a whole grid into one split, for splits by place; blocks are then units of the bootstrap."""
        check_shape(shape)
        check_whole({"block": block}, fix="give the side of a block in pixels, for example block=512")
        rows, columns = -(-shape[0] // block), -(-shape[1] // block)
        return cls(shape, block, 0, (name,), ((0,) * columns,) * rows)

    def halves(self, name: str, *, seed: int = 0) -> list[SpatialSplit]:
        """Divide the blocks of a split at random into two halves: train on the one and test on the other, both ways.

        Returns:
            Two splits into ``train``, ``test`` and, where there are other blocks, ``rest``; the buffer holds.

        Raises:
            SplitError: the split has fewer than two blocks.
        """
        table = np.asarray(self.assignment)
        mine = np.flatnonzero(table == self._index(name))
        if len(mine) < 2:
            raise SplitError(f"split {name!r} cannot be halved", why=f"{len(mine)} blocks", fix="choose smaller blocks")
        first, second = (np.full(table.size, 2) for _ in range(2))
        drawn = np.random.default_rng(seed).permutation(mine)
        first[drawn[::2]], first[drawn[1::2]] = 0, 1
        second[drawn[::2]], second[drawn[1::2]] = 1, 0
        names = ("train", "test", "rest")[: 2 + (len(mine) < table.size)]
        return [
            SpatialSplit(
                self.shape,
                self.block,
                self.buffer,
                names,
                tuple(tuple(int(v) for v in row) for row in half.reshape(table.shape)),
            )
            for half in (first, second)
        ]

    @property
    def margin(self) -> int:
        """What each side of a border between splits loses."""
        return -(-self.buffer // 2)

    def mask(self, name: str, window: Window | None = None) -> np.ndarray:
        """Return which pixels of a window belong to a split, bool ``(y, x)``; False outside the grid.

        A pixel belongs to the split of its block unless a block of another split lies within the margin.
        """
        window = window or Window(0, 0, *self.shape)
        index, table = self._index(name), np.asarray(self.assignment)
        rows, columns = np.arange(window.height) + window.y, np.arange(window.width) + window.x
        inside = np.ones(window.shape, dtype=bool)
        # A block is larger than two margins: the blocks within the margin are those of the four corners.
        for dy in (-self.margin, self.margin):
            for dx in (-self.margin, self.margin):
                by = np.clip(rows + dy, 0, self.shape[0] - 1) // self.block
                bx = np.clip(columns + dx, 0, self.shape[1] - 1) // self.block
                inside &= table[np.ix_(by, bx)] == index
        inside &= ((rows >= 0) & (rows < self.shape[0]))[:, None] & ((columns >= 0) & (columns < self.shape[1]))[None]
        return inside

    def blocks(self, name: str) -> list[Window]:
        """Return the blocks of a split, buffer included, clipped to the grid."""
        index = self._index(name)
        return [
            Window(r * self.block, c * self.block, self.block, self.block).clip(self.shape)
            for r, row in enumerate(self.assignment)
            for c, value in enumerate(row)
            if value == index
        ]

    def tiles(self, name: str, size: int) -> list[Chip]:
        """Cover the blocks of a split with chips of ``size``, for evaluation: each pixel once."""
        chips: list[Chip] = []
        for block in self.blocks(name):
            for chip in ChipGrid(block.shape, size):
                write = Window(chip.write.y + block.y, chip.write.x + block.x, *chip.write.shape)
                chips.append(Chip(len(chips), Window(write.y, write.x, size, size), write))
        return chips

    def random_chips(self, name: str, size: int, number: int, seed: int) -> list[Chip]:
        """Draw chips whose centre lies in a block of the split, uniformly."""
        check_whole({"size": size}, fix="give the side of a chip in pixels, for example 128")
        check_whole({"number": number, "seed": seed}, least=0, fix="for example number=1000, seed=0")
        blocks, generator = self.blocks(name), np.random.default_rng(seed)
        area = np.array([b.height * b.width for b in blocks], dtype=float)
        chips = []
        for k, pick in enumerate(generator.choice(len(blocks), number, p=area / area.sum())):
            b = blocks[pick]
            y = int(generator.integers(b.y, b.y + b.height)) - size // 2
            x = int(generator.integers(b.x, b.x + b.width)) - size // 2
            read = Window(y, x, size, size)
            chips.append(Chip(k, read, read.clip(self.shape)))
        return chips

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise SplitError(
                f"there is no split {name!r}",
                why=f"splits: {', '.join(self.names)}",
                fix=did_you_mean(name, self.names, f"use one of {', '.join(self.names)}"),
            )
        return self.names.index(name)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def check_split(split: Any, shape: tuple[int, int] | None = None) -> None:
    """Refuse what is no split with a name in it.

    Args:
        split: what was given.
        shape: height and width of the grid that it is for, where they are known.

    Raises:
        ConfigError: it is something else.
        UnknownNameError: it has no such name.
        GridError: it was drawn for another grid.
    """
    if not (isinstance(split, tuple) and len(split) == 2 and isinstance(split[0], SpatialSplit)):
        fix = 'give both: split=(SpatialSplit.draw(...), "train")'
        raise ConfigError("a split is a pair of SpatialSplit and name", where=repr(split)[:80], fix=fix)
    if split[1] not in split[0].names:
        raise UnknownNameError.of("split", split[1], split[0].names)
    if shape is not None and tuple(split[0].shape) != tuple(shape):
        raise GridError(
            "the split is of another grid",
            why=f"it was drawn for {tuple(split[0].shape)} pixels, the grid has {tuple(shape)}",
            fix=f"draw it for this grid: SpatialSplit.draw({tuple(shape)}, ...)",
        )


def split_places(places: Sequence[str], fractions: Mapping[str, float], *, seed: int = 0) -> dict[str, str]:
    """Assign whole places to splits at random.

    Args:
        places: their names; one that is given several times is one place.
        fractions: share of places per split; the shares sum to one.
        seed: of the generator.

    Returns:
        Place to split.

    Raises:
        SplitError: a split gets no place; or the shares do not sum to one.
        ConfigError: the places are no names.
    """
    check_shares(fractions)
    listed = hasattr(places, "__iter__") and not isinstance(places, str)
    if not listed or not all(isinstance(p, (str, int, np.integer)) for p in places):
        fix = 'give a list of names: ["north", "south"]; of scenes, [s.id for s in scenes]'
        raise ConfigError("places are a list of names", where=repr(places)[:80], fix=fix)
    places = list(dict.fromkeys(places))
    ends = np.round(np.cumsum(list(fractions.values())) * len(places)).astype(int)
    ordered = np.searchsorted(ends, np.arange(len(places)), side="right")
    missing = [name for k, name in enumerate(fractions) if k not in ordered]
    if missing:
        raise SplitError(
            f"split {', '.join(missing)} is empty",
            why=f"{len(places)} places, shares {dict(fractions)}",
            fix="give the split a larger share, or find more places",
        )
    drawn = np.random.default_rng(seed).permutation(ordered)
    return {place: list(fractions)[k] for place, k in zip(places, drawn, strict=True)}


def _imbalance(draw: np.ndarray, counts: np.ndarray, splits: int) -> float:
    total = counts.sum(0) / counts.sum()
    shares: Sequence[np.ndarray] = [counts[draw == k].sum(0) for k in range(splits)]
    return float(sum(np.abs(s / max(s.sum(), 1) - total).sum() for s in shares))
