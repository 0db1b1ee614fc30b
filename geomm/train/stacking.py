"""Stacking: the rule of a late fusion, fitted on what experts say of places that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geomm.models.late import Stack
from geomm.models.multimodal import MultimodalModel
from geomm.train.evaluate import HeldOut
from geomm.train.settings import Fitted
from geomm.types import INVALID_CLASS

KEPT = 2**16
"""Most pixels of one fold that the rule is fitted on."""
HOLD = 1e-3
"""Weight of the squared distance from the plain mean, which decides where the pixels do not."""


def fit_stack(fitted: Fitted, held: Sequence[tuple[Fitted, Sequence[HeldOut]]], *, seed: int = 0) -> Fitted:
    """Fit the rule of a model with the fusion ``late_stack``, in place; its experts stay.

    Args:
        fitted: trained on all training places.
        held: models of the same kind, each with chips of places that it was not trained on; all of them training
            places of ``fitted``.
        seed: of the pixels that are drawn where there are many.

    Returns:
        The same model.
    """
    rule = fitted.model.fusion
    assert isinstance(rule, Stack)
    generator = np.random.default_rng(seed)
    parts = [_said(other, test, generator) for other, tests in held for test in tests]
    logits, valid = (torch.cat([p[k] for p in parts], 1) for k in (0, 1))
    target = torch.cat([p[2] for p in parts])
    rule.requires_grad_(True)
    start = [p.detach().clone() for p in rule.parameters()]
    optimiser = torch.optim.LBFGS(rule.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        moved = torch.stack([((p - s) ** 2).sum() for p, s in zip(rule.parameters(), start, strict=True)]).sum()
        value = functional.cross_entropy(rule(logits, valid)[0], target) + HOLD * moved
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    rule.requires_grad_(False)
    return fitted


@torch.no_grad()
def _said(fitted: Fitted, test: HeldOut, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits ``(M, N, K)``, validity ``(M, N)`` and labels ``(N,)`` of labelled pixels that anybody saw."""
    parts = []
    assert isinstance(fitted.model, MultimodalModel)
    for _, sample in test.batches(16):
        logits, valid = fitted.model.experts(fitted.normaliser(sample))
        assert sample.target is not None
        known = (sample.target != INVALID_CLASS) & valid.any(0)
        parts.append((logits.movedim(2, -1)[:, known], valid[:, known], sample.target[known]))
    logits, valid = (torch.cat([p[k] for p in parts], 1) for k in (0, 1))
    target = torch.cat([p[2] for p in parts])
    chosen = torch.from_numpy(generator.permutation(len(target))[:KEPT])
    return logits[:, chosen], valid[:, chosen], target[chosen]
