"""Batches for training: chips of one or of several sources, epoch by epoch, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from geomm.dataset import LANES, ChipSource, Sample, collate, one, to_sample
from geomm.errors import ConfigError
from geomm.types import check_whole


@runtime_checkable
class Batches(Protocol):
    """What training needs: batches that are a plain function of the epoch, so that a stopped run can go on."""

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Sample]:
        """Yield the batches of an epoch that this process is to see; equally many on every rank."""
        ...


def check_batches(given: Any, what: str) -> None:
    """Refuse what are no :class:`Batches`, such as a loader or a dataset.

    Raises:
        ConfigError: they are something else.
    """
    if not callable(getattr(given, "epoch", None)):
        where, fix = f"{what}: {' '.join(repr(given).split())[:80]}", "write ChipBatches([dataset], 16)"
        raise ConfigError("these are no batches", where=where, why=f"got {type(given).__name__}", fix=fix)


class ChipBatches:
    """Shuffled batches of the chips of cubes or stores; of several, each batch mixes all in proportion.

    Args:
        sources: :class:`geomm.ChipDataset` or :class:`geomm.StoredChips`; their modalities may differ.
        size: chips in a batch.
        seed: of the order.
        shuffle: False for the order of the sources, as validation wants it.

    Raises:
        ConfigError: there is no chip, or a batch of none.
    """

    def __init__(self, sources: Sequence[ChipSource], size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        listed = hasattr(sources, "__iter__") and not hasattr(sources, "stream")
        if not listed or not all(hasattr(s, "stream") for s in sources):
            fix = "give a list of datasets: ChipBatches([dataset], 16)"
            raise ConfigError("these are no sources of chips", where=repr(type(sources)), fix=fix)
        check_whole({"size": size}, fix="give how many chips are in a batch, for example 16")
        if sum(len(s) for s in sources) == 0:
            raise ConfigError(
                "there is nothing to make batches of",
                why=f"no chip in {len(sources)} sources",
                fix="check the split and the chip size",
            )
        self.sources = [s for s in sources if len(s)]
        self.size, self.seed, self.lanes = size, seed, LANES if shuffle else 0

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Sample]:
        """Yield the batches of an epoch; see :class:`Batches`."""
        if len(self.sources) == 1:
            options = {"shuffle": self.lanes, "seed": self.seed, "epoch": number, "rank": rank, "world": world}
            for arrays in self.sources[0].stream(self.size, skip=0, **options):
                yield to_sample(arrays)
            return
        order = np.repeat(np.arange(len(self.sources)), [len(s) for s in self.sources])
        order = np.resize(order, -(-len(order) // world) * world)
        if self.lanes:
            order = np.random.default_rng([self.seed, number]).permutation(order)
        singles = [self._singles(k, number, rank, world) for k in range(len(self.sources))]
        mine = order[rank::world]
        for start in range(0, len(mine), self.size):
            yield collate([next(singles[k]) for k in mine[start : start + self.size]])

    def _singles(self, source: int, number: int, rank: int, world: int) -> Iterator[Sample]:
        """Yield the chips of a source one by one; round again where the draw of sources asks for more."""
        again = 0
        while True:
            stream = self.sources[source].stream(
                1, shuffle=self.lanes, seed=self.seed + again, epoch=number, rank=rank, world=world, skip=0
            )
            count = 0
            for count, arrays in enumerate(stream, 1):  # noqa: B007 - counted for what follows
                yield one(to_sample(arrays))
            if not count:
                raise ConfigError(
                    "a source has fewer chips than there are processes",
                    why=f"{len(self.sources[source])} chips, {world} processes",
                    fix="draw more chips, or use fewer processes",
                )
            again += 1
