"""Measure a trained model on chips whose labels are known: counts by spatial block, calibration, every subset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from geomm.batches import Batches, check_batches
from geomm.chips import Chip
from geomm.dataset import ChipDataset, Sample, collate
from geomm.errors import ConfigError, ContractError, SplitError
from geomm.metrics import Reliability, confusion
from geomm.tasks import Task
from geomm.tasks.losses import labels_of
from geomm.train.checks import TRAINED, check_task
from geomm.train.settings import Fitted
from geomm.transforms import blank
from geomm.types import INVALID_CLASS, check_kind, check_known, check_whole

KEPT = 2**17
"""Most pixels that a temperature is fitted on."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Chips to be judged on, each within one spatial block."""

    dataset: ChipDataset
    """Chips with targets, see :meth:`geomm.SpatialSplit.tiles`."""
    block: int
    """Height and width of the blocks in pixels."""

    def __post_init__(self) -> None:
        fix = "write HeldOut(dataset, 512), with the block of the split"
        check_kind(self.dataset, ChipDataset, "chips to be judged on are a ChipDataset", fix=fix)
        check_whole({"block": self.block}, fix=fix)

    def batches(self, size: int) -> Iterator[tuple[Sequence[Chip], Sample]]:
        """Yield chips and their samples."""
        for start in range(0, len(self.dataset), size):
            chips = self.dataset.chips[start : start + size]
            yield chips, collate([self.dataset[start + k] for k in range(len(chips))])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model was counted to say."""

    blocks: Mapping[tuple[int, int], np.ndarray]
    """Row and column of every block that has labels, to int64 counts ``(K, K)``: label, prediction."""
    reliability: Reliability
    """Confidences and proper scores over all labelled pixels."""

    @property
    def counts(self) -> np.ndarray:
        """int64 ``(blocks, K, K)`` in the order of rows and columns."""
        return np.stack([c for _, c in sorted(self.blocks.items())])


@torch.inference_mode()
def evaluate(
    fitted: Fitted, task: Task, test: HeldOut, *, classes: int, only: Sequence[str] = (), batch: int = 16
) -> Evaluation:
    """Count predictions against labels, block by block.

    Every labelled pixel counts, also where no modality saw anything and the model can but guess: rows that see other
    modalities are judged on the same pixels.

    Args:
        fitted: a trained model.
        task: its task, which answers with class probabilities.
        test: what to judge on.
        classes: number of classes K.
        only: modalities that the model may see, as if the others were not there; empty for all.
        batch: chips at a time.

    Raises:
        SplitError: there is no labelled pixel.
        ConfigError: an argument is of another kind, or ``classes`` is not the number of those of the task.
        ContractError: the chips have no labels.
        UnknownNameError: the model has no modality of a name in ``only``.
    """
    check_evaluate(fitted, task, test, classes, only)
    counts: dict[tuple[int, int], np.ndarray] = {}
    reliability = Reliability.empty()
    for chips, sample in test.batches(batch):
        target = labels_of(sample).numpy()
        scores = scores_of(fitted, task, sample, only)
        for chip, chances, wanted in zip(chips, scores.numpy(), target, strict=True):
            inner = chip.trim.slices
            truth = wanted[inner]
            if (truth == INVALID_CLASS).all():
                continue
            said = np.broadcast_to(chances, (len(chances), *wanted.shape))[:, *inner]
            key = (chip.write.y // test.block, chip.write.x // test.block)
            counts[key] = counts.get(key, 0) + confusion(truth, said.argmax(0).astype(np.uint8), classes)
            reliability += Reliability.of(said.reshape(len(said), -1).T, truth.ravel())
    if not counts:
        raise SplitError("the evaluated split has no labelled pixel", fix="choose other blocks or more labels")
    return Evaluation(counts, reliability)


def check_evaluate(fitted: Fitted, task: Task, test: HeldOut, classes: int, only: Sequence[str]) -> None:
    """Refuse arguments of :func:`evaluate` that are of another kind, or do not belong together.

    Raises:
        ConfigError: one is of another kind, or there is another number of classes than the task has.
        UnknownNameError: the model has no modality of a name in ``only``.
    """
    check_kind(fitted, Fitted, "this is no trained model", fix=TRAINED)
    check_task(task)
    check_kind(test, HeldOut, "what to judge on is a HeldOut", fix="write HeldOut(dataset, 512)")
    number = len(getattr(task, "classes", ())) or classes
    if classes != number:
        fix = f"write classes={number}"
        raise ConfigError("classes is the number of the task's", where=f"classes {classes!r}"[:80], fix=fix)
    if isinstance(only, str):
        raise ConfigError("only is one text", where=repr(only), fix=f"write only=({only!r},)")
    for name in only:
        check_known("modality of the model", name, fitted.model.spec.modalities)


def scores_of(fitted: Fitted, task: Task, sample: Sample, only: Sequence[str] = ()) -> Tensor:
    """Return what a model says of a batch as stored, float32 ``(B, K, H, W)`` or ``(B, K, 1, 1)``.

    Args:
        fitted: a trained model; the batch goes where it is.
        task: turns answers into scores.
        sample: a batch before normalisation.
        only: modalities that the model may see; empty for all.
    """
    ready = fitted.normaliser(sample.to(next(fitted.model.parameters()).device))
    return task.activate(fitted.model(without(ready, only) if only else ready) / fitted.temperature).cpu()


def without(batch: Sample, only: Sequence[str]) -> Sample:
    """Return a normalised batch in which all other modalities are missing."""
    images, valid, present = dict(batch.images), dict(batch.valid), dict(batch.present)
    for name in set(images) - set(only):
        present[name] = torch.zeros_like(present[name])
        images[name], valid[name] = blank(images[name], valid[name], present[name])
    return replace(batch, images=images, valid=valid, present=present)


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty subset, small ones first.

    >>> subsets(["s1", "s2"])
    [('s1',), ('s2',), ('s1', 's2')]
    """
    return [part for size in range(1, len(names) + 1) for part in combinations(names, size)]


