"""Fusion by attention between cells: co-attention, joint attention, bottlenecks and a Perceiver resampler.

Cells attend within square windows, so that the cost grows with the image and not with its square. A penalty on distance
(slope times cells apart, a slope for every head) is the spatial prior without which cross-attention hardly learns from
few samples. A register token that is always there keeps attention defined where nothing is valid. Whatever is read out
passes a small network at every token: with a linear read-out joint attention and bottlenecks learn half of a task that
needs both modalities at once, and stay there.

Sources: CROMA (Fuller et al. 2023, arXiv 2311.00566), MBT (Nagrani et al. 2021, arXiv 2107.00135), Flamingo's resampler
(Alayrac et al. 2022, arXiv 2204.14198).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

WINDOW = 4
"""Height and width of a window in cells."""


class Attention(nn.Module):
    """Multi-head attention of tokens on a context and a register token.

    Args:
        width: of the tokens.
        heads: divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.register_token = nn.Parameter(torch.randn(width) * 0.02)
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "n q d"],
        context: Float[Tensor, "n k d"],
        allowed: Bool[Tensor, "n k"],
        bias: Float[Tensor, "a q k"] | None = None,
    ) -> Float[Tensor, "n q d"]:
        """Attend to what is allowed; ``bias`` is added to the scores, head by head."""
        register = self.register_token.expand(len(context), 1, -1)
        context = self.context_norm(torch.cat([register, context], 1))
        allowed = torch.cat([allowed.new_ones((len(allowed), 1)), allowed], 1)
        query = self.query(self.query_norm(tokens)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.key_value(context).chunk(2, -1))
        mask = torch.zeros_like(allowed, dtype=query.dtype).masked_fill(~allowed, float("-inf"))[:, None, None]
        if bias is not None:
            mask = mask + nn.functional.pad(bias, (1, 0)).to(query.dtype)
        found = nn.functional.scaled_dot_product_attention(query, key, value, mask)
        return self.out(found.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class AttentionBlock(nn.Module):
    """Attention and a small network, each added to the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, context: Tensor, allowed: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the tokens after both."""
        tokens = tokens + self.attention(tokens, context, allowed, bias)
        return tokens + self.mix(tokens)  # type: ignore[no-any-return]


def distance_bias(heads: int, window: int = WINDOW) -> Float[Tensor, "a s s"]:
    """Return minus slope times distance in cells between the cells of a window; slopes halve from head to head."""
    at = torch.cartesian_prod(torch.arange(window), torch.arange(window)).double()
    slopes = 2.0 ** -torch.arange(heads, dtype=torch.double)
    return (-slopes[:, None, None] * torch.cdist(at, at)).float()


class _Windows(nn.Module, ABC):
    """One level: cuts maps into windows of tokens, lets a subclass attend, reads out, puts windows together again."""

    bias: Tensor

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Sequential(nn.Linear(i, width), nn.LayerNorm(width)) for i in inputs)
        self.identity = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.read = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.register_buffer("bias", distance_bias(heads), persistent=False)

    @abstractmethod
    def attend(self, tokens: Float[Tensor, "m n s d"], valid: Bool[Tensor, "m n s"]) -> Float[Tensor, "n s d"]:
        """Return what attention makes of the tokens of each window, one for every cell."""

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        height, width = valid.shape[-2:]
        tokens = torch.stack(
            [f(x.movedim(1, -1)) + e for f, x, e in zip(self.project, maps, self.identity, strict=True)]
        )
        parts, inside = cut(torch.where(valid.unsqueeze(-1), tokens, 0.0)), cut(valid.unsqueeze(-1))[..., 0]
        before = _mean(parts, inside)
        found = before + self.read(torch.cat([before, self.attend(parts, inside)], -1))
        return joined(found, len(maps[0]), height, width).movedim(-1, 1).contiguous(), None


