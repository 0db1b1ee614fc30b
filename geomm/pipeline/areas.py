"""Splits into blocks that keep drawn labels whole: no labelled area has pixels in both training and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geomm.chips import SpatialSplit
from geomm.config import LabelConfig, SplitConfig
from geomm.errors import SplitError
from geomm.types import INVALID_CLASS

DRAWS, CHECKED = 200, 20
"""Drawings of a split that are compared, and how many of the best are looked at pixel by pixel."""


def draw_whole(labels: NDArray[np.uint8], area: NDArray[np.int32], split: SplitConfig) -> SpatialSplit:
    """Draw blocks for training and test so that no labelled area has pixels in both.

    Blocks that share an area stay together. Of :data:`DRAWS` drawings the one is taken whose test share of every class
    is nearest to the one that is wanted, and which holds every class on both sides once the buffer is taken off.

    Args:
        labels: class index ``(y, x)``, 255 where there is none.
        area: number of the area ``(y, x)``, negative where there is none.
        split: block, buffer, share of the test, seed.

    Raises:
        SplitError: there are too few blocks, or the buffer leaves nothing of them.
    """
    number, group = _groups(area, split.block)
    rows, columns = group.shape
    y, x = np.nonzero(area >= 0)
    counts = np.zeros((number, INVALID_CLASS))
    np.add.at(counts, (group[y // split.block, x // split.block], labels[y, x]), 1)
    counts = counts[:, counts.any(0)]
    size = np.bincount(group.ravel())
    generator, wanted = np.random.default_rng(split.seed), split.test * rows * columns
    drawn = []
    for _ in range(DRAWS):
        order = generator.permutation(number)
        test = np.zeros(number, np.int64)
        test[order[np.cumsum(size[order]) - size[order] / 2 < wanted]] = 1
        off = np.abs(test @ counts / counts.sum(0) - split.test).sum()
        if 0 < test.sum() < number:
            drawn.append((float(off), test[group]))
    best: tuple[int, SpatialSplit] | None = None
    for _, table in sorted(drawn, key=lambda d: d[0])[:CHECKED]:
        assignment = tuple(tuple(int(v) for v in row) for row in table)
        mine = SpatialSplit(labels.shape, split.block, split.buffer, ("train", "test"), assignment)
        lacking = int((_counted(labels, mine)[:, _counted_all(labels) > 0] == 0).sum())
        if best is None or lacking < best[0]:
            best = lacking, mine
        if not lacking:
            break
    if best is None:
        raise SplitError(
            "the labelled areas cannot be kept apart",
            where=f"grid {labels.shape}, {rows}x{columns} blocks of {split.block}",
            why=f"areas that reach over several blocks leave {number} group{'s' * (number > 1)} of blocks",
            fix="choose smaller blocks, or another share of the test",
        )
    return best[1]


def check_classes(label: LabelConfig, parts: Sequence[tuple[NDArray[np.uint8], SpatialSplit]]) -> None:
    """Refuse splits, one for each site with its labels, in which training or test lacks a class.

    Raises:
        SplitError: they do; the message counts the labelled pixels.
    """
    train, test = np.sum([_counted(labels, split) for labels, split in parts], axis=0)
    total = np.sum([_counted_all(labels) for labels, _ in parts], axis=0)
    lacking = [
        f"{c.name}: {train[k]} for training and {test[k]} for the test of {total[k]} labelled pixels"
        for k, c in enumerate(label.classes)
        if not (train[k] and test[k])
    ]
    if lacking:
        raise SplitError(
            "training or test lacks a class",
            where=str(label.polygons),
            why="; ".join(lacking),
            fix="choose smaller blocks, a smaller buffer or another seed, or draw more polygons of it",
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


def _counted(labels: NDArray[np.uint8], split: SpatialSplit) -> NDArray[np.int64]:
    """Count the labels of training and test, without the buffer: ``(2, 255)``."""
    return np.stack([_counted_all(labels[split.mask(name)]) for name in ("train", "test")])


def _counted_all(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(labels.ravel(), minlength=INVALID_CLASS + 1)[:INVALID_CLASS]
