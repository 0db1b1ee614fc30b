"""Fusion level by level: what all fusions of feature pyramids have in common.

Contract: invalid cells contribute exactly nothing, or a learned token that stands for "not there", so that a fully
masked modality gives the same bits as an absent one; modalities are taken in the order of the constructor, so that the
order of a dict never matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.models.features import FeatureMaps, shrink_maps, shrink_valid

type Block = Callable[[Sequence[int], int], nn.Module]
"""Makes the block of a level from the channels of the modalities there and the width of the result. A block takes maps
``(B, C, H, W)``, 0 where invalid, and ``valid (M, B, H, W)``; it returns the fused map and, if it has them, the shares
of the modalities ``(B, M, H, W)``."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Channels and strides of a pyramid, finest first."""

    channels: tuple[int, ...]
    """Per level."""
    strides: tuple[int, ...]
    """Input pixels per cell."""


class Levels(nn.Module):
    """Runs one block per level over the modalities in a fixed order.

    The levels are those of the modality that has most of them (of several, the finest, then the first); the others give
    the level whose stride is nearest, resized. Tokens without a grid go in as maps of one row: ``(B, D, 1, N)``.

    Args:
        shapes: of each modality's pyramid.
        block: see :data:`Block`; the result is as wide as the widest modality.
    """

    def __init__(self, shapes: Mapping[str, Shape], block: Block) -> None:
        super().__init__()
        self.names = tuple(shapes)
        lead = max(shapes.values(), key=lambda s: (len(s.strides), -s.strides[0]))
        self.strides = lead.strides
        self.sources = {n: tuple(_nearest(s.strides, stride) for stride in lead.strides) for n, s in shapes.items()}
        self.inputs = {n: tuple(shapes[n].channels[k] for k in self.sources[n]) for n in self.names}
        levels = list(zip(*self.inputs.values(), strict=True))
        self.channels = tuple(max(level) for level in levels)
        self.blocks = nn.ModuleList(block(level, width) for level, width in zip(levels, self.channels, strict=True))

    def forward(self, features: Mapping[str, FeatureMaps], valid: Mapping[str, Tensor]) -> FeatureMaps:
        """Fuse all levels; missing modalities become zeros that are invalid everywhere.

        Args:
            features: of any non-empty subset of the modalities.
            valid: bool ``(B, H, W)`` at full resolution, all False for an absent sample.
        """
        like = next(iter(features.values())).maps[0]
        height, width = next(iter(valid.values())).shape[-2:]
        out, weights = [], None
        for level, block in enumerate(self.blocks):
            size = (max(height // self.strides[level], 1), width // self.strides[level])
            maps, masks = [], []
            for name in self.names:
                if name in features:
                    own, mask = _on_grid(features[name].maps[self.sources[name][level]], valid[name], size)
                else:
                    own = like.new_zeros((len(like), self.inputs[name][level], *size))
                    mask = torch.zeros((len(like), *size), dtype=torch.bool, device=like.device)
                maps.append(own)
                masks.append(mask)
            fused, share = block(maps, torch.stack(masks))
            out.append(fused)
            weights = share if level == 0 else weights
        return FeatureMaps(tuple(out), self.strides, weights=weights)


class MissingTokens(nn.Module):
    """A learned vector for every modality, put where it is not valid: "not there" is told from "zero".

    Args:
        sizes: channels of each modality.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.tokens = nn.ParameterList(torch.randn(size) * 0.02 for size in sizes)

    def forward(self, maps: Sequence[Tensor], valid: Tensor) -> list[Tensor]:
        """Fill maps ``(B, C, H, W)`` where ``valid (M, B, H, W)`` is False."""
        return [
            torch.where(v.unsqueeze(1), x, t[:, None, None]) for x, v, t in zip(maps, valid, self.tokens, strict=True)
        ]


def _nearest(strides: Sequence[int], wanted: int) -> int:
    """Return which of the strides is nearest in octaves; of two, the finer."""
    return min(range(len(strides)), key=lambda k: (abs(math.log2(strides[k] / wanted)), strides[k]))


def _on_grid(own: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring a map to a level's size: repeat cells, or take the mean of the valid ones; 0 where invalid."""
    shape = (own.shape[-2], own.shape[-1])
    if shape != size:
        if shape[0] * shape[1] > size[0] * size[1]:
            own = shrink_maps(own, valid, size)
        else:
            own = functional.interpolate(own, size, mode="nearest")
    mask = shrink_valid(valid, size)
    return torch.where(mask.unsqueeze(1), own, 0.0), mask
