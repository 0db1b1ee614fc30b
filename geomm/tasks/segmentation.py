"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geomm.dataset import Sample
from geomm.tasks.losses import find_loss, labels_of
from geomm.types import INVALID_CLASS, ClassSpec, LayerSpec, Prediction


class SegmentationTask:
    """A loss on pixels that are labelled and that the model saw.

    Args:
        classes: in the order of the model's outputs.
        loss: see :mod:`geomm.tasks.losses`.

    Raises:
        UnknownNameError: there is no such loss.
    """

    name = "segmentation"

    def __init__(self, classes: tuple[ClassSpec, ...], loss: str = "cross_entropy") -> None:
        self.classes, self.criterion, self.loss_name = classes, find_loss(loss), loss
        names = tuple(c.name for c in classes)
        self.layers = (
            LayerSpec("class", "class", "uint8", INVALID_CLASS, ("class",), "class", classes),
            LayerSpec("probability", "probability", "float32", float("nan"), names, "1", classes),
        )

    def losses(self, model: Any, batch: Sample) -> Float[Tensor, " parts"]:
        """Return the model's own loss and after it those of its experts; 0 where no pixel can be judged."""
        target = labels_of(batch)
        if model.training:
            model.observe(target)
        parts = [
            self.criterion(a.logits.float(), target.masked_fill(~a.valid, INVALID_CLASS)) for a in model.answers(batch)
        ]
        return torch.stack(parts)

    def activate(self, answer: Float[Tensor, "b k *size"]) -> Float[Tensor, "b k *size"]:
        """Return class probabilities."""
        return torch.softmax(answer.float(), 1)

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return ``class`` (codes of the classes, 255 where invalid) and ``probability`` (NaN where invalid)."""
        values = np.array([c.value for c in self.classes], np.uint8)
        label = np.where(valid, values[scores.argmax(0)], np.uint8(INVALID_CLASS)).astype(np.uint8)
        probability = np.where(valid, scores, np.float32("nan")).astype(np.float32)
        return Prediction({"class": label[None], "probability": probability}, self.layers)


TASK = SegmentationTask
