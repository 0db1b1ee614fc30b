"""Fusion that leaves its first modality as it is until it has learned better: gated cross-attention (Flamingo).

Both steps of a block pass a gate tanh(a) with a = 0 at first, so that the result is the first modality, bit for bit:
other modalities can be added to a model that works. Source: Alayrac et al. 2022, arXiv 2204.14198.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.models.levels import MissingTokens
from geomm.models.tokens import Attention, cut, distance_bias, joined


class GatedBlock(nn.Module):
    """Attention and a small network, each added to the tokens through a gate that is closed at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(
        self,
        tokens: Float[Tensor, "n q d"],
        context: Float[Tensor, "n k d"],
        allowed: Bool[Tensor, "n k"],
        bias: Float[Tensor, "a q k"],
    ) -> Float[Tensor, "n q d"]:
        """Return the tokens after both."""
        attention, mix = self.gates.tanh()
        tokens = tokens + attention * self.attention(tokens, context, allowed, bias)
        return tokens + mix * self.mix(tokens)  # type: ignore[no-any-return]


class GatedAttention(nn.Module):
    """One level: the first modality asks all others within windows of cells.

    Where the first modality is missing, a learned token asks in its place. It is projected only where it is narrower
    than the widest.
    """

    bias: Tensor

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4) -> None:
        super().__init__()
        self.missing = MissingTokens(inputs[:1])
        self.host = nn.Identity() if inputs[0] == width else nn.Linear(inputs[0], width)
        self.project = nn.ModuleList(nn.Sequential(nn.Linear(i, width), nn.LayerNorm(width)) for i in inputs[1:])
        self.block = GatedBlock(width, heads)
        self.register_buffer("bias", distance_bias(heads), persistent=False)

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        """Fuse; see :data:`geomm.models.levels.Block`."""
        (host,) = self.missing(maps[:1], valid[:1])
        tokens = cut(self.host(host.movedim(1, -1)).unsqueeze(0))[0]
        guests = [cut(f(x.movedim(1, -1)).unsqueeze(0))[0] for f, x in zip(self.project, maps[1:], strict=True)]
        context = torch.cat([tokens[:, :0], *guests], 1)
        seen = [cut(v[None, ..., None])[0, ..., 0] for v in valid[1:]]
        allowed = torch.cat([torch.zeros_like(tokens[:, :0, 0], dtype=torch.bool), *seen], 1)
        bias = torch.cat([self.bias[..., :0], *[self.bias] * len(guests)], -1)
        found = self.block(tokens, context, allowed, bias)
        return joined(found, len(host), host.shape[-2], host.shape[-1]).movedim(-1, 1).contiguous(), None
