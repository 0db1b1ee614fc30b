"""Heads: a fused pyramid to what a task needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import UnknownNameError
from geomm.models.features import FeatureMaps, masked_pool, shrink_valid


class SegmentationHead(nn.Module):
    """A light pyramid decoder: from coarse to fine, upsample, add, convolve; logits at full resolution."""

    def __init__(self, channels: Sequence[int], outputs: int, width: int = 32) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in channels
        )
        self.classify = nn.Conv2d(width, outputs, 1)

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)`` for ``valid (B, H, W)``."""
        x: Tensor | None = None
        for level in reversed(range(len(features.maps))):
            y = self.lateral[level](features.maps[level])
            if x is not None:
                y = y + functional.interpolate(x, y.shape[-2:], mode="nearest")
            x = self.smooth[level](y)
        assert x is not None
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
