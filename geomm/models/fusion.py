"""Fusions: feature maps of any non-empty subset of modalities to one pyramid.

Contract of every fusion: invalid cells contribute exactly nothing, so that a fully masked modality gives the same bits
as an absent one; modalities are taken in the order of the constructor, so that the order of a dict never matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import UnknownNameError
from geomm.models.features import FeatureMaps, shrink_valid


class Fusion(Protocol):
    """What the model needs of a fusion: an ``nn.Module`` that also says what it returns."""

    channels: tuple[int, ...]
    """Channels per level, finest first."""

    def __call__(self, features: Mapping[str, FeatureMaps], valid: Mapping[str, Tensor]) -> FeatureMaps:
        """Fuse; ``valid[modality]`` is bool ``(B, H, W)`` at full resolution, all False for an absent sample."""
        ...


class _Levels(nn.Module):
    """Runs one block per level over the modalities in a fixed order."""

    def __init__(self, channels: Mapping[str, Sequence[int]], blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.names = tuple(channels)
        self.inputs = {n: tuple(c) for n, c in channels.items()}
        self.blocks = nn.ModuleList(blocks)

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


class ConcatFusion(_Levels):
    """Mid fusion: concatenate per level with one validity channel per modality, then mix."""

    def __init__(self, channels: Mapping[str, Sequence[int]]) -> None:
        sizes = list(zip(*channels.values(), strict=True))
        self_channels = tuple(max(level) for level in sizes)
        super().__init__(channels, [_Concat(level, out) for level, out in zip(sizes, self_channels, strict=True)])
        self.channels = self_channels


class _Concat(nn.Module):
    def __init__(self, inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(sum(inputs) + len(inputs), outputs, 1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(outputs, outputs, 1),
        )

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        flags = valid.movedim(0, 1).to(maps[0].dtype)
        return self.mix(torch.cat([*maps, flags], 1)), None


class AttentionFusion(_Levels):
    """Attention across modalities at every cell of every level.

    At each cell the modalities are tokens; the query is made of what is valid there, so that the weights follow the
    content. Attending only within a cell is the spatial prior that cross-attention needs to learn at all from few
    samples; wider context is the encoders' business. A register token keeps cells defined where nothing is valid.
    """

    def __init__(self, channels: Mapping[str, Sequence[int]], heads: int = 4) -> None:
        sizes = list(zip(*channels.values(), strict=True))
        self_channels = tuple(max(level) for level in sizes)
        blocks = [_CellAttention(level, out, heads) for level, out in zip(sizes, self_channels, strict=True)]
        super().__init__(channels, blocks)
        self.channels = self_channels


class _CellAttention(nn.Module):
    """One level. Works with channels last, where small widths are one matrix product over all cells."""

    def __init__(self, inputs: Sequence[int], width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.ModuleList(nn.Sequential(nn.Linear(i, width), nn.LayerNorm(width)) for i in inputs)
        self.identity = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.register_token = nn.Parameter(torch.randn(width) * 0.02)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mix = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b m h w"]]:
        tokens = torch.stack(
            [p(x.movedim(1, -1)) + e for p, x, e in zip(self.project, maps, self.identity, strict=True)]
        )
        present = valid.unsqueeze(-1)
        mean = (tokens * present).sum(0) / present.sum(0).clamp_min(1)
        query = self.query(mean).unflatten(-1, (self.heads, -1))
        everything = torch.cat([tokens, self.register_token.expand_as(tokens[:1])])
        key, value = (t.unflatten(-1, (self.heads, -1)) for t in self.key_value(everything).chunk(2, -1))
        scores = (query * key).sum(-1) / query.shape[-1] ** 0.5
        allowed = torch.cat([present, torch.ones_like(present[:1])])
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(0)
        attended = (weights.unsqueeze(-1) * value).sum(0).flatten(-2)
        out = mean + self.mix(torch.cat([mean, attended], -1))
        return out.movedim(-1, 1).contiguous(), weights[:-1].mean(-1).movedim(0, 1)


FUSIONS: Mapping[str, Any] = MappingProxyType({"concat": ConcatFusion, "attention": AttentionFusion})
"""Fusions by name."""


def build_fusion(name: str, channels: Mapping[str, Sequence[int]]) -> Any:
    """Build a fusion by name for the channels per level of each modality.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in FUSIONS:
        raise UnknownNameError.of("fusion", name, FUSIONS)
    return FUSIONS[name](channels)
