"""Text-grounded retrieval: chips and their texts side by side in one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.types import Prediction


def siglip_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    captions: Sequence[str] = (),
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs, divided by the number of images (SigLIP, arXiv 2303.15343).

    Args:
        images: unit vectors.
        texts: unit vectors, row i belongs to image i.
        scale: logarithm of the temperature's inverse.
        bias: added to every logit.
        captions: the texts; images that share one are positives of each other's text.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits = images.float() @ texts.float().T * scale.float().exp() + bias.float()
    number = {c: k for k, c in enumerate(dict.fromkeys(captions))}
    place = torch.tensor([number[c] for c in captions] if captions else range(len(images)), device=logits.device)
    sign = torch.where(place[:, None] == place, 1.0, -1.0)
    return -functional.logsigmoid(sign * logits).sum() / len(images)


class ContrastiveTask:
    """SigLIP between a chip and its text; exports nothing, the index takes the vectors.

    Args:
        classes: unused; a retrieval model has none.
        loss: unused; the loss is SigLIP's.
    """

    name, loss_name = "contrastive", "siglip"
    layers = ()

    def __init__(self, classes: Any = (), loss: str = "") -> None:  # noqa: ARG002 - tasks are built alike
        self.classes = tuple(classes)

    def losses(self, model: Any, batch: Sample) -> Float[Tensor, " parts"]:
        """Return the loss of a batch whose every sample has a text.

        Raises:
            ContractError: a sample lacks its text.
        """
        images: Tensor = model(batch)
        if len(batch.text) != len(images) or not all(t.strip() for t in batch.text):
            given = sum(bool(t.strip()) for t in batch.text)
            raise ContractError("every chip needs a text", why=f"{len(images)} chips, {given} texts")
        texts = model.encode_text(batch.text)
        return siglip_loss(images, texts, model.logit_scale, model.logit_bias, batch.text)[None]

    def activate(self, answer: Tensor) -> Tensor:
        """Return the vectors unchanged."""
        return answer

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:  # noqa: ARG002 - the protocol's
        """Refuse: vectors are indexed, not mapped.

        Raises:
            ContractError: always.
        """
        raise ContractError("a retrieval model makes no map", fix="build an index: geomm.Index")


TASK = ContrastiveTask
