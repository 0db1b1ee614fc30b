"""Metrics on counts and scores: numpy only, no framework."""

from __future__ import annotations

from geomm.metrics.calibration import FINE, Reliability
from geomm.metrics.duplicates import ceiling, same_key, same_text
from geomm.metrics.intervals import Interval, Statistic, block_bootstrap, paired_bootstrap, ranking_bootstrap
from geomm.metrics.maps import accuracy, confusion, f1, iou, mean_f1, mean_iou
from geomm.metrics.ranked import Ranked, mean_recall
from geomm.metrics.ranking import Ranks, rank_rows, recall_against, recall_at_k

__all__ = [
    "FINE",
    "Interval",
    "Ranked",
    "Ranks",
    "Reliability",
    "Statistic",
    "accuracy",
    "block_bootstrap",
    "ceiling",
    "confusion",
    "f1",
    "iou",
    "mean_f1",
    "mean_iou",
    "mean_recall",
    "paired_bootstrap",
    "rank_rows",
    "ranking_bootstrap",
    "recall_against",
    "recall_at_k",
    "same_key",
    "same_text",
]
