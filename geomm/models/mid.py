"""Fusion of features cell by cell: concatenation, gated sum, attention across modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.models.levels import MissingTokens


class Concat(nn.Module):
    """Concatenate with one validity channel per modality, then mix; a learned token stands for what is missing."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.missing = MissingTokens(inputs)
        self.mix = nn.Sequential(
            nn.Conv2d(sum(inputs) + len(inputs), width, 1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(width, width, 1),
        )

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        """Fuse; see :data:`geomm.models.levels.Block`."""
        flags = valid.movedim(0, 1).to(maps[0].dtype)
        return self.mix(torch.cat([*self.missing(maps, valid), flags], 1)), None


class GatedSum(nn.Module):
    """The mean of what is valid, each modality under a gate that it opens itself; shares are those of the gates.

    The head has to find what lies between the modalities; see :mod:`geomm.models.product`.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(i, width) for i in inputs)
        self.gate = nn.ModuleList(nn.Linear(i, width) for i in inputs)

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b m h w"]]:
        """Fuse; see :data:`geomm.models.levels.Block`."""
        cells, present = [x.movedim(1, -1) for x in maps], valid.unsqueeze(-1)
        gates = torch.stack([g(x).sigmoid() for g, x in zip(self.gate, cells, strict=True)]) * present
        parts = torch.stack([p(x) for p, x in zip(self.project, cells, strict=True)])
        out = (torch.where(present, parts, 0.0) * gates).sum(0) / present.sum(0).clamp_min(1)
        shares = gates.mean(-1)
        shares = shares / shares.sum(0).clamp_min(torch.finfo(shares.dtype).tiny)
        return out.movedim(-1, 1).contiguous(), shares.movedim(0, 1)


class CellAttention(nn.Module):
    """Attention across modalities at every cell. Works with channels last, where small widths are one matrix product.

    At each cell the modalities are tokens; the query is made of what is valid there, so that the weights follow the
    content. Attending only within a cell is the spatial prior that cross-attention needs to learn at all from few
    samples; wider context is the encoders' business. A register token keeps cells defined where nothing is valid.
    """

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4) -> None:
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
        """Fuse; see :data:`geomm.models.levels.Block`."""
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
