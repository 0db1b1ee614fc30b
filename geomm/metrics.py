"""Metrics on counts and scores: numpy only, no framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Intersection over union per class, ``(..., K)`` for counts ``(..., K, K)``; NaN for a class without labels.

    A class that is only predicted lowers those whose labels it takes; it is not a class of its own, so that means of
    several predictions of the same labels are over the same classes.
    """
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    union = counts.sum(-1) + counts.sum(-2) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.sum(-1) > 0, hit / union, np.nan)


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


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 score (Dice) per class, ``(..., K)`` for counts ``(..., K, K)``; NaN for a class without labels."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    size = counts.sum(-1) + counts.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.sum(-1) > 0, 2 * hit / size, np.nan)


def mean_iou(counts: np.ndarray) -> float:
    """Mean IoU over the classes that have labels."""
    values = iou(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_f1(counts: np.ndarray) -> float:
    """Mean F1 score over the classes that have labels."""
    values = f1(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


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
        raise ConfigError("a paired difference needs the same seeds and blocks", why=f"{ours.shape}, {theirs.shape}")
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
    if runs == 0 or blocks == 0:
        raise ConfigError("a bootstrap needs at least one block")
    generator = np.random.default_rng(seed)

    def once(chosen: np.ndarray, drawn: np.ndarray) -> float:
        weights = np.bincount(drawn, minlength=blocks)
        sums = [np.tensordot(weights, t, (0, 1)) for t in tables]  # (seeds, K, K)
        return combine([float(np.nanmean([statistic(s[k]) for k in chosen])) for s in sums])

    chosen, drawn = generator.integers(0, runs, (repeats, runs)), generator.integers(0, blocks, (repeats, blocks))
    draws = [once(chosen[k], drawn[k]) for k in range(repeats)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(once(np.arange(runs), np.arange(blocks)), float(low), float(high))


FINE = 600
"""Bins that confidences are kept in."""
_ODDS = 6.0
"""Confidences above 1 - 10^-6 share a bin."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often predictions of a confidence are right, and proper scores: sums that may be added up.

    Confidences lie in fine bins of log(1 - confidence), from which bins of equal mass are made; memory does not grow.
    """

    bins: np.ndarray
    """float64 ``(FINE, 3)``: number of predictions, sum of their confidences, how many are right."""
    log_loss: float = 0.0
    """Sum of minus the log-probability of the label, in nats."""
    brier: float = 0.0
    """Sum over predictions of the squared distance of the probabilities from the label."""

    @classmethod
    def of(cls, probability: np.ndarray, target: np.ndarray) -> Reliability:
        """Count predictions.

        Args:
            probability: ``(N, K)``.
            target: class index ``(N,)``; others than 0 .. K - 1 are left out.
        """
        keep = target < probability.shape[1]
        chances, labels = probability[keep].astype(float), target[keep].astype(np.int64)
        confidence, right = chances.max(1, initial=0.0), chances.argmax(1) == labels
        place = np.minimum(-np.log10(np.maximum(1 - confidence, 10**-_ODDS)) / _ODDS * FINE, FINE - 1).astype(int)
        table = [np.bincount(place, w, minlength=FINE) for w in (None, confidence, right.astype(float))]
        told = np.take_along_axis(chances, labels[:, None], 1)[:, 0]
        wrong = (chances**2).sum(1) - 2 * told + 1
        return cls(np.stack(table, 1).astype(float), float(-np.log(np.maximum(told, 1e-12)).sum()), float(wrong.sum()))

    @classmethod
    def empty(cls) -> Reliability:
        """Return the sums of no predictions."""
        return cls(np.zeros((FINE, 3)))

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.bins + other.bins, self.log_loss + other.log_loss, self.brier + other.brier)

    @property
    def number(self) -> float:
        """Predictions that were counted."""
        return float(self.bins[:, 0].sum())

    def curve(self, number: int = 15) -> np.ndarray:
        """Return mass, mean confidence and share right of bins of about equal mass, ``(bins, 3)``."""
        table = self.bins[self.bins[:, 0] > 0]
        if not len(table):
            return np.zeros((0, 3))
        middle = (np.cumsum(table[:, 0]) - table[:, 0] / 2) / table[:, 0].sum()
        which = np.minimum((middle * number).astype(int), number - 1)
        sums = np.stack([np.bincount(which, column, minlength=number) for column in table.T], 1)
        sums = sums[sums[:, 0] > 0]
        return np.stack([sums[:, 0] / self.number, sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]], 1)

    def ece(self, number: int = 15) -> float:
        """Return the expected calibration error: how far confidence lies from the share right; NaN without any."""
        mass, confidence, right = self.curve(number).T
        return float((mass * np.abs(confidence - right)).sum()) if len(mass) else float("nan")


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
