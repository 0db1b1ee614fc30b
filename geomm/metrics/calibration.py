"""Whether predictions are as often right as they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
