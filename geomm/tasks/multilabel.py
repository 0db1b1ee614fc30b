"""Multi-label classification: which classes a chip holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from geomm.dataset import Sample
from geomm.errors import UnknownNameError
from geomm.tasks.classification import label_counts
from geomm.types import ClassSpec, LayerSpec, Prediction

LEAST = 0.05
"""A class counts as held by a chip from this share of its labelled pixels."""


class MultilabelTask:
    """Binary cross-entropy for every class; maps with the probability of every class per chip.

    Args:
        classes: in the order of the model's outputs.
        loss: ``cross_entropy`` alone, which is binary here.

    Raises:
        UnknownNameError: another loss.
    """

    name = "multilabel"

    def __init__(self, classes: tuple[ClassSpec, ...], loss: str = "cross_entropy") -> None:
        if loss != "cross_entropy":
            raise UnknownNameError.of("loss of the multilabel task", loss, ("cross_entropy",))
        self.classes, self.loss_name = classes, loss
        names = tuple(c.name for c in classes)
        self.layers = (LayerSpec("probability", "probability", "float32", float("nan"), names, "1", classes),)

    def labels(self, batch: Sample) -> tuple[Float[Tensor, "b k"], Tensor]:
        """Return 1 for every class that a chip holds, and which chips are labelled at all, bool ``(B,)``."""
        counts = label_counts(batch, len(self.classes))
        total = counts.sum(1, keepdim=True)
        return ((counts > 0) & (counts >= LEAST * total)).float(), total[:, 0] > 0

    def losses(self, model: Any, batch: Sample) -> Float[Tensor, " parts"]:
        """Return losses over chips that have a label and something to see; see :class:`SegmentationTask`."""
        truth, labelled = self.labels(batch)
        parts = []
        for answer in model.answers(batch):
            keep = labelled & answer.valid.flatten(1).any(1)
            each = functional.binary_cross_entropy_with_logits(answer.logits.float(), truth, reduction="none").mean(1)
            parts.append((each * keep).sum() / keep.sum().clamp_min(1))
        return torch.stack(parts)

    def activate(self, answer: Float[Tensor, "b k"]) -> Float[Tensor, "b k 1 1"]:
        """Return the probability of every class as one cell per chip."""
        return answer.float().sigmoid()[:, :, None, None]

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return ``probability`` (NaN where invalid); they do not sum to one."""
        full = np.broadcast_to(scores, (scores.shape[0], *valid.shape))
        return Prediction({"probability": np.where(valid, full, np.float32("nan")).astype(np.float32)}, self.layers)


TASK = MultilabelTask
