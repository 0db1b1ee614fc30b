"""Splits into blocks that keep drawn labels whole: no labelled area has pixels in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from geomm.chips import SpatialSplit, label_counts
from geomm.config import LabelConfig
from geomm.errors import SplitError
from geomm.types import INVALID_CLASS

DRAWS, CHECKED = 200, 20
"""Drawings of a split that are compared, and how many of the best are looked at pixel by pixel."""


def draw_whole(
    labels: NDArray[np.uint8],
    area: NDArray[np.int32],
    fractions: Mapping[str, float],
    *,
    block: int,
    buffer: int,
    seed: int = 0,
) -> SpatialSplit:
    """Assign blocks at random so that no labelled area has pixels in two splits: blocks that share one stay together.

    Of :data:`DRAWS` drawings the one is taken that shares out the pixels of every class most nearly as wanted, among
    those in which every split still holds every class once the buffer is taken off, where there are any.

    Args:
        labels: class index ``(y, x)``, 255 where there is none.
        area: number of the area ``(y, x)``, negative where there is none.
        fractions: share of blocks per split; the shares sum to one.
        block: block size in pixels.
        buffer: smallest distance between splits in pixels.
        seed: of the generator.

    Raises:
        SplitError: there are too few blocks that can be told apart, or the buffer leaves nothing of a block.
    """
    number, group = _groups(area, block)
    occur = np.flatnonzero(_count(labels))
    drawn = _drawings(label_counts(labels, block, int(occur[-1]) + 1), group, list(fractions.values()), seed)
    if not drawn:
        raise SplitError(
            "the labelled areas cannot be kept apart",
            where=f"grid {labels.shape}, {group.size} blocks of {block}",
            why=f"areas that reach over several blocks leave {number} group{'s' * (number != 1)} of blocks",
            fix="choose smaller blocks or other shares of the splits",
        )
    best: tuple[int, SpatialSplit] | None = None
    for table in drawn[:CHECKED]:
        split = SpatialSplit(labels.shape, block, buffer, tuple(fractions), table)
        lacking = int((_counts(labels, split)[:, occur] == 0).sum())
        if best is None or lacking < best[0]:
            best = lacking, split
        if not lacking:
            break
    assert best is not None
    return best[1]


def check_classes(label: LabelConfig, parts: Sequence[tuple[NDArray[np.uint8], SpatialSplit]]) -> None:
    """Refuse splits, one for each site with its labels, of which one lacks a class at all sites.

    Raises:
        SplitError: it does; the message counts the labelled pixels.
    """
    held = np.sum([_counts(labels, split) for labels, split in parts], axis=0)
    total = np.sum([_count(labels) for labels, _ in parts], axis=0)
    names = parts[0][1].names
    lacking = [
        f"of {total[k]} labelled pixels of {c.name}, "
        + ", ".join(f"{number} in {name}" for name, number in zip(names, held[:, k], strict=True))
        for k, c in enumerate(label.classes)
        if not held[:, k].all()
    ]
    if lacking:
        raise SplitError(
            "a split lacks a class",
            where=str(label.polygons),
            why="; ".join(lacking),
            fix="choose smaller blocks, a smaller buffer or another seed, or draw more polygons of the class",
        )


def _groups(area: NDArray[np.int32], block: int) -> tuple[int, NDArray[np.int32]]:
    """Return how many groups of blocks no labelled area crosses, and the group of every block ``(rows, columns)``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = (-(-n // block) for n in area.shape)
    y, x = np.nonzero(area >= 0)
    pairs = np.unique(np.stack([area[y, x], y // block * columns + x // block], 1), axis=0)
    first = pairs[np.searchsorted(pairs[:, 0], pairs[:, 0]), 1]
    links = coo_array((np.ones(len(pairs)), (first, pairs[:, 1])), shape=(rows * columns,) * 2)
    number, group = connected_components(links, directed=False)
    return int(number), group.reshape(rows, columns)


def _drawings(
    counts: NDArray[np.int64], group: NDArray[np.int32], shares: Sequence[float], seed: int
) -> list[tuple[tuple[int, ...], ...]]:
    """Assign groups of blocks to splits at random, many times.

    Args:
        counts: label pixels per block and class ``(rows, columns, classes)``.
        group: of every block ``(rows, columns)``.
        shares: share of blocks per split.
        seed: of the generator.

    Returns:
        The split of every block, of each drawing without an empty split, the best first.
    """
    size, wanted = np.bincount(group.ravel()), np.array(shares)
    held = np.zeros((len(size), counts.shape[2]))
    np.add.at(held, group, counts)
    held = held[:, held.any(0)]
    generator, drawn = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        order = generator.permutation(len(size))
        middle = np.empty(len(size))
        middle[order] = np.cumsum(size[order]) - size[order] / 2
        chosen = np.searchsorted(np.cumsum(wanted)[:-1] * group.size, middle, side="right")
        member = chosen == np.arange(len(wanted))[:, None]
        if member.any(1).all():
            off = float(np.abs(member @ held / held.sum(0) - wanted[:, None]).sum())
            drawn.append((off, tuple(tuple(int(v) for v in row) for row in chosen[group])))
    return [table for _, table in sorted(drawn, key=lambda d: d[0])]


def _counts(labels: NDArray[np.uint8], split: SpatialSplit) -> NDArray[np.int64]:
    """Count the classes of every split, without its buffer: ``(split, class)``."""
    return np.stack([_count(labels[split.mask(name)]) for name in split.names])


def _count(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(labels.ravel(), minlength=INVALID_CLASS + 1)[:INVALID_CLASS]
