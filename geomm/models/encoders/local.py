"""Two small encoders of our own, for tests and small problems: a CNN and a vision transformer."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.models.encoders.contract import require_multiple
from geomm.models.features import FeatureMaps, shrink_valid
from geomm.models.positions import sincos_positions
from geomm.models.tokens import AttentionBlock

PATCH = 4
"""Side of a patch of :class:`TinyViT` in pixels."""


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)
    )


class TinyCNN(nn.Module):
    """Three levels of two convolutions, validity as a channel.

    Args:
        in_channels: bands of the modality.
        width: channels of the finest level; each coarser level doubles them.
        levels: number of levels; strides are 1, 2, 4, ...
    """

    def __init__(self, in_channels: int, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        self.channels = tuple(width * 2**k for k in range(levels))
        self.strides = tuple(2**k for k in range(levels))
        inputs = (in_channels + 1, *self.channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(i, o, 1 if k == 0 else 2), _conv(o, o))
            for k, (i, o) in enumerate(zip(inputs, self.channels, strict=True))
        )

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the coarsest stride.
        """
        require_multiple(image, self.strides[-1])
        x = torch.cat([image, valid.unsqueeze(1).to(image.dtype)], 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return FeatureMaps(tuple(maps), self.strides)


class TinyViT(nn.Module):
    """Two transformer blocks over patches of 4 pixels; patches without a valid pixel are not attended to.

    Args:
        in_channels: bands of the modality.
        width: of the tokens, a multiple of 4.
        depth: number of blocks.
    """

    def __init__(self, in_channels: int, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.channels, self.strides = (width,), (PATCH,)
        self.embed = nn.Conv2d(in_channels + 1, width, PATCH, PATCH)
        self.blocks = nn.ModuleList(AttentionBlock(width, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of 4.
        """
        require_multiple(image, PATCH)
        x = self.embed(torch.cat([image, valid.unsqueeze(1).to(image.dtype)], 1))
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2) + sincos_positions(height, width, x.shape[1]).to(x)
        seen = shrink_valid(valid, (height, width)).flatten(1)
        for block in self.blocks:
            tokens = block(tokens, tokens, seen)
        return token_maps(self.norm(tokens), seen, (height, width), PATCH)


def token_maps(
    tokens: Float[Tensor, "b n d"], seen: Bool[Tensor, "b n"], grid: tuple[int, int], stride: int
) -> FeatureMaps:
    """Lay the tokens of a grid out as a map of one level, 0 where nothing was seen; pool those that were."""
    kept = torch.where(seen.unsqueeze(-1), tokens, 0.0)
    maps = kept.transpose(1, 2).reshape(len(kept), -1, *grid).contiguous()
    pooled = kept.sum(1) / seen.sum(1, keepdim=True).clamp_min(1)
    return FeatureMaps((maps,), (stride,), tokens=kept, pooled=pooled)
