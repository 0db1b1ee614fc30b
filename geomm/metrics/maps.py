"""Metrics of maps, from counts of target and predicted class."""

from __future__ import annotations

import numpy as np

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
