"""A small local text encoder with a deterministic, offline vocabulary."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.models.text.contract import TextEncoder

VOCABULARY = 4096
"""Hash buckets; bucket 0 is padding."""


def tokenise(texts: Sequence[str], length: int = 32) -> Tensor:
    """Map words to hash buckets, int64 ``(B, length)``, 0 for padding; case and punctuation are dropped.

    >>> bool((tokenise(["Flooded fields"]) == tokenise(["flooded, FIELDS!"])).all())
    True
    """
    rows = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())[:length]
        ids = [zlib.crc32(w.encode()) % (VOCABULARY - 1) + 1 for w in words]
        rows.append(ids + [0] * (length - len(ids)))
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), length)


class TinyText(TextEncoder):
    """Two transformer layers over hashed words; the mean of the words, projected to unit length.

    Args:
        outputs: length of the vector.
        width: of the layers.
    """

    def __init__(self, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.position = nn.Parameter(torch.randn(1, 32, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(width, outputs)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``; an empty text gives the vector of the bias."""
        ids = tokenise(texts).to(self.position.device)
        empty = ids == 0
        attend = empty.clone()
        attend[:, 0] = False
        x = self.layers(self.embed(ids) + self.position[:, : ids.shape[1]], src_key_padding_mask=attend)
        x = torch.where(empty.unsqueeze(-1), 0.0, x).sum(1) / (~empty).sum(1, keepdim=True).clamp_min(1)
        return functional.normalize(self.project(x), dim=-1)
