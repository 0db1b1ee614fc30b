"""Fusion level by level: what all fusions of feature pyramids have in common.

Contract: invalid cells contribute exactly nothing, so that a fully masked modality gives the same bits as an absent
one; modalities are taken in the order of the constructor, so that the order of a dict never matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from geomm.models.features import FeatureMaps, shrink_valid


class Fusion(Protocol):
    """What the model needs of a fusion: an ``nn.Module`` that also says what it returns."""

    channels: tuple[int, ...]
    """Channels per level, finest first."""

    def __call__(self, features: Mapping[str, FeatureMaps], valid: Mapping[str, Tensor]) -> FeatureMaps:
        """Fuse; ``valid[modality]`` is bool ``(B, H, W)`` at full resolution, all False for an absent sample."""
        ...


class Levels(nn.Module):
    """Runs one block per level over the modalities in a fixed order.

    Args:
        channels: per level of each modality, finest first.
        block: makes the block of a level from the channels of the modalities there and the width of the result, which
            is that of the widest. A block takes maps ``(B, C, H, W)``, 0 where invalid, and ``valid (M, B, H, W)``; it
            returns the fused map and, if it has them, the shares of the modalities ``(B, M, H, W)``.
    """

    def __init__(self, channels: Mapping[str, Sequence[int]], block: Callable[[Sequence[int], int], nn.Module]) -> None:
        super().__init__()
        self.names = tuple(channels)
        self.inputs = {n: tuple(c) for n, c in channels.items()}
        levels = list(zip(*channels.values(), strict=True))
        self.channels = tuple(max(level) for level in levels)
        self.blocks = nn.ModuleList(block(level, width) for level, width in zip(levels, self.channels, strict=True))

    def forward(self, features: Mapping[str, FeatureMaps], valid: Mapping[str, Tensor]) -> FeatureMaps:
        """Fuse all levels; missing modalities become zeros that are invalid everywhere."""
        like = next(iter(features.values()))
        out, weights = [], None
        for level, block in enumerate(self.blocks):
            shape = like.maps[level].shape
            maps, masks = [], []
            for name in self.names:
                if name in features:
                    mask = shrink_valid(valid[name], (shape[-2], shape[-1]))
                    maps.append(torch.where(mask.unsqueeze(1), features[name].maps[level], 0.0))
                else:
                    empty = (shape[0], self.inputs[name][level], *shape[-2:])
                    mask = torch.zeros((shape[0], *shape[-2:]), dtype=torch.bool, device=like.maps[level].device)
                    maps.append(like.maps[level].new_zeros(empty))
                masks.append(mask)
            fused, share = block(maps, torch.stack(masks))
            out.append(fused)
            weights = share if level == 0 else weights
        return FeatureMaps(tuple(out), like.strides, weights=weights)