class CoAttention(_Windows):
    """Every modality attends to all others, at the same time."""

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4) -> None:
        super().__init__(inputs, width, heads)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in inputs)

    def attend(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Let every modality ask all others."""
        found, count = [], len(tokens)
        for m, block in enumerate(self.blocks):
            others = [k for k in range(count) if k != m]
            context, allowed = (
                (torch.cat([part[k] for k in others], 1) if others else part[m][:, :0]) for part in (tokens, valid)
            )
            bias = torch.cat([self.bias[..., :0], *[self.bias] * len(others)], -1)
            found.append(block(tokens[m], context, allowed, bias))
        return _mean(torch.stack(found), valid)


class Joint(_Windows):
    """All tokens of all modalities attend to each other, twice."""

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4, layers: int = 2) -> None:
        super().__init__(inputs, width, heads)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(layers))

    def attend(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Let all tokens of all modalities ask each other."""
        count = len(tokens)
        together, allowed = torch.cat([*tokens], 1), torch.cat([*valid], 1)
        for block in self.blocks:
            together = block(together, together, allowed, self.bias.repeat(1, count, count))
        return _mean(torch.stack(together.chunk(count, 1)), valid)


class Bottleneck(_Windows):
    """Every modality attends to itself and to a few tokens per window that all share (MBT)."""

    def __init__(
        self, inputs: Sequence[int], width: int, heads: int = 4, layers: int = 2, bottlenecks: int = 4
    ) -> None:
        super().__init__(inputs, width, heads)
        self.bottlenecks = nn.Parameter(torch.randn(bottlenecks, width) * 0.02)
        self.blocks = nn.ModuleList(nn.ModuleList(AttentionBlock(width, heads) for _ in inputs) for _ in range(layers))

    def attend(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Let every modality ask itself and what all share."""
        streams, cells = list(tokens), tokens.shape[2]
        shared = self.bottlenecks.expand(tokens.shape[1], -1, -1)
        here = valid.any(-1)  # windows where a modality has anything
        free = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
        bias = nn.functional.pad(self.bias, (0, shared.shape[1], 0, shared.shape[1]))
        for layer in self.blocks:
            proposed = []
            for m, block in enumerate(cast("nn.ModuleList", layer)):
                together = torch.cat([streams[m], shared], 1)
                together = block(together, together, torch.cat([valid[m], free], 1), bias)
                streams[m] = together[:, :cells]
                proposed.append(together[:, cells:])
            shared = torch.where(here.any(0)[:, None, None], _mean(torch.stack(proposed), here.unsqueeze(-1)), shared)
        return _mean(torch.stack(streams), valid)


class Perceiver(_Windows):
    """A few latent tokens per window take up all modalities; cells then ask them (Flamingo's resampler)."""

    def __init__(self, inputs: Sequence[int], width: int, heads: int = 4, layers: int = 2, latents: int = 8) -> None:
        super().__init__(inputs, width, heads)
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.place = nn.Parameter(torch.randn(WINDOW**2, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(layers))
        self.ask = AttentionBlock(width, heads)

    def attend(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Let latents ask all modalities, and cells the latents."""
        placed = tokens + self.place
        together, allowed = torch.cat([*placed], 1), torch.cat([*valid], 1)
        latents = self.latents.expand(tokens.shape[1], -1, -1)
        free = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        for block in self.blocks:
            latents = block(latents, torch.cat([together, latents], 1), torch.cat([allowed, free], 1))
        return self.ask(_mean(placed, valid) + self.place, latents, free)  # type: ignore[no-any-return]


def cut(x: Tensor) -> Tensor:
    """Cut ``(M, B, H, W, C)`` into windows ``(M, N, S, C)``; what is missing to whole windows is 0."""
    high, wide = (-x.shape[k] % WINDOW for k in (2, 3))
    x = nn.functional.pad(x, (0, 0, 0, wide, 0, high))
    count, batch, height, width, channels = x.shape
    x = x.reshape(count, batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels).transpose(3, 4)
    return x.reshape(count, -1, WINDOW**2, channels)


def joined(x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Put windows ``(N, S, C)`` together to ``(B, H, W, C)``."""
    down, across = -(-height // WINDOW), -(-width // WINDOW)
    x = x.reshape(batch, down, across, WINDOW, WINDOW, -1).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x[:, :height, :width]


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``(M, ..., D)`` over the modalities that are ``valid (M, ...)``; 0 where none is."""
    weight = valid.unsqueeze(-1)
    return torch.where(weight, tokens, 0.0).sum(0) / weight.sum(0).clamp_min(1)
