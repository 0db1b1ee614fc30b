"""Train and evaluate what a recipe compares: every modality alone, and all fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.chips import SpatialSplit
from geomm.config import RunConfig
from geomm.metrics import Interval, block_bootstrap, iou, mean_iou
from geomm.pipeline.sites import Fold, Site, shape_of, target_of
from geomm.types import Progress

if TYPE_CHECKING:
    from geomm.dataset import ChipDataset, Target
    from geomm.tasks import Task
    from geomm.train import Fitted

FUSED = "fused"
"""Name of the variant that sees all modalities."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison: a variant over all seeds, on the test pixels of one fold."""

    fold: str
    """Name of the fold."""
    variant: str
    """A modality alone, or ``fused``."""
    modalities: tuple[str, ...]
    """What it sees."""
    counts: np.ndarray
    """int64 ``(seeds, blocks, K, K)``."""
    final_loss: float = float("nan")
    """Training loss over the last 20 steps, mean over seeds."""

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

    def interval(self) -> Interval:
        """Mean IoU over all seeds with its interval over test blocks."""
        return block_bootstrap(self.counts.sum(0))


def variants(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Return what is compared: every modality alone, then all fused."""
    names = tuple(config.modalities)
    alone = {name: (name,) for name in names} if len(names) > 1 else {}
    return alone | {FUSED: names}


def compare(
    config: RunConfig,
    sites: list[Site],
    fold: Fold,
    variant: str,
    names: tuple[str, ...],
    progress: Progress,
) -> tuple[Row, list[Fitted]]:
    """Train one variant once per seed and count its test pixels."""
    from geomm.train import evaluate

    counts, models = [], []
    test = [s for s in sites if "test" in fold.splits[s.name].names]
    for k, seed in enumerate(config.train.seeds):
        stage = f"train {variant}" + (f" without {fold.name}" if fold.name != "blocks" else "")
        fitted = _fit(config, sites, fold, names, seed, _steps(progress, stage, k, config))
        task, target = task_of(config), target_of(config)
        blocks = []
        for site in test:
            split = fold.splits[site.name]
            # A whole block at a time, so that test pixels see as much of their block as they can.
            chips = split.tiles("test", -(-split.block // config.chips.size) * config.chips.size)
            dataset = _dataset(site, names, chips, target, (split, "test"))
            blocks.append(evaluate(fitted, task, dataset, split, classes=len(target.values)))
        counts.append(np.concatenate(blocks))
        models.append(fitted)
    final = float(np.mean([m.losses[-20:] for m in models]))
    return Row(fold.name, variant, names, np.stack(counts), final), models


def fit_everywhere(config: RunConfig, sites: list[Site], progress: Progress) -> Fitted:
    """Train the fused model on all sites, for use; its quality is that of the folds."""
    whole = Fold("all", {s.name: SpatialSplit.whole(shape_of(s), "train", config.split.block) for s in sites})
    seed = config.train.seeds[0]
    step = _steps(progress, "train the model for use", 0, config, runs=1)
    return _fit(config, sites, whole, tuple(config.modalities), seed, step)


def _fit(config: RunConfig, sites: list[Site], fold: Fold, names: tuple[str, ...], seed: int, on_step: Any) -> Fitted:
    import torch

    from geomm.models.multimodal import ModelSpec
    from geomm.train import TrainSettings, fit, fit_normaliser

    training = [s for s in sites if "train" in fold.splits[s.name].names]
    share = -(-config.chips.number // len(training))
    parts = []
    for site in training:
        split = fold.splits[site.name]
        chips = split.random_chips("train", config.chips.size, share, seed)
        parts.append(_dataset(site, names, chips, target_of(config), (split, "train")))
    dataset = parts[0] if len(parts) == 1 else torch.utils.data.ConcatDataset(parts)
    bands = {n: int(training[0].cube.children[n].sizes["band"]) for n in names}
    model = config.model
    spec = ModelSpec(bands, len(config.label.classes), "segmentation", model.encoder, model.fusion, model.width)
    train = config.train
    settings = TrainSettings(train.steps, train.batch, train.rate, train.modality_dropout)
    return fit(
        spec,
        task_of(config),
        dataset,
        normaliser=fit_normaliser(dataset),
        settings=settings,
        seed=seed,
        on_step=on_step,
    )


def _dataset(site: Site, names: tuple[str, ...], chips: Any, target: Target, split: Any) -> ChipDataset:
    from geomm.dataset import ChipDataset

    return ChipDataset(site.cube, chips, names, target=target, split=split)


def task_of(config: RunConfig) -> Task:
    """Return the recipe's task."""
    from geomm.tasks import get_task

    return get_task("segmentation", config.classes())


def _steps(progress: Progress, stage: str, k: int, config: RunConfig, runs: int = 0) -> Any:
    total = (runs or len(config.train.seeds)) * config.train.steps
    return lambda done, _loss: progress(stage, k * config.train.steps + done, total)
