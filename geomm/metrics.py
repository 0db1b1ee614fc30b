"""Metrics on counts and scores: numpy only, no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geomm.errors import ConfigError
from geomm.types import INVALID_CLASS


def confusion(target: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pairs of class indices where the target is one of ``classes``; int64 ``(target, predicted)``."""
    keep = target < classes
    keep &= predicted != INVALID_CLASS
    pairs = target[keep].astype(np.int64) * classes + predicted[keep].astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union per class, ``(..., K)`` for counts ``(..., K, K)``; NaN for a class that never occurs."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    union = counts.sum(-1) + counts.sum(-2) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, hit / union, np.nan)


def accuracy(counts: np.ndarray) -> float:
    """Share of pixels on the diagonal; NaN without pixels."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float("nan")


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


def mean_iou(counts: np.ndarray) -> float:
    """Mean IoU over the classes that occur."""
    values = iou(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def block_bootstrap(blocks: np.ndarray, repeats: int = 1000, seed: int = 0) -> Interval:
    """Mean IoU with an interval over spatial blocks: blocks are drawn with replacement, never pixels.

    Args:
        blocks: counts per block ``(blocks, K, K)``.
        repeats: number of drawings.
        seed: of the generator.

    Raises:
        ConfigError: there is no block.
    """
    if len(blocks) == 0:
        raise ConfigError("a bootstrap needs at least one block")
    generator = np.random.default_rng(seed)
    draws = [mean_iou(blocks[generator.integers(0, len(blocks), len(blocks))].sum(0)) for _ in range(repeats)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(mean_iou(blocks.sum(0)), float(low), float(high))


def recall_at_k(scores: np.ndarray, relevant: Sequence[set[int]], k: int) -> float:
    """Share of queries with a relevant row among the best ``k``; ties count against the query.

    Args:
        scores: ``(queries, rows)``, higher is better.
        relevant: rows that answer each query, several where captions are shared.
        k: depth.
    """
    hits = 0
    for row, wanted in zip(scores, relevant, strict=True):
        best = max(row[j] for j in wanted)
        # Pessimistic rank: every irrelevant row that scores at least as high comes first.
        rank = sum(1 for j, s in enumerate(row) if s >= best and j not in wanted)
        hits += rank < k
    return hits / len(relevant)
