"""Fusions by name: feature maps of any subset of modalities to one pyramid; see :mod:`geomm.models.levels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import UnknownNameError
from geomm.models.levels import Levels
from geomm.models.product import LowRankFusion, TensorFusion
from geomm.models.tokens import Bottleneck, CoAttention, Joint, Perceiver


class ConcatFusion(Levels):
    """Mid fusion: concatenate per level with one validity channel per modality, then mix."""

    def __init__(self, channels: Mapping[str, Sequence[int]]) -> None:
        super().__init__(channels, _Concat)


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


class SumFusion(Levels):
    """Mid fusion: the mean of what is valid, each modality under a gate that it opens itself.

    The head has to find what lies between the modalities; see :mod:`geomm.models.product`.
    """

    def __init__(self, channels: Mapping[str, Sequence[int]]) -> None:
        super().__init__(channels, _Sum)


class _Sum(nn.Module):
    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(i, width) for i in inputs)
        self.gate = nn.ModuleList(nn.Linear(i, width) for i in inputs)

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        cells, present = [x.movedim(1, -1) for x in maps], valid.unsqueeze(-1)
        parts = [p(x) * g(x).sigmoid() for p, g, x in zip(self.project, self.gate, cells, strict=True)]
        out = torch.where(present, torch.stack(parts), 0.0).sum(0) / present.sum(0).clamp_min(1)
        return out.movedim(-1, 1).contiguous(), None


class AttentionFusion(Levels):
    """Attention across modalities at every cell of every level.

    At each cell the modalities are tokens; the query is made of what is valid there, so that the weights follow the
    content. Attending only within a cell is the spatial prior that cross-attention needs to learn at all from few
    samples; wider context is the encoders' business. A register token keeps cells defined where nothing is valid.
    """

    def __init__(self, channels: Mapping[str, Sequence[int]], heads: int = 4) -> None:
        super().__init__(channels, lambda level, width: _CellAttention(level, width, heads))


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


FUSIONS: Mapping[str, Any] = MappingProxyType(
    {
        "concat": ConcatFusion,
        "sum": SumFusion,
        "tfn": TensorFusion,
        "lmf": LowRankFusion,
        "attention": AttentionFusion,
        "co_attention": partial(Levels, block=CoAttention),
        "joint": partial(Levels, block=Joint),
        "mbt": partial(Levels, block=Bottleneck),
        "perceiver": partial(Levels, block=Perceiver),
    }
)
"""Fusions by name."""


def build_fusion(name: str, channels: Mapping[str, Sequence[int]]) -> Any:
    """Build a fusion by name for the channels per level of each modality.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in FUSIONS:
        raise UnknownNameError.of("fusion", name, FUSIONS)
    return FUSIONS[name](channels)
