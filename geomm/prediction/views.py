"""Views of a batch that a model sees as well as the batch itself, turned back (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from geomm.dataset import Sample


def averaged(scores: Callable[[Sample], Tensor], batch: Sample, symmetries: int) -> Tensor:
    """Return the mean of the scores of several views of a batch, each turned back.

    Args:
        scores: ``(B, K, H, W)`` of a batch, or ``(B, K, 1, 1)``.
        batch: what is seen.
        symmetries: 1 for the batch itself, 4 with mirror images and the half turn, 8 with the other quarter turns
            (square chips only; others are seen in 4 ways).
    """
    if symmetries == 1:
        return scores(batch)
    shape = next(iter(batch.images.values())).shape[-2:]
    turns = (0, 1, 2, 3) if symmetries == 8 and shape[0] == shape[1] else (0, 2)
    total: Tensor | None = None
    for turn in turns:
        for mirror in (False, True):
            said = _back(scores(_seen(batch, turn, mirror=mirror)).float(), turn, mirror=mirror)
            total = said if total is None else total + said
    assert total is not None
    return total / (2 * len(turns))


def _seen(batch: Sample, turn: int, *, mirror: bool) -> Sample:
    def move(x: Tensor) -> Tensor:
        return torch.rot90(x.flip(-1) if mirror else x, turn, (-2, -1))

    return replace(
        batch,
        images={n: move(x) for n, x in batch.images.items()},
        valid={n: move(x) for n, x in batch.valid.items()},
    )


def _back(scores: Tensor, turn: int, *, mirror: bool) -> Tensor:
    back = torch.rot90(scores, -turn, (-2, -1))
    return back.flip(-1) if mirror else back
