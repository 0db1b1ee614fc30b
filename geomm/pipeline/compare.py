"""Train and evaluate what a recipe compares, all under one budget: every modality alone, and fusions of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.chips import SpatialSplit
from geomm.config import RunConfig
from geomm.metrics import Interval, Reliability, block_bootstrap, iou, mean_iou
from geomm.pipeline.clock import Clock
from geomm.pipeline.learn import Variant, task_of, test_sets, train_one
from geomm.pipeline.sites import Fold, Site, shape_of
from geomm.types import Progress

if TYPE_CHECKING:
    from geomm.train import Fitted

FUSED = "fused"
"""Name of the variant that sees all modalities."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison: a variant over all seeds, on the test pixels of one fold."""

    fold: str
    """Name of the fold."""
    variant: str
    """A modality alone, ``fused``, or the name of a fusion."""
    modalities: tuple[str, ...]
    """What it sees."""
    counts: np.ndarray
    """int64 ``(seeds, blocks, K, K)``."""
    reliability: tuple[Reliability, ...]
    """Confidences and proper scores of each seed: of several together, opposite errors would cancel."""
    parameters: int = 0
    """Numbers that were trained."""
    final_loss: float = float("nan")
    """Training loss of what the model answers, over the last 20 steps, mean over seeds."""

    @property
    def seeds(self) -> np.ndarray:
        """Mean IoU of each seed."""
        return np.array([mean_iou(c.sum(0)) for c in self.counts])

    @property
    def per_class(self) -> np.ndarray:
        """IoU per class, averaged over seeds; NaN for a class that neither occurs nor is predicted."""
        values = iou(self.counts.sum(1))
        known = np.isfinite(values)
        return np.where(known.any(0), np.nansum(values, axis=0) / known.sum(0).clip(1), np.nan)

    @property
    def log_loss(self) -> float:
        """Minus the mean log-probability of the test labels, in nats."""
        return float(np.mean([r.log_loss / max(r.number, 1.0) for r in self.reliability]))

    @property
    def ece(self) -> float:
        """Expected calibration error, mean over seeds."""
        return float(np.mean([r.ece() for r in self.reliability]))

    def interval(self) -> Interval:
        """Mean IoU, mean over seeds, with its interval over seeds and test blocks."""
        return block_bootstrap(self.counts)


def variants(config: RunConfig) -> dict[str, Variant]:
    """Return what a run compares: every modality alone, then all fused."""
    names, fusion = tuple(config.modalities), config.model.fusion
    alone = {name: Variant((name,), fusion) for name in names} if len(names) > 1 else {}
    return alone | {FUSED: Variant(names, fusion)}


def ablations(config: RunConfig, fusions: Sequence[str]) -> dict[str, Variant]:
    """Return what an ablation compares: every modality alone, then all under every fusion."""
    names = tuple(config.modalities)
    alone = {name: Variant((name,), "concat") for name in names}
    return alone | {fusion: Variant(names, fusion) for fusion in fusions}


def compare(
    config: RunConfig,
    sites: list[Site],
    fold: Fold,
    name: str,
    variant: Variant,
    progress: Progress,
    *,
    clock: Clock | None = None,
) -> tuple[Row, list[Fitted]]:
    """Train one variant once per seed and count its test pixels; the clock is told where the time went."""
    from geomm.train.evaluate import evaluate

    clock = clock or Clock()
    counts, models, reliability = [], [], []
    task, tests = task_of(config), test_sets(config, sites, fold, variant.modalities)
    for k, seed in enumerate(config.train.seeds):
        stage = f"train {name}" + (f" without {fold.name}" if fold.name != "blocks" else "")
        fitted = train_one(config, sites, fold, variant, seed=seed, on_step=_steps(progress, stage, k, config))
        clock.lap("train")
        found = [evaluate(fitted, task, test, classes=len(config.labels.classes)) for test in tests]
        counts.append(np.concatenate([f.counts for f in found]))
        reliability.append(sum((f.reliability for f in found), Reliability.empty()))
        models.append(fitted)
        clock.lap("test")
    size = sum(p.numel() for p in models[0].model.parameters())
    final = float(np.mean([np.mean(m.losses[-20:]) for m in models]))
    return Row(fold.name, name, variant.modalities, np.stack(counts), tuple(reliability), size, final), models


def fit_everywhere(config: RunConfig, sites: list[Site], progress: Progress) -> Fitted:
    """Train the fused model on all sites, for use; its quality is that of the folds."""
    whole = Fold("all", {s.name: SpatialSplit.whole(shape_of(s), "train", config.split.block) for s in sites})
    step = _steps(progress, "train the model for use", 0, config, runs=1)
    return train_one(config, sites, whole, variants(config)[FUSED], seed=config.train.seeds[0], on_step=step)


def _steps(progress: Progress, stage: str, k: int, config: RunConfig, runs: int = 0) -> Any:
    total = (runs or len(config.train.seeds)) * config.train.steps
    return lambda done, _loss: progress(stage, k * config.train.steps + done, total)
