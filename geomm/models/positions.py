"""Positions of tokens on a grid, computed and not learned, so that any size of image works."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def sincos_positions(height: int, width: int, size: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of row and column, of unit scale; ``size`` is a multiple of 4.

    Half of the features are of the row, half of the column; frequencies fall from 1 to 1/10,000 (arXiv 1706.03762).
    """
    rates = 1e4 ** -(torch.arange(size // 4) / max(size // 4 - 1, 1))
    parts = []
    for at in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"):
        angle = at.flatten()[:, None] * rates
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, 1)
