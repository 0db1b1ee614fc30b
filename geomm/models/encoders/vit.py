"""Vision transformers of torchgeo with a fixed set of bands: those of timm, and CROMA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import ContractError
from geomm.models.encoders.contract import EncoderInput, require_multiple
from geomm.models.encoders.local import token_maps
from geomm.models.features import FeatureMaps, shrink_valid

OPTICAL, RADAR = 12, 2
"""Bands of CROMA's two encoders."""


class ViTEncoder(nn.Module):
    """The patch tokens of a vision transformer of timm, after its last norm.

    Args:
        network: built with ``dynamic_img_size``, so that its positions follow the grid.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.channels, self.strides = (int(network.embed_dim),), (int(network.patch_embed.patch_size[0]),)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the patch.
        """
        grid = patch_grid(image, self.strides[0])
        tokens = self.network.forward_features(image)[:, self.network.num_prefix_tokens :]
        return token_maps(tokens, shrink_valid(valid, grid).flatten(1), grid, self.strides[0])


class CromaEncoder(nn.Module):
    """One of CROMA's two encoders; its penalty on distance is made for the grid at hand.

    ``pooled`` is CROMA's own answer for the image, of the patches that were seen.

    Args:
        network: torchgeo's ``CROMA`` of a single modality.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        del network.attn_bias  # of the square that it was trained at
        self.network = network
        self.channels, self.strides = (int(network.encoder_dim),), (int(network.patch_size),)
        self.register_buffer("slopes", _slopes(int(network.num_heads)), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the patch.
        """
        grid = patch_grid(image, self.strides[0])
        seen = shrink_valid(valid, grid).flatten(1)
        sensor = "s1" if "sar" in self.network.modalities else "s2"
        encoder, pool = getattr(self.network, f"{sensor}_encoder"), getattr(self.network, f"{sensor}_GAP_FFN")
        tokens = encoder(imgs=image, attn_bias=distance_penalty(grid, self.get_buffer("slopes")))
        features = token_maps(tokens, seen, grid, self.strides[0])
        return replace(features, pooled=pool(features.pooled) * seen.any(1, keepdim=True))


def croma_modality(name: str, given: EncoderInput) -> str:
    """Return which of CROMA's encoders reads a modality, ``sar`` or ``optical``.

    Raises:
        ContractError: neither does, or nobody said which sensor it is.
    """
    radar = all(given.polarisations(name))
    if given.bands != (RADAR if radar else OPTICAL):
        raise ContractError(
            "CROMA reads 2 bands of radar or 12 optical ones",
            where=name,
            why=f"{given.bands} bands: {', '.join(given.known(name).bands)}",
            fix="give it VV and VH, or the bands of Sentinel-2 without B10",
        )
    return "sar" if radar else "optical"


def patch_grid(image: Float[Tensor, "b c h w"], patch: int) -> tuple[int, int]:
    """Return rows and columns of patches.

    Raises:
        ContractError: height or width is not a multiple of the patch.
    """
    require_multiple(image, patch)
    return image.shape[-2] // patch, image.shape[-1] // patch


def distance_penalty(grid: tuple[int, int], slopes: Float[Tensor, " a"]) -> Float[Tensor, "1 a n n"]:
    """Return minus slope times distance in patches, for every head and pair of patches (ALiBi in two dimensions)."""
    rows, columns = (torch.arange(n, device=slopes.device, dtype=slopes.dtype) for n in grid)
    row, column = (x.flatten() for x in torch.meshgrid(rows, columns, indexing="ij"))
    distance = torch.hypot(row[:, None] - row, column[:, None] - column)
    return (-slopes[:, None, None] * distance)[None]


def _slopes(heads: int) -> Float[Tensor, " a"]:
    """Return torchgeo's slopes: its penalty between neighbours."""
    from torchgeo.models.croma import get_2dalibi

    penalty: Tensor = get_2dalibi(heads, 4)
    return -penalty[0, :, 0, 1]
