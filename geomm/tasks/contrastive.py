"""Text-grounded retrieval: chips and their texts side by side in one space, whatever sensors a chip has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ContractError, UnknownNameError
from geomm.tasks.alignment import clip_loss, same_text, siglip_loss, soft_clip_loss, triplet_loss
from geomm.transforms import blank
from geomm.types import Prediction


def _siglip(images: Tensor, texts: Tensor, positive: Tensor, model: Any) -> Tensor:
    # The bias starts where the first positive rate is 1/N, whatever the size of the batch.
    bias = model.logit_bias - math.log(max(len(texts) - 1, 1))
    return siglip_loss(images, texts, model.logit_scale, bias, positive=positive)


TEXT_LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor, Any], Tensor]] = MappingProxyType(
    {
        "clip": lambda images, texts, positive, model: clip_loss(images, texts, model.logit_scale, positive=positive),
        "siglip": _siglip,
        "soft_clip": lambda images, texts, _positive, model: soft_clip_loss(images, texts, model.logit_scale),
        "triplet": lambda images, texts, positive, _model: triplet_loss(images, texts, positive=positive),
    }
)
"""Losses between chips and texts by name, of unit vectors, which belong together, and the model."""

VIEWS = "views"
"""Joined to a loss by ``+``: the sensors of a chip are to agree too, each seen by itself."""

LARGEST_SCALE = math.log(100.0)
"""The temperature's inverse is kept below 100 (CLIP)."""


class ContrastiveTask:
    """Chips and their texts; exports nothing, the index takes the vectors.

    A chip may have any of the model's sensors: sensors that were never seen together meet through the texts. Chips that
    share a text are positives of each other's, except with soft targets, which find out by themselves.

    Args:
        classes: unused; a retrieval model has none.
        loss: ``clip``, ``siglip``, ``soft_clip``, ``triplet``, or ``views``, or one of the former joined to the latter
            by ``+``. With ``views``, chips may lack a text.

    Raises:
        UnknownNameError: there is no such loss.
    """

    name = "contrastive"
    layers = ()

    def __init__(self, classes: Any = (), loss: str = "") -> None:
        self.classes = tuple(classes)
        self.loss_name = loss or "clip"
        known = (*TEXT_LOSSES, VIEWS, *(f"{n}+{VIEWS}" for n in TEXT_LOSSES))
        if self.loss_name not in known:
            raise UnknownNameError.of("loss", self.loss_name, known)
        first, _, rest = self.loss_name.partition("+")
        self.views = VIEWS in (first, rest)
        self.between = TEXT_LOSSES.get(first)

    def losses(self, model: Any, batch: Sample) -> Float[Tensor, " parts"]:
        """Return the loss of a batch.

        Raises:
            ContractError: a sample lacks its text, or no sample has two sensors to compare.
        """
        model.logit_scale.data.clamp_(max=LARGEST_SCALE)
        total = torch.zeros((), device=model.logit_scale.device)
        if self.between is not None:
            total = total + self._to_texts(model, batch)
        return (total + self._across(model, batch) if self.views else total)[None]

    def _to_texts(self, model: Any, batch: Sample) -> Tensor:
        assert self.between is not None
        images: Tensor = model.embed(batch)
        told = [k for k, text in enumerate(batch.text) if text.strip()]
        if len(batch.text) != len(images) or (len(told) < len(images) and not self.views):
            raise ContractError(
                "every chip needs a text",
                why=f"{len(images)} chips, {len(told)} texts",
                fix=f"{self.loss_name}+{VIEWS} learns from chips without a text too",
            )
        if not told:
            return images.sum() * 0.0
        texts = [batch.text[k] for k in told]
        return self.between(images[told], model.encode_text(texts), same_text(texts).to(images.device), model)

    def _across(self, model: Any, batch: Sample) -> Tensor:
        """Compare every two sensors on the chips that have both, each sensor by itself."""
        parts = []
        for one, two in combinations(batch.images, 2):
            both = batch.present[one] & batch.present[two]
            if int(both.sum()) > 1:
                first, second = (model.embed(only(batch, name))[both] for name in (one, two))
                parts.append(clip_loss(first, second, model.logit_scale))
        if not parts and self.between is None:
            raise ContractError(
                "no chips have two sensors to compare",
                why=f"sensors {', '.join(batch.images)}",
                fix="give batches in which chips have two sensors, or texts with a loss for words",
            )
        return torch.stack(parts).mean() if parts else torch.zeros((), device=model.logit_scale.device)

    def activate(self, answer: Tensor) -> Tensor:
        """Return the vectors unchanged."""
        return answer

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:  # noqa: ARG002 - the protocol's
        """Refuse: vectors are indexed, not mapped.

        Raises:
            ContractError: always.
        """
        raise ContractError(
            "a retrieval model makes no map", fix="index it, or ask it where something is: geomm ground"
        )


def only(batch: Sample, name: str) -> Sample:
    """Return a batch of which one modality alone is left to see, all others blank."""
    images, valid, present = dict(batch.images), dict(batch.valid), dict(batch.present)
    for other in batch.images:
        if other != name:
            present[other] = torch.zeros_like(batch.present[other])
            images[other], valid[other] = blank(images[other], valid[other], present[other])
    return replace(batch, images=images, valid=valid, present=present)


TASK = ContrastiveTask
