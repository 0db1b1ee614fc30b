"""Heads: a fused pyramid to what a task needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import UnknownNameError
from geomm.models.decoders import build_decoder
from geomm.models.features import FeatureMaps, masked_pool, shrink_maps, shrink_valid
from geomm.models.levels import Shape


class SegmentationHead(nn.Module):
    """Decodes a pyramid to logits at full resolution: a decoder, then one linear layer for every cell."""

    dense = True
    """Whether it answers for every pixel."""

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

    dense = False

    def __init__(self, shape: Shape, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(sum(shape.channels), width), nn.GELU(), nn.Linear(width, outputs))

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return logits ``(B, K)``."""
        pooled = [masked_pool(m, shrink_valid(valid, (m.shape[-2], m.shape[-1]))) for m in features.maps]
        return self.classify(torch.cat(pooled, 1))  # type: ignore[no-any-return]


GRAIN = 2
"""Finest stride of the cells of a vector: finer ones cost four times as much and say little more."""


class EmbeddingHead(nn.Module):
    """One vector for every cell, and their mean over valid cells at unit length for the chip: ``(B, D)``.

    What a chip has in common with a text is therefore the mean of what its cells have, and cells say where it is. The
    levels are projected where they are and meet on the finest of :data:`GRAIN` pixels or more.
    """

    dense = False

    def __init__(self, shape: Shape, outputs: int, width: int = 64) -> None:
        super().__init__()
        coarse = [k for k, stride in enumerate(shape.strides) if stride >= GRAIN]
        self.level = coarse[0] if coarse else len(shape.strides) - 1
        self.levels = nn.ModuleList(nn.Conv2d(c, width, 1) for c in shape.channels)
        self.project = nn.Sequential(nn.GELU(), nn.Conv2d(width, outputs, 1))

    def cells(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return the vectors of cells ``(B, D, h, w)``, 0 where nothing is valid."""
        like = features.maps[self.level]
        size = (like.shape[-2], like.shape[-1])
        finer = [shrink_maps(m, valid, size) for m in features.maps[: self.level]]
        parts = [project(m) for m, project in zip([*finer, *features.maps[self.level :]], self.levels, strict=True)]
        resized = [
            p if tuple(p.shape[-2:]) == size else functional.interpolate(p, size, mode="bilinear") for p in parts
        ]
        cells: Tensor = self.project(torch.stack(resized).sum(0))
        return cells * shrink_valid(valid, size).unsqueeze(1)

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)``."""
        cells = self.cells(features, valid)
        pooled = masked_pool(cells, shrink_valid(valid, (cells.shape[-2], cells.shape[-1])))
        return functional.normalize(pooled, dim=-1)


_TABLE: dict[str, Any] = {
    "segmentation": SegmentationHead,
    "classification": ClassificationHead,
    "multilabel": ClassificationHead,
    "contrastive": EmbeddingHead,
}

HEADS: Mapping[str, Any] = MappingProxyType(_TABLE)
"""Heads by the name of their task."""


def build_head(name: str, shape: Shape, outputs: int, *, decoder: str = "light") -> Any:
    """Build the head of a task.

    Args:
        name: of the task.
        shape: of the pyramid that it reads.
        outputs: classes, or length of the embedding.
        decoder: see :mod:`geomm.models.decoders`; only the head of segmentation has one.

    Raises:
        UnknownNameError: there is no head or decoder of that name.
    """
    if name not in HEADS:
        raise UnknownNameError.of("head", name, HEADS)
    if HEADS[name] is SegmentationHead:
        return SegmentationHead(shape, outputs, decoder)
    return HEADS[name](shape, outputs)


def set_head(task: str, head: str | Callable[[Shape, int], Any]) -> None:
    """Give a new task its head; see :func:`geomm.tasks.register_task`.

    Raises:
        UnknownNameError: there is no task whose head it could share.
    """
    if isinstance(head, str) and head not in _TABLE:
        raise UnknownNameError.of("head", head, HEADS)
    _TABLE[task] = _TABLE[head] if isinstance(head, str) else head


def answers_for_pixels(task: str) -> bool:
    """Whether the head of a task answers for every pixel rather than for a chip."""
    return bool(getattr(HEADS.get(task), "dense", False))
