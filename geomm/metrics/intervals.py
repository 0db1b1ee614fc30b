"""Figures with their intervals: blocks, places and seeds are drawn with replacement, never pixels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from geomm.errors import ConfigError
from geomm.metrics.maps import mean_iou


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    """Point estimate."""
    low: float
    """2.5 % quantile of the bootstrap."""
    high: float
    """97.5 % quantile of the bootstrap."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


type Statistic = Callable[[np.ndarray], float]
"""Of counts ``(K, K)``, such as :func:`mean_iou`, :func:`mean_f1` or :func:`accuracy`."""


def block_bootstrap(
    blocks: np.ndarray, *, statistic: Statistic = mean_iou, repeats: int = 1000, seed: int = 0
) -> Interval:
    """Return a statistic with an interval over spatial blocks: blocks are drawn with replacement, never pixels.

    Args:
        blocks: counts per block ``(blocks, K, K)``, or per seed and block ``(seeds, blocks, K, K)``: then seeds are
            drawn too, and the statistic is the mean over those drawn.
        statistic: of counts.
        repeats: number of drawings.
        seed: of the generator.

    Raises:
        ConfigError: there is no block.
    """
    return _bootstrap([blocks], lambda values: values[0], statistic, repeats, seed)


def paired_bootstrap(
    ours: np.ndarray,
    theirs: np.ndarray,
    *,
    statistic: Statistic = mean_iou,
    repeats: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the difference of a statistic, ours minus theirs, on the same drawn blocks and seeds.

    Args:
        ours: counts, see :func:`block_bootstrap`.
        theirs: counts of the same seeds and blocks.
        statistic: of counts.
        repeats: number of drawings.
        seed: of the generator.

    Raises:
        ConfigError: there is no block, or there are others in one than in the other.
    """
    if ours.shape != theirs.shape:
        raise ConfigError(
            "a paired difference needs the same seeds and blocks",
            why=f"{ours.shape}, {theirs.shape}",
            fix="evaluate both with the same seeds and the same test blocks",
        )
    return _bootstrap([ours, theirs], lambda values: values[0] - values[1], statistic, repeats, seed)


def _bootstrap(
    tables: Sequence[np.ndarray],
    combine: Callable[[list[float]], float],
    statistic: Statistic,
    repeats: int,
    seed: int,
) -> Interval:
    tables = [t if t.ndim == 4 else t[None] for t in tables]
    runs, blocks = tables[0].shape[:2]

    def once(chosen: np.ndarray, drawn: np.ndarray) -> float:
        weights = np.bincount(drawn, minlength=blocks)
        sums = [np.tensordot(weights, t, (0, 1)) for t in tables]  # (seeds, K, K)
        return combine([float(np.nanmean([statistic(s[k]) for k in chosen])) for s in sums])

    return _draw(once, runs, blocks, repeats, seed)


def ranking_bootstrap(
    values: np.ndarray,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    statistic: Callable[[np.ndarray], float] = np.mean,
    repeats: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of queries with an interval over queries, or over groups of them that are drawn together.

    The difference of two models on the same queries has an interval too: that of the differences of their values.

    Args:
        values: one per query ``(Q,)``, such as ``ranks.recall(5)`` or ``ranks.first``, or per seed and query
            ``(seeds, Q)``: then seeds are drawn too, and the statistic is the mean over those drawn.
        groups: one name per query, such as its place: queries of one place are not independent.
        statistic: of the values of the drawn queries, such as :func:`numpy.mean` or :func:`numpy.median`.
        repeats: number of drawings.
        seed: of the generator.

    Raises:
        ConfigError: there is no query, or not one group per query.
    """
    table = np.asarray(values, float)
    table = table if table.ndim == 2 else table[None]
    runs, queries = table.shape
    if groups is not None and len(groups) != queries:
        raise ConfigError(
            "every query needs a group",
            why=f"{len(groups)} groups, {queries} queries",
            fix="give one group for each query, in the same order",
        )
    numbers: dict[Hashable, int] = {}
    names = range(queries) if groups is None else groups
    owner = np.array([numbers.setdefault(name, len(numbers)) for name in names], int)

    def once(chosen: np.ndarray, drawn: np.ndarray) -> float:
        picked = np.repeat(np.arange(queries), np.bincount(drawn, minlength=len(numbers))[owner])
        return float(np.mean([statistic(table[k, picked]) for k in chosen]))

    return _draw(once, runs, len(numbers), repeats, seed)


def _draw(once: Callable[[np.ndarray, np.ndarray], float], runs: int, blocks: int, repeats: int, seed: int) -> Interval:
    """Return a statistic of seeds and blocks with its interval, both drawn with replacement."""
    if runs == 0 or blocks == 0:
        raise ConfigError("a bootstrap needs at least one block", fix="evaluate on a split that has blocks with labels")
    generator = np.random.default_rng(seed)
    chosen, drawn = generator.integers(0, runs, (repeats, runs)), generator.integers(0, blocks, (repeats, blocks))
    draws = [once(chosen[k], drawn[k]) for k in range(repeats)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(once(np.arange(runs), np.arange(blocks)), float(low), float(high))
