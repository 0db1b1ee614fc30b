"""What every encoder and fusion returns, whatever library it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """A pyramid of feature maps, finest first."""

    maps: tuple[Tensor, ...]
    """One ``(B, C, H, W)`` per level."""
    strides: tuple[int, ...]
    """Input pixels per cell, by level."""
    tokens: Tensor | None = None
    """``(B, N, D)`` where the encoder has tokens."""
    pooled: Tensor | None = None
    """``(B, D)`` where the encoder has one vector per image."""
    weights: Tensor | None = None
    """``(B, M, H, W)`` share of each modality per cell of the finest level, where the fusion has it; sum at most 1."""


def shrink_maps(maps: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps ``(B, C, H, W)`` to a smaller size by the mean over valid cells; 0 where there is none."""
    mask = shrink_valid(valid, (maps.shape[-2], maps.shape[-1])).unsqueeze(1).to(maps.dtype)
    pool = torch.nn.functional.adaptive_avg_pool2d
    return pool(maps * mask, size) / pool(mask, size).clamp_min(torch.finfo(maps.dtype).tiny)


def shrink_valid(valid: Bool[Tensor, "b h w"], size: tuple[int, int]) -> Bool[Tensor, "b hh ww"]:
    """Validity on a coarser level: a cell is valid if any of its pixels is."""
    if tuple(valid.shape[-2:]) == size:
        return valid
    return torch.nn.functional.adaptive_max_pool2d(valid.float().unsqueeze(1), size).squeeze(1) > 0


def masked_mean(maps: Float[Tensor, "n b c h w"], valid: Bool[Tensor, "n b h w"]) -> Float[Tensor, "b c h w"]:
    """Mean over the first axis where valid; 0 where nothing is."""
    weight = valid.unsqueeze(2).to(maps.dtype)
    return (maps * weight).sum(0) / weight.sum(0).clamp_min(1.0)


def masked_pool(maps: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c"]:
    """Mean over the valid cells of an image; 0 where there is none."""
    weight = valid.unsqueeze(1).to(maps.dtype)
    return (maps * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1.0)
