"""Packaged models made ready to predict: on their device, in their precision, averaged if there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.models.encoders.pyramid import PyramidEncoder
from geomm.models.heads import answers_for_pixels
from geomm.models.multimodal import MultimodalModel
from geomm.package import ModelPackage
from geomm.prediction.device import arithmetic, check_device
from geomm.prediction.fold import folded, traced
from geomm.prediction.normalise import HostNormaliser
from geomm.prediction.predictor import Predictor, WithShares, as_they_are, class_maps, only_largest
from geomm.prediction.settings import PredictSettings
from geomm.prediction.views import averaged


class Member:
    """One model on its device.

    Args:
        package: opened.
        settings: device and precision.

    Raises:
        ContractError: it answers with vectors.
    """

    def __init__(self, package: ModelPackage, settings: PredictSettings) -> None:
        check_device(settings.device)
        fitted = package.model()
        if not isinstance(fitted.model, MultimodalModel) or package.spec["task"] == "contrastive":
            raise ContractError(
                "a retrieval model makes no map", where=str(package.path), fix="index imagery with it, or ground words"
            )
        model = folded(fitted.model.eval())
        for encoder in model.encoders.values():
            if isinstance(encoder, PyramidEncoder):
                encoder.network = traced(encoder.network, encoder.strides[-1])
        self.model = model.to(device=settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.answers: Any = torch.compile(self.model.answers) if settings.compiled else self.model.answers
        self.package, self.task = package, package.task()
        self.normaliser, self.temperature = fitted.normaliser, fitted.temperature
        self.dense = answers_for_pixels(package.spec["task"])
        """Whether it answers for every pixel."""
        self.stride, self.any_size = cells_of(self.model) if self.dense else (1, False)
        self._margin: tuple[int | None] | None = None

    def margin(self, measure: Callable[[], int | None]) -> int | None:
        """Return the margin that the model needs, measured once."""
        if self._margin is None:
            self._margin = (measure(),)
        return self._margin[0]

    def scores(self, batch: Sample, settings: PredictSettings, *, alone: bool) -> Tensor:
        """Return the scores of a normalised batch, followed by the shares of the modalities where asked for.

        Args:
            batch: normalised.
            settings: precision, and what is asked for.
            alone: whether no other model's scores are averaged with them.
        """
        with arithmetic(settings.precision, settings.device):
            said = self.answers(batch)[0]
        if alone and only_largest(settings, self.task.name):
            logits: Tensor = said.logits
            return logits
        scores = self.task.activate(said.logits.float() / self.temperature)
        if not settings.weights:
            return scores
        return _with_shares(scores, said.weights, str(self.package.spec["fusion"]))


def predictor_of(members: Sequence[Member], settings: PredictSettings) -> Predictor:
    """Make models ready; the scores of several are averaged.

    Args:
        members: of the same classes, on the same modalities and bands.
        settings: layers and views.

    Raises:
        ContractError: the models differ, or have no shares of their modalities to map.
        UnknownNameError: there is no such layer.
    """
    first = members[0]
    for other in members:
        _check_same(first.package, other.package)
    alone = len(members) == 1
    on_host = alone and torch.device(settings.device).type == "cpu"

    def scores(batch: Sample) -> Tensor:
        total: Tensor | None = None
        for member in members:
            ready = batch if on_host else member.normaliser(batch)
            said = averaged(lambda b, m=member: m.scores(b, settings, alone=alone), ready, settings.symmetries)  # type: ignore[misc]
            total = said if total is None else total + said
        assert total is not None
        return total if alone else total / len(members)

    maps = class_maps(first.package.contract.classes, settings, tuple(k.name for k in first.task.layers))
    names = tuple(first.package.contract.modalities)
    decoder = WithShares(maps, names) if settings.weights else maps
    prepare = HostNormaliser(first.normaliser) if on_host else as_they_are
    return Predictor(scores, decoder, names, prepare, max(m.stride for m in members), all(m.any_size for m in members))


def cells_of(model: MultimodalModel) -> tuple[int, bool]:
    """Return pixels per cell of the coarsest level, and whether any whole number of cells will do: pyramids take it."""
    strides: list[tuple[int, ...]] = [tuple(e.strides) for e in model.encoders.values()]  # type: ignore[arg-type]
    return max(max(s) for s in strides), all(len(s) > 1 for s in strides)


def _check_same(first: ModelPackage, other: ModelPackage) -> None:
    dense = answers_for_pixels(first.spec["task"])
    for what, a, b in (
        ("classes", first.contract.classes, other.contract.classes),
        ("modalities", dict(first.contract.modalities), dict(other.contract.modalities)),
        ("units", dict(first.contract.units), dict(other.contract.units)),
        ("task", first.spec["task"], other.spec["task"]),
        ("pixel size", first.contract.resolution, other.contract.resolution),
        *([] if dense else [("chip size", first.contract.size, other.contract.size)]),
    ):
        if a != b:
            raise ContractError(
                f"models that are averaged have the same {what}",
                where=f"{first.path}, {other.path}",
                why=f"{a} and {b}",
                fix="map them one by one",
            )


def _with_shares(scores: Tensor, shares: Tensor | None, fusion: str) -> Tensor:
    """Put shares of the modalities behind dense scores, at their size."""
    if shares is None or scores.shape[-1] == 1:
        raise ContractError(
            "the model has no shares of its modalities to map",
            why=f"fusion {fusion}" if shares is None else "it answers with one value per chip",
            fix="attention, sum and the late fusions have them, for segmentation",
        )
    return torch.cat([scores, torch.nn.functional.interpolate(shares.to(scores), scores.shape[-2:], mode="nearest")], 1)
