"""Train and evaluate: Lightning's Trainer around a task, seeds, and counts per spatial block."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from geomm.chips import Chip, SpatialSplit
from geomm.dataset import ChipDataset, Sample, collate
from geomm.errors import SplitError
from geomm.metrics import confusion
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import Task
from geomm.transforms import Normaliser, augment, drop_modalities


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train."""

    steps: int = 200
    """Optimiser steps."""
    batch: int = 16
    """Chips per step."""
    rate: float = 3e-3
    """Peak learning rate of AdamW under a one-cycle schedule."""
    modality_dropout: float = 0.0
    """Probability of hiding each modality of a sample, never all."""
    accelerator: str = "auto"
    """``auto``, ``cpu`` or ``gpu``, as Lightning names them."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model with what it needs to be used."""

    model: MultimodalModel
    """In evaluation mode, on the CPU."""
    normaliser: Normaliser
    """Fitted on the training pixels."""
    losses: tuple[float, ...]
    """Training loss of every step."""


OnStep = Callable[[int, float], None]
"""Told after every optimiser step: number of steps done, loss."""


def fit_normaliser(dataset: Dataset[Sample], batch: int = 16) -> Normaliser:
    """Fit mean and standard deviation on the valid pixels of a data set, in one pass.

    Raises:
        SplitError: a modality has no valid pixel, or the data set is empty.
    """
    if len(dataset) == 0:  # type: ignore[arg-type] # torch leaves __len__ out of its type
        raise SplitError("there is no chip to train on", fix="check the split and the chip size")
    return Normaliser.fit(DataLoader(dataset, batch, collate_fn=collate))


def fit(
    spec: ModelSpec,
    task: Task,
    dataset: Dataset[Sample],
    *,
    normaliser: Normaliser,
    settings: TrainSettings,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Fitted:
    """Train a model from a seed.

    Args:
        spec: the model.
        task: loss and decoding.
        dataset: training chips; drawn with replacement until the steps are done.
        normaliser: fitted on training pixels, see :func:`fit_normaliser`.
        settings: steps, batch, rate.
        seed: of the initial weights, the order of chips and the augmentation.
        on_step: progress.

    Returns:
        The model in evaluation mode and its losses.
    """
    from lightning.pytorch import Trainer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MultimodalModel(spec)
        module = _module(model, task, normaliser, settings, seed, on_step)
        generator = torch.Generator().manual_seed(seed)
        sampler = RandomSampler(
            dataset,  # type: ignore[arg-type]
            replacement=True,
            num_samples=settings.steps * settings.batch,
            generator=generator,
        )
        loader = DataLoader(dataset, settings.batch, sampler=sampler, collate_fn=collate, generator=generator)
        with _quiet():
            trainer = Trainer(
                max_steps=settings.steps,
                accelerator=settings.accelerator,
                devices=1,
                gradient_clip_val=1.0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, loader)
    return Fitted(model.cpu().eval(), normaliser, tuple(module.history))


@torch.inference_mode()
def evaluate(
    fitted: Fitted, task: Task, dataset: ChipDataset, split: SpatialSplit, *, classes: int, batch: int = 16
) -> np.ndarray:
    """Count predictions against labels, block by block.

    Args:
        fitted: a trained model.
        task: its task.
        dataset: chips that lie each within one block, see :meth:`SpatialSplit.tiles`.
        split: the blocks.
        classes: number of classes K.
        batch: chips at a time.

    Returns:
        int64 ``(blocks, K, K)``, one entry per block that has labels.

    Raises:
        SplitError: there is no labelled pixel.
    """
    counts: dict[tuple[int, int], np.ndarray] = {}
    for chips, samples in _batches(dataset, batch):
        ready = fitted.normaliser(collate(samples))
        scores = task.activate(fitted.model(ready)).expand(-1, -1, *_size(ready))
        label = scores.argmax(1).numpy().astype(np.uint8)
        assert ready.target is not None
        for chip, predicted, wanted in zip(chips, label, ready.target.numpy(), strict=True):
            key = (chip.write.y // split.block, chip.write.x // split.block)
            trimmed = chip.trim.slices
            pair = confusion(wanted[trimmed], predicted[trimmed], classes)
            counts[key] = counts.get(key, 0) + pair
    table = [c for _, c in sorted(counts.items()) if c.sum() > 0]
    if not table:
        raise SplitError("the evaluated split has no labelled pixel", fix="choose other blocks or more labels")
    return np.stack(table)


def _batches(dataset: ChipDataset, batch: int) -> Iterator[tuple[Sequence[Chip], list[Sample]]]:
    for start in range(0, len(dataset), batch):
        chips = dataset.chips[start : start + batch]
        yield chips, [dataset[start + k] for k in range(len(chips))]


def _size(batch: Sample) -> tuple[int, int]:
    assert batch.target is not None
    return int(batch.target.shape[-2]), int(batch.target.shape[-1])


def _module(
    model: MultimodalModel,
    task: Task,
    normaliser: Normaliser,
    settings: TrainSettings,
    seed: int,
    on_step: OnStep | None,
) -> Any:
    """Wrap a task for Lightning; a function, so that importing this file does not import Lightning."""
    from lightning.pytorch import LightningModule

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.history: list[float] = []
            self.random = torch.Generator().manual_seed(seed)

        def transfer_batch_to_device(self, batch: Sample, device: torch.device, dataloader_idx: int) -> Sample:  # noqa: ARG002
            return batch.to(device)

        def training_step(self, batch: Sample, batch_idx: int) -> Tensor:  # noqa: ARG002
            ready = normaliser(augment(batch, self.random))
            if settings.modality_dropout > 0:
                ready = drop_modalities(ready, settings.modality_dropout, self.random)
            loss = task.loss(self.model, ready)
            self.history.append(float(loss.detach()))
            if on_step:
                on_step(len(self.history), self.history[-1])
            return loss

        def configure_optimizers(self) -> dict[str, Any]:
            optimiser = torch.optim.AdamW(self.parameters(), settings.rate, weight_decay=1e-2, fused=True)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps)
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Module()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's start-up messages and advice; errors still come through."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*num_workers.*|.*litlogger.*|.*treespec.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
