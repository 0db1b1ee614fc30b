"""Scene classification: one class for every chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from geomm.dataset import Sample
from geomm.tasks.segmentation import SegmentationTask
from geomm.types import INVALID_CLASS, Prediction


class ClassificationTask:
    """Cross-entropy on the most frequent label of a chip; maps with one value per chip.

    Args:
        classes: in the order of the model's outputs.
    """

    name = "classification"

    def __init__(self, classes: Any) -> None:
        self._maps = SegmentationTask(classes)
        self.classes, self.layers = self._maps.classes, self._maps.layers

    def labels(self, batch: Sample) -> Tensor:
        """Return the most frequent class of every chip, int64 ``(B,)``, 255 where no pixel is labelled."""
        assert batch.target is not None
        counts = torch.stack([(batch.target == k).sum((1, 2)) for k in range(len(self.classes))], 1)
        return torch.where(counts.sum(1) > 0, counts.argmax(1), INVALID_CLASS)

    def loss(self, model: Any, batch: Sample) -> Tensor:
        """Return the mean cross-entropy over chips that have a label."""
        labels = self.labels(batch)
        total = functional.cross_entropy(model(batch).float(), labels, ignore_index=INVALID_CLASS, reduction="sum")
        return total / (labels != INVALID_CLASS).sum().clamp_min(1)

    def activate(self, answer: Float[Tensor, "b k"]) -> Float[Tensor, "b k 1 1"]:
        """Return class probabilities as one cell per chip."""
        return torch.softmax(answer.float(), 1)[:, :, None, None]

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the same layers as segmentation."""
        return self._maps.decode(np.broadcast_to(scores, (scores.shape[0], *valid.shape)), valid)


TASK = ClassificationTask
