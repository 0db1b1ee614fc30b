"""Losses on logits and class indices, by name; 255 is ignored everywhere, and a batch without labels has a loss of 0.

Names may be joined: ``cross_entropy+dice`` is the sum of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from geomm.dataset import Sample
from geomm.errors import ContractError, UnknownNameError
from geomm.types import INVALID_CLASS


def labels_of(batch: Sample) -> Tensor:
    """Return the target of a batch.

    Raises:
        ContractError: it has none.
    """
    if batch.target is None:
        fix = 'say what they are: ChipDataset(cube, chips, names, target=Target("label", values=(0, 1, 2)))'
        raise ContractError("the chips have no labels", why="they were read without a target", fix=fix)
    return batch.target


type Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits ``(B, K, ...)`` and class indices ``(B, ...)``."""

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al. 2017, arXiv 1708.02002)."""


def cross_entropy(logits: Float[Tensor, "b k *size"], target: Int[Tensor, "b *size"]) -> Float[Tensor, ""]:
    """Mean of minus the log-probability of the label."""
    total = functional.cross_entropy(logits, target, ignore_index=INVALID_CLASS, reduction="sum")
    return total / (target != INVALID_CLASS).sum().clamp_min(1)


def focal(logits: Float[Tensor, "b k *size"], target: Int[Tensor, "b *size"]) -> Float[Tensor, ""]:
    """Mean of the cross-entropy of every label times (1 - its probability) squared: what is easy counts for little."""
    entropy = functional.cross_entropy(logits, target, ignore_index=INVALID_CLASS, reduction="none")
    missed = -torch.expm1(-entropy)  # 1 - p; 0 where ignored
    return (missed**FOCUS * entropy).sum() / (target != INVALID_CLASS).sum().clamp_min(1)


def dice(logits: Float[Tensor, "b k *size"], target: Int[Tensor, "b *size"]) -> Float[Tensor, ""]:
    """One minus the Dice coefficient of probabilities, mean over the classes that occur in the batch.

    Counted over the whole batch, so that a class that a single chip lacks does not count as missed there.
    """
    known = target != INVALID_CLASS
    truth = functional.one_hot(torch.where(known, target, 0), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    truth, found = (x * known.unsqueeze(1) for x in (truth, logits.softmax(1)))
    axes = (0, *range(2, logits.ndim))
    hit, size = (truth * found).sum(axes), truth.sum(axes) + found.sum(axes)
    occurs = truth.sum(axes) > 0
    scores = torch.where(occurs, 1.0 - 2.0 * hit / size.clamp_min(1e-12), 0.0)
    return scores.sum() / occurs.sum().clamp_min(1)


LOSSES: Mapping[str, Loss] = MappingProxyType({"cross_entropy": cross_entropy, "focal": focal, "dice": dice})
"""Losses by name."""


def find_loss(name: str) -> Loss:
    """Return a loss, or the sum of several joined by ``+``.

    Raises:
        UnknownNameError: there is none of that name.
    """
    parts = name.split("+")
    for part in parts:
        if part not in LOSSES:
            raise UnknownNameError.of("loss", part, LOSSES)
    chosen = [LOSSES[part] for part in parts]

    def total(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([loss(logits, target) for loss in chosen]).sum()

    return total