@torch.inference_mode()
def calibrate(fitted: Fitted, validation: Batches, *, seed: int = 0) -> Fitted:
    """Fit the temperature: one number that logits are divided by, so that confidences mean what they say.

    It changes no decision. Source: Guo et al. 2017, arXiv 1706.04599.

    Args:
        fitted: a trained model.
        validation: batches of chips with targets that were neither trained on nor will be tested on, see
            :class:`geomm.batches.Batches`.
        seed: of the pixels that are drawn where there are many.

    Raises:
        SplitError: there is no labelled pixel.
        ContractError: the model answers chip by chip, or the chips have no labels.
        ConfigError: an argument is of another kind.
    """
    check_kind(fitted, Fitted, "this is no trained model", fix=TRAINED)
    check_batches(validation, "validation")
    generator = np.random.default_rng(seed)
    logits, labels = [], []
    for sample in validation.epoch(0):
        answer = fitted.model(fitted.normaliser(sample.to(next(fitted.model.parameters()).device))).cpu()
        if answer.ndim != 4:
            raise ContractError(
                "only a model that answers pixel by pixel is calibrated",
                why=f"{answer.ndim} axes",
                fix="skip the calibration for this task",
            )
        answer = answer.movedim(1, -1)
        truth = labels_of(sample).numpy()
        known = truth != INVALID_CLASS
        logits.append(answer.reshape(-1, answer.shape[-1]).double().numpy()[known.ravel()])
        labels.append(truth[known])
        if sum(map(len, labels)) > 2 * KEPT:
            logits, labels = _thinned(logits, labels, generator)
    if not labels or not sum(map(len, labels)):
        raise SplitError("there is no labelled pixel to fit the temperature on", fix="choose other blocks")
    (said,), (wanted,) = _thinned(logits, labels, generator)

    def loss(log_temperature: float) -> float:
        scaled = said / np.exp(log_temperature)
        top = scaled.max(1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(1))
        return float((total - np.take_along_axis(scaled, wanted[:, None], 1)[:, 0]).mean())

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return replace(fitted, temperature=float(np.exp(found.x)))


def _thinned(
    logits: list[np.ndarray], labels: list[np.ndarray], generator: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    said, truth = np.concatenate(logits), np.concatenate(labels)
    chosen = generator.permutation(len(truth))[:KEPT] if len(truth) > KEPT else slice(None)
    return [said[chosen]], [truth[chosen]]
