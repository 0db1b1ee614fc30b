"""What prediction needs to know of a model: a function of a batch, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ConfigError
from geomm.prediction.settings import PredictSettings
from geomm.tasks.maps import LAYERS, ClassMaps
from geomm.types import ClassSpec, LayerSpec, Prediction


class Decoder(Protocol):
    """How scores become layers."""

    layers: tuple[LayerSpec, ...]
    """What a decoded prediction holds."""

    def pack(self, scores: Tensor) -> Tensor:
        """Return what the layers are made of ``(B, L, H, W)``, of scores ``(B, K, H, W)``, on their device."""
        ...

    def decode(self, packed: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the layers of ``(L, H, W)``, nodata where not ``valid (H, W)``."""
        ...


def as_they_are(batch: Sample) -> Sample:
    """Return a batch as it is."""
    return batch


@dataclass(frozen=True, slots=True)
class Predictor:
    """Functions of a batch, and what comes out: all that prediction needs to know of a model."""

    scores: Callable[[Sample], Tensor]
    """Scores that may be averaged over overlaps, ``(B, K, H, W)`` or ``(B, K, 1, 1)``, of a batch on the device."""
    decoder: Decoder
    """What becomes of them."""
    modalities: tuple[str, ...]
    """What the batch holds, where the cube has it."""
    prepare: Callable[[Sample], Sample] = as_they_are
    """What is done before, on the host, while the model is at the batch before."""
    stride: int = 1
    """Pixels per cell of the model's coarsest level; chips lie on whole cells."""
    any_size: bool = False
    """Whether chips may have any whole number of cells."""


def class_maps(classes: Sequence[ClassSpec], settings: PredictSettings, default: Sequence[str]) -> ClassMaps:
    """Return the decoder of the layers that are asked for, by default those of the task.

    Raises:
        ConfigError: a layer that says which class it is, of a task whose classes do not exclude each other.
    """
    names = settings.layers or tuple(default)
    odd = [n for n in names if not n.startswith("probability") and n in LAYERS]
    if "class" not in default and odd:
        raise ConfigError(
            f"the task has no layer {odd[0]}", why="its classes do not exclude each other", fix="map their probability"
        )
    return ClassMaps(classes, names)


def only_largest(settings: PredictSettings, task: str) -> bool:
    """Whether nothing but the largest score of every pixel counts, so that logits do as well as probabilities."""
    alone = settings.symmetries == 1 and settings.blend == "trim" and not settings.weights
    return alone and settings.layers == ("class",) and task == "segmentation"


class WithShares:
    """A decoder that also maps shares of the modalities, which follow the scores as further channels.

    Args:
        inner: decodes the scores.
        modalities: in the order of the shares.
    """

    def __init__(self, inner: Decoder, modalities: Sequence[str]) -> None:
        self.inner, self.count = inner, len(modalities)
        self.layers = (
            *inner.layers,
            LayerSpec("weight", "probability", "float32", float("nan"), tuple(modalities)),
        )

    def pack(self, scores: Tensor) -> Tensor:
        """Pack the scores; shares are what they are."""
        inner = self.inner.pack(scores[:, : -self.count])
        return torch.cat([inner.to(scores.dtype), scores[:, -self.count :]], 1)

    def decode(self, packed: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the inner layers and ``weight``: one band per modality, NaN where invalid."""
        said = self.inner.decode(packed[: -self.count], valid)
        weight = np.where(valid, packed[-self.count :], np.float32("nan")).astype(np.float32)
        return Prediction({**said.arrays, "weight": weight}, self.layers)
