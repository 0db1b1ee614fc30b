"""Late fusion: every modality answers by itself, then the answers are merged.

The experts are trained each on its own loss, so that their answers are posteriors and every rule below means what it
says; no rule changes an expert. Any such rule is additive over the modalities: what is only in their combination
(bright in radar exactly where not green) is out of its reach, see ``benchmarks/known_optimum.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from geomm.types import INVALID_CLASS

RARE = 1e-3
"""Least prior of a class that :class:`ProductOfExperts` divides by."""


class LateFusion(nn.Module, ABC):
    """A rule that merges the answers of experts.

    Args:
        experts: number of modalities M.
        classes: number of classes K.
    """

    def __init__(self, experts: int, classes: int) -> None:
        super().__init__()
        self.experts, self.classes = experts, classes

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "m b k *size"], valid: Bool[Tensor, "m b *size"]
    ) -> tuple[Float[Tensor, "b k *size"], Float[Tensor, "b m *size"]]:
        """Merge logits, which count where valid.

        Returns:
            Merged logits and the share of every modality; where none is valid, logits of no opinion and shares of 0.
        """

    def observe(self, target: Int[Tensor, " n"]) -> None:
        """Take note of training labels, for rules that need the prior; 255 is none."""


def _equal(valid: Tensor, like: Tensor) -> Tensor:
    """Equal shares of what is valid, ``(M, B, ...)``."""
    return valid.to(like.dtype) / valid.sum(0).clamp_min(1)


def _weighted(values: Tensor, shares: Tensor) -> Tensor:
    """Sum ``(M, B, K, ...)`` over modalities with shares ``(M, B, ...)``; what has no share counts for nothing."""
    share = shares.unsqueeze(2)
    return torch.where(share > 0, values * share, 0.0).sum(0)


class MeanLogits(LateFusion):
    """The mean of the experts' logits."""

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        shares = _equal(valid, logits)
        return _weighted(logits, shares), shares.movedim(0, 1)


class MeanProbabilities(LateFusion):
    """The logarithm of the mean of the experts' probabilities."""

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        shares = _equal(valid, logits)
        mean = _weighted(logits.softmax(2), shares)
        return mean.clamp_min(1e-12).log(), shares.movedim(0, 1)


class Vote(LateFusion):
    """The share of the experts that put a class first; where the vote is tied, the mean probability decides."""

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        shares = _equal(valid, logits)
        first = torch.nn.functional.one_hot(logits.argmax(2), self.classes).movedim(-1, 2).to(logits.dtype)
        votes = _weighted(first + 1e-3 * logits.softmax(2), shares)
        return votes.clamp_min(1e-12).log(), shares.movedim(0, 1)


class Weighted(LateFusion):
    """A mean of the experts' logits with learned weights that sum to one over what is valid."""

    def __init__(self, experts: int, classes: int) -> None:
        super().__init__(experts, classes)
        self.weights = nn.Parameter(torch.zeros(experts))

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        share = self.weights.softmax(0).view(-1, *[1] * (valid.ndim - 1)) * valid
        shares = share / share.sum(0).clamp_min(torch.finfo(share.dtype).tiny)
        return _weighted(logits, shares), shares.movedim(0, 1)


class ProductOfExperts(LateFusion):
    """The product of the experts' posteriors, divided by the prior for every expert but one.

    Right exactly where the modalities say independent things given the class; a plain mean of logits would count the
    prior as often as there are experts. The prior is that of the training labels, and never below :data:`RARE`: experts
    cannot tell a class that hardly occurs from one that never does, and dividing by nearly nothing would let it win.
    """

    counts: Tensor

    def __init__(self, experts: int, classes: int) -> None:
        super().__init__(experts, classes)
        self.register_buffer("counts", torch.ones(classes))

    def observe(self, target: Int[Tensor, " n"]) -> None:
        """Count training labels."""
        known = target[target != INVALID_CLASS]
        self.counts += torch.bincount(known, minlength=self.classes)

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        share = (self.counts / self.counts.sum()).clamp_min(RARE)
        prior = share.log().to(logits.dtype).view(-1, *[1] * (valid.ndim - 2))
        evidence = torch.where(valid.unsqueeze(2), logits.log_softmax(2) - prior, 0.0).sum(0)
        return evidence + prior, _equal(valid, logits).movedim(0, 1)


class Stack(LateFusion):
    """A linear model of the experts' log-probabilities, fitted on answers to places that they were not trained on.

    Its own weights are not trained with the experts, see :func:`geomm.train.stacking.fit_stack`; until that is done it
    is the mean of the log-probabilities. Where modalities are missing, the others count for as much more.
    """

    def __init__(self, experts: int, classes: int) -> None:
        super().__init__(experts, classes)
        self.weight = nn.Parameter(torch.eye(classes).repeat(experts, 1, 1) / experts, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(experts, classes), requires_grad=False)

    def forward(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Merge; see :class:`LateFusion`."""
        said = torch.einsum("mbk...,mkj->mbj...", logits.log_softmax(2), self.weight)
        said = said + self.bias.view(len(said), 1, -1, *[1] * (valid.ndim - 2))
        merged = torch.where(valid.unsqueeze(2), said, 0.0).sum(0)
        more = self.experts / valid.sum(0).clamp_min(1).to(merged.dtype)
        return merged * more.unsqueeze(1), _equal(valid, logits).movedim(0, 1)
