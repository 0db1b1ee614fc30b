"""Scene classification: one class for every chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomm.dataset import Sample
from geomm.tasks.losses import labels_of
from geomm.tasks.segmentation import SegmentationTask
from geomm.types import INVALID_CLASS, ClassSpec, Prediction


class ClassificationTask:
    """A loss on the most frequent label of a chip; maps with one value per chip.

    Args:
        classes: in the order of the model's outputs.
        loss: see :mod:`geomm.tasks.losses`.

    Raises:
        UnknownNameError: there is no such loss.
    """

    name = "classification"

    def __init__(self, classes: tuple[ClassSpec, ...], loss: str = "cross_entropy") -> None:
        self._maps = SegmentationTask(classes, loss)
        self.classes, self.layers, self.criterion = classes, self._maps.layers, self._maps.criterion
        self.loss_name = loss

    def labels(self, batch: Sample) -> Int[Tensor, " b"]:
        """Return the most frequent class of every chip, int64 ``(B,)``, 255 where no pixel is labelled."""
        counts = label_counts(batch, len(self.classes))
        return torch.where(counts.sum(1) > 0, counts.argmax(1), INVALID_CLASS)

    def losses(self, model: Any, batch: Sample) -> Float[Tensor, " parts"]:
        """Return losses over chips that have a label and something to see; see :class:`SegmentationTask`."""
        labels = self.labels(batch)
        if model.training:
            model.observe(labels)
        parts = [
            self.criterion(a.logits.float(), labels.masked_fill(~a.valid.flatten(1).any(1), INVALID_CLASS))
            for a in model.answers(batch)
        ]
        return torch.stack(parts)

    def activate(self, answer: Float[Tensor, "b k"]) -> Float[Tensor, "b k 1 1"]:
        """Return class probabilities as one cell per chip."""
        return torch.softmax(answer.float(), 1)[:, :, None, None]

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the same layers as segmentation."""
        return self._maps.decode(np.broadcast_to(scores, (scores.shape[0], *valid.shape)), valid)


def label_counts(batch: Sample, classes: int) -> Int[Tensor, "b k"]:
    """Count the labelled pixels of every chip by class."""
    target = labels_of(batch)
    return torch.stack([(target == k).sum((1, 2)) for k in range(classes)], 1)


TASK = ClassificationTask
