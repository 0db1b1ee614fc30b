"""Heads: a fused pyramid to what a task needs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import UnknownNameError
from geomm.models.decoders import build_decoder
from geomm.models.features import FeatureMaps, masked_pool, shrink_valid
from geomm.models.levels import Shape


class SegmentationHead(nn.Module):
    """Decodes a pyramid to logits at full resolution: a decoder, then one linear layer for every cell."""

    def __init__(self, shape: Shape, outputs: int, decoder: str = "light") -> None:
        super().__init__()
        self.decoder = build_decoder(decoder, shape)
        self.classify = nn.Conv2d(self.decoder.channels, outputs, 1)

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)`` for ``valid (B, H, W)``."""
        logits: Tensor = self.classify(self.decoder(features, valid))
        size = (valid.shape[-2], valid.shape[-1])
        return logits if tuple(logits.shape[-2:]) == size else functional.interpolate(logits, size, mode="bilinear")


class ClassificationHead(nn.Module):
    """Mean over valid cells of every level, then two linear layers; logits ``(B, K)``."""

    def __init__(self, shape: Shape, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(sum(shape.channels), width), nn.GELU(), nn.Linear(width, outputs))

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return logits ``(B, K)``."""
        pooled = [masked_pool(m, shrink_valid(valid, (m.shape[-2], m.shape[-1]))) for m in features.maps]
        return self.classify(torch.cat(pooled, 1))  # type: ignore[no-any-return]


class EmbeddingHead(ClassificationHead):
    """The same read-out, normalised to unit length: a vector ``(B, D)`` for retrieval."""

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)``."""
        return functional.normalize(super().forward(features, valid), dim=-1)


HEADS: Mapping[str, Any] = MappingProxyType(
    {
        "segmentation": SegmentationHead,
        "classification": ClassificationHead,
        "multilabel": ClassificationHead,
        "contrastive": EmbeddingHead,
    }
)
"""Heads by the name of their task."""


def build_head(name: str, shape: Shape, outputs: int, *, decoder: str = "light") -> Any:
    """Build the head of a task.

    Args:
        name: of the task.
        shape: of the pyramid that it reads.
        outputs: classes, or length of the embedding.
        decoder: see :mod:`geomm.models.decoders`; only segmentation has one.

    Raises:
        UnknownNameError: there is no head or decoder of that name.
    """
    if name not in HEADS:
        raise UnknownNameError.of("head", name, HEADS)
    if name == "segmentation":
        return SegmentationHead(shape, outputs, decoder)
    return HEADS[name](shape, outputs)
