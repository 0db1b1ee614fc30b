"""Heads: a fused pyramid to what a task needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import UnknownNameError
from geomm.models.features import FeatureMaps, masked_pool, shrink_valid


class SegmentationHead(nn.Module):
    """A light pyramid decoder: from coarse to fine, narrow, upsample, add, convolve; logits at full resolution."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.LeakyReLU(0.1, inplace=True))
            for c in channels
        )
        self.classify = nn.Conv2d(channels[0], outputs, 1)

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)`` for ``valid (B, H, W)``."""
        x = self.smooth[-1](features.maps[-1])
        for level in reversed(range(len(features.maps) - 1)):
            fine = features.maps[level]
            coarse = functional.interpolate(self.narrow[level](x), fine.shape[-2:], mode="nearest")
            x = self.smooth[level](fine + coarse)
        logits: Tensor = self.classify(x)
        size = (valid.shape[-2], valid.shape[-1])
        return logits if tuple(logits.shape[-2:]) == size else functional.interpolate(logits, size, mode="bilinear")


class ClassificationHead(nn.Module):
    """Mean over valid cells of every level, then two linear layers; logits ``(B, K)``."""

    def __init__(self, channels: Sequence[int], outputs: int, width: int = 64) -> None:
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(sum(channels), width), nn.GELU(), nn.Linear(width, outputs))

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
    {"segmentation": SegmentationHead, "classification": ClassificationHead, "contrastive": EmbeddingHead}
)
"""Heads by the name of their task."""


def build_head(name: str, channels: Sequence[int], outputs: int) -> Any:
    """Build the head of a task.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in HEADS:
        raise UnknownNameError.of("head", name, HEADS)
    return HEADS[name](channels, outputs)
