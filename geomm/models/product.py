"""Fusion by products: every feature of one modality times every feature of the others, whole or at low rank.

A sum of modalities cannot say "bright in radar, but only where it is green"; a product can. Sources: Tensor Fusion
Network (Zadeh et al. 2017, arXiv 1707.07250) and Low-rank Multimodal Fusion (Liu et al. 2018, arXiv 1806.00064).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import ConfigError

MOST = 4096
"""Most products of features that :class:`TensorProduct` forms; it is (size + 1) to the number of modalities."""


class TensorProduct(nn.Module):
    """All products of the features of all modalities, each with a 1 before them, then one linear layer.

    Args:
        sizes: features of each modality.
        width: features of the result.

    Raises:
        ConfigError: there would be more than :data:`MOST` products.
    """

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        count = math.prod(size + 1 for size in sizes)
        if count > MOST:
            raise ConfigError(
                "the tensor product of so many features is too large",
                why=f"{' x '.join(str(s + 1) for s in sizes)} = {count:,} products; at most {MOST:,}",
                fix="use the fusion lmf, which is its low-rank form",
            )
        self.mix = nn.Linear(count, width)

    def forward(self, features: Sequence[Float[Tensor, "*cells _"]]) -> Float[Tensor, "*cells c"]:
        """Combine; the last modality runs fastest."""
        product = torch.ones_like(features[0][..., :1])
        for feature in features:
            product = (product.unsqueeze(-1) * _with_one(feature).unsqueeze(-2)).flatten(-2)
        return self.mix(product)  # type: ignore[no-any-return]


class LowRankProduct(nn.Module):
    """The same linear layer with a weight of low rank: a weighted sum of products of one projection per modality.

    Args:
        sizes: features of each modality.
        width: features of the result.
        rank: terms of the sum.
    """

    def __init__(self, sizes: Sequence[int], width: int, rank: int = 4) -> None:
        super().__init__()
        self.factors = nn.ParameterList(torch.randn(rank, s + 1, width) * (s + 1) ** -0.5 for s in sizes)
        self.weights = nn.Parameter(torch.full((rank,), 1.0 / rank))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Sequence[Float[Tensor, "*cells _"]]) -> Float[Tensor, "*cells c"]:
        """Combine."""
        product: Tensor | None = None
        for feature, factor in zip(features, self.factors, strict=True):
            part = torch.einsum("...i,rio->...ro", _with_one(feature), factor)
            product = part if product is None else product * part
        assert product is not None
        return (product * self.weights[:, None]).sum(-2) + self.bias


def _with_one(feature: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(feature[..., :1]), feature], -1)


class _Product(nn.Module):
    """One level: narrow and normalise every modality, zero what is invalid, multiply, add to the mean."""

    def __init__(self, inputs: Sequence[int], width: int, size: int, product: nn.Module) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Sequential(nn.Linear(i, size), nn.LayerNorm(size)) for i in inputs)
        self.keep = nn.ModuleList(nn.Linear(i, width) for i in inputs)
        self.product = product
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self, maps: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> tuple[Float[Tensor, "b c h w"], None]:
        cells, present = [x.movedim(1, -1) for x in maps], valid.unsqueeze(-1)
        narrow = [torch.where(v, f(x), 0.0) for f, x, v in zip(self.narrow, cells, present, strict=True)]
        kept = torch.stack([torch.where(v, f(x), 0.0) for f, x, v in zip(self.keep, cells, present, strict=True)])
        mean = kept.sum(0) / present.sum(0).clamp_min(1)
        out = mean + self.mix(self.product(narrow))
        return out.movedim(-1, 1).contiguous(), None


def tensor_block(inputs: Sequence[int], width: int, size: int = 8) -> nn.Module:
    """Return the block of one level: all products of eight features of every modality, at every cell."""
    return _Product(inputs, width, size, TensorProduct([size] * len(inputs), width))


def low_rank_block(inputs: Sequence[int], width: int, rank: int = 4) -> nn.Module:
    """Return the block of one level: products at low rank, whose cost grows with the modalities and not as a power."""
    return _Product(inputs, width, width, LowRankProduct([width] * len(inputs), width, rank))
