"""Losses that bring two sets of unit vectors together: row i of one belongs to row i of the other, or to several.

``positive[i, j]`` says whether a and b belong together; None for the diagonal. All compute in float32 at least,
whatever the precision of the model, and ``chunk`` rows at a time where that is given: the same value and gradients in
memory that grows with ``chunk * m`` instead of ``n * m``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

SOFT_TEMPERATURE = 0.05
"""Of the targets that two sets of vectors make of their own likeness (Salama 2021, a dual encoder in Keras)."""

MARGIN = 0.2
"""Of the triplet loss (VSE++, arXiv 1707.05612)."""


def same_text(texts: Sequence[str]) -> Bool[Tensor, "n n"]:
    """Return which samples share their text, so that each is a positive of the other's."""
    number = {text: k for k, text in enumerate(dict.fromkeys(texts))}
    place = torch.tensor([number[text] for text in texts])
    return place[:, None] == place


def siglip_loss(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    positive: Bool[Tensor, "n m"] | None = None,
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs, divided by n (SigLIP, arXiv 2303.15343).

    Args:
        a: unit vectors.
        b: unit vectors.
        scale: logarithm of the temperature's inverse.
        bias: added to every logit.
        positive: which pairs belong together.
        chunk: rows of ``a`` at a time; 0 for all.
    """

    def part(rows: Tensor, belongs: Tensor) -> Tensor:
        logits = _logits(rows, b, scale) + _wide(bias)
        # softplus(-x) = softplus(x) - x: all pairs as negatives, then what the positives change.
        return functional.softplus(logits).sum() - (logits * belongs).sum()

    with _full(a):
        return _by_chunks(part, a, _belongs(a, b, positive), chunk) / len(a)


def info_nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    scale: Float[Tensor, ""],
    *,
    positive: Bool[Tensor, "n m"] | None = None,
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding, for each row of ``a``, what belongs to it among all of ``b`` (arXiv 1807.03748).

    Where several belong to a row, its target is shared equally among them; a row without any is left out.

    Args:
        a: unit vectors.
        b: unit vectors.
        scale: logarithm of the temperature's inverse.
        positive: which pairs belong together.
        chunk: rows of ``a`` at a time; 0 for all.
    """

    def part(rows: Tensor, belongs: Tensor) -> Tensor:
        logits = _logits(rows, b, scale)
        share = belongs.to(logits.dtype) / belongs.sum(1, keepdim=True).clamp_min(1)
        each = torch.logsumexp(logits, 1) - (logits * share).sum(1)
        return torch.where(belongs.any(1), each, 0.0).sum()

    with _full(a):
        pairs = _belongs(a, b, positive)
        return _by_chunks(part, a, pairs, chunk) / pairs.any(1).sum().clamp_min(1)


def clip_loss(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    scale: Float[Tensor, ""],
    *,
    positive: Bool[Tensor, "n m"] | None = None,
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """Mean of :func:`info_nce` in both directions (CLIP, arXiv 2103.00020)."""
    turned = None if positive is None else positive.T
    forth = info_nce(a, b, scale, positive=positive, chunk=chunk)
    return (forth + info_nce(b, a, scale, positive=turned, chunk=chunk)) / 2


def soft_clip_loss(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    *,
    temperature: float = SOFT_TEMPERATURE,
) -> Float[Tensor, ""]:
    """CLIP with targets from the likeness of images to images and of texts to texts, instead of one positive.

    The targets are taken as given: if gradients ran through them, all vectors could become one.

    Args:
        a: unit vectors.
        b: unit vectors.
        scale: logarithm of the temperature's inverse.
        temperature: of the targets, see :data:`SOFT_TEMPERATURE`.
    """
    with _full(a):
        logits = _logits(a, b, scale)
        with torch.no_grad():
            alike = _wide(a) @ _wide(a).T + _wide(b) @ _wide(b).T
            target = (alike / (2 * temperature)).softmax(1)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target.T)) / 2


def triplet_loss(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    *,
    positive: Bool[Tensor, "n m"] | None = None,
    margin: float = MARGIN,
) -> Float[Tensor, ""]:
    """Hinge on the hardest negative of every positive pair, in both directions (VSE++): the baseline of the field.

    Args:
        a: unit vectors.
        b: unit vectors.
        positive: which pairs belong together.
        margin: by which a positive is to be nearer than any negative.
    """
    with _full(a):
        belongs = _belongs(a, b, positive)
        cosine = _wide(a) @ _wide(b).T
        negative = cosine.masked_fill(belongs, -torch.inf)
        hardest = negative.amax(1, keepdim=True), negative.amax(0, keepdim=True)
        both = sum(torch.relu(margin - cosine + h.clamp_min(-2.0)) for h in hardest)
        assert isinstance(both, Tensor)
        return (both * belongs).sum() / belongs.sum().clamp_min(1)


def _full(x: Tensor) -> torch.autocast:
    """Switch automatic mixed precision off: differences of large logits do not survive it."""
    return torch.autocast(x.device.type, enabled=False)


def _wide(x: Tensor) -> Tensor:
    """Return in float32, or float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _logits(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    return _wide(a) @ _wide(b).T * _wide(scale).exp()


def _belongs(a: Tensor, b: Tensor, positive: Tensor | None) -> Tensor:
    return torch.eye(len(a), len(b), dtype=torch.bool, device=a.device) if positive is None else positive.to(a.device)


def _by_chunks(part: Callable[[Tensor, Tensor], Tensor], a: Tensor, belongs: Tensor, chunk: int) -> Tensor:
    """Sum ``part`` over rows of ``a``; with chunks, what it computes is forgotten and computed again for gradients."""
    if not chunk or chunk >= len(a):
        return part(a, belongs)
    pieces = zip(torch.split(a, chunk), torch.split(belongs, chunk), strict=True)
    return torch.stack([checkpoint(part, *piece, use_reentrant=False) for piece in pieces]).sum()
