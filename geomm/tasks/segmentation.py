"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from geomm.dataset import Sample
from geomm.types import INVALID_CLASS, ClassSpec, LayerSpec, Prediction


class SegmentationTask:
    """Cross-entropy on labelled pixels; class and probability maps.

    Args:
        classes: in the order of the model's outputs.
    """

    name = "segmentation"

    def __init__(self, classes: tuple[ClassSpec, ...]) -> None:
        self.classes = classes
        names = tuple(c.name for c in classes)
        self.layers = (
            LayerSpec("class", "class", "uint8", INVALID_CLASS, ("class",), "class", classes),
            LayerSpec("probability", "probability", "float32", float("nan"), names, "1", classes),
        )

    def loss(self, model: Any, batch: Sample) -> Tensor:
        """Return the mean cross-entropy over labelled pixels; 0 (with a gradient of 0) if a batch has none."""
        logits: Tensor = model(batch)
        assert batch.target is not None
        total = functional.cross_entropy(logits.float(), batch.target, ignore_index=INVALID_CLASS, reduction="sum")
        return total / (batch.target != INVALID_CLASS).sum().clamp_min(1)

    def activate(self, answer: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Return class probabilities."""
        return torch.softmax(answer.float(), 1)

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return ``class`` (codes of the classes, 255 where invalid) and ``probability`` (NaN where invalid)."""
        values = np.array([c.value for c in self.classes], np.uint8)
        label = np.where(valid, values[scores.argmax(0)], np.uint8(INVALID_CLASS)).astype(np.uint8)
        probability = np.where(valid, scores, np.float32("nan")).astype(np.float32)
        return Prediction({"class": label[None], "probability": probability}, self.layers)


TASK = SegmentationTask
