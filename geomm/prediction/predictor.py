"""A model made ready to predict: on its device, in its precision, with everything that is averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError
from geomm.models.multimodal import MultimodalModel
from geomm.package import ModelPackage
from geomm.prediction.device import arithmetic
from geomm.prediction.settings import PredictSettings
from geomm.prediction.views import averaged
from geomm.tasks.maps import LAYERS, ClassMaps
from geomm.transforms import Normaliser
from geomm.types import ClassSpec, LayerSpec, Prediction


class Decoder(Protocol):
    """How scores become layers."""

    layers: tuple[LayerSpec, ...]
    """What a decoded prediction holds."""

    def pack(self, scores: Tensor) -> Tensor:
        """Return what the layers are made of ``(B, L, H, W)``, of scores ``(B, K, H, W)``, on their device."""
        ...

    def decode(self, packed: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the layers of ``(L, H, W)``, nodata where not ``valid (H, W)``."""
        ...


def as_they_are(batch: Sample) -> Sample:
    """Return a batch as it is."""
    return batch


@dataclass(frozen=True, slots=True)
class Predictor:
    """Functions of a batch, and what comes out: all that prediction needs to know of a model."""

    scores: Callable[[Sample], Tensor]
    """Scores that may be averaged over overlaps, ``(B, K, H, W)`` or ``(B, K, 1, 1)``, of a batch on the device."""
    decoder: Decoder
    """What becomes of them."""
    modalities: tuple[str, ...]
    """What the batch holds, where the cube has it."""
    prepare: Callable[[Sample], Sample] = as_they_are
    """What is done before, on the host, while the model is at the batch before."""
    stride: int = 1
    """Pixels per cell of the model's coarsest level; chips lie on whole cells."""


def predictor_of(packages: Sequence[ModelPackage], settings: PredictSettings) -> Predictor:
    """Make packaged models ready; the scores of several are averaged.

    Args:
        packages: of the same classes, on the same modalities and bands.
        settings: device, precision, layers and views.

    Raises:
        ContractError: a model answers with vectors, has no shares of its modalities to map, or the models differ.
        UnknownNameError: there is no such layer.
    """
    first = packages[0]
    for other in packages:
        _check_same(first, other)
    members = [_Member(p, settings) for p in packages]
    one = len(members) == 1 and torch.device(settings.device).type == "cpu"
    prepare = members[0].normaliser if one else as_they_are

    def scores(batch: Sample) -> Tensor:
        total: Tensor | None = None
        for member in members:
            ready = batch if one else member.normaliser(batch)
            said = averaged(member, ready, settings.symmetries)
            total = said if total is None else total + said
        assert total is not None
        return total if len(members) == 1 else total / len(members)

    task = first.task()
    maps = class_maps(first.contract.classes, settings, tuple(k.name for k in task.layers))
    names = tuple(first.contract.modalities)
    decoder = WithShares(maps, names) if settings.weights else maps
    return Predictor(scores, decoder, names, prepare, members[0].stride)


def class_maps(classes: Sequence[ClassSpec], settings: PredictSettings, default: Sequence[str]) -> ClassMaps:
    """Return the decoder of the layers that are asked for, by default those of the task.

    Raises:
        ConfigError: a layer that says which class it is, of a task whose classes do not exclude each other.
    """
    names = settings.layers or tuple(default)
    odd = [n for n in names if not n.startswith("probability") and n in LAYERS]
    if "class" not in default and odd:
        raise ConfigError(
            f"the task has no layer {odd[0]}", why="its classes do not exclude each other", fix="map their probability"
        )
    return ClassMaps(classes, names)


class _Member:
    """One model: normalised batches to probabilities, followed by the shares of the modalities where asked for."""

    def __init__(self, package: ModelPackage, settings: PredictSettings) -> None:
        fitted = package.model()
        if not isinstance(fitted.model, MultimodalModel) or package.spec["task"] == "contrastive":
            raise ContractError(
                "a retrieval model makes no map", where=str(package.path), fix="index imagery with it, or ground words"
            )
        model = fitted.model.to(device=settings.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.answers: Any = torch.compile(model.answers) if settings.compiled else model.answers
        self.normaliser, self.temperature = fitted.normaliser, fitted.temperature
        self.activate, self.settings, self.fusion = package.task().activate, settings, str(package.spec["fusion"])
        dense = package.spec["task"] == "segmentation"
        self.stride = max(int(s) for e in model.encoders.values() for s in e.strides) if dense else 1

    def __call__(self, batch: Sample) -> Tensor:
        """Return scores of a normalised batch."""
        with arithmetic(self.settings.precision, self.settings.device):
            said = self.answers(batch)[0]
        scores = self.activate(said.logits.float() / self.temperature)
        return _with_shares(scores, said.weights, self.fusion) if self.settings.weights else scores


def _check_same(first: ModelPackage, other: ModelPackage) -> None:
    for what, a, b in (
        ("classes", first.contract.classes, other.contract.classes),
        ("modalities", dict(first.contract.modalities), dict(other.contract.modalities)),
        ("units", dict(first.contract.units), dict(other.contract.units)),
        ("task", first.spec["task"], other.spec["task"]),
    ):
        if a != b:
            raise ContractError(
                f"models that are averaged have the same {what}",
                where=f"{first.path}, {other.path}",
                why=f"{a} and {b}",
                fix="map them one by one",
            )


def predictor_of_module(
    module: torch.nn.Module,
    modalities: Sequence[str],
    classes: Sequence[ClassSpec],
    settings: PredictSettings,
    *,
    normaliser: Normaliser | None = None,
    stride: int = 32,
) -> Predictor:
    """Make any segmentation network ready that takes ``(B, C, H, W)``, such as those of torchgeo, smp or torchvision.

    Args:
        module: returns logits ``(B, K, H, W)``, or a mapping whose ``out`` they are.
        modalities: whose bands it takes, one modality after the other, time by time; 0 where invalid.
        classes: in the order of the logits.
        settings: device, precision, layers and views.
        normaliser: calibrates and normalises; None for physical values as they are.
        stride: pixels per cell of its coarsest level.
    """
    from geomm.transforms import to_physical

    network: Any = module.to(device=settings.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    network = torch.compile(network) if settings.compiled else network
    names, ready = tuple(modalities), normaliser or to_physical
    on_host = torch.device(settings.device).type == "cpu"

    def stacked(batch: Sample) -> Tensor:
        image = torch.cat([batch.images[n].flatten(1, 2) for n in names], 1)
        return image.contiguous(memory_format=torch.channels_last)

    def one(batch: Sample) -> Tensor:
        with arithmetic(settings.precision, settings.device):
            said = network(stacked(batch))
        logits = said["out"] if isinstance(said, Mapping) else said
        return torch.softmax(logits.float(), 1)

    def scores(batch: Sample) -> Tensor:
        return averaged(one, batch if on_host else ready(batch), settings.symmetries)

    maps = class_maps(classes, settings, ("class", "probability"))
    return Predictor(scores, maps, names, ready if on_host else as_they_are, stride)


class WithShares:
    """A decoder that also maps shares of the modalities, which follow the scores as further channels.

    Args:
        inner: decodes the scores.
        modalities: in the order of the shares.
    """

    def __init__(self, inner: Decoder, modalities: Sequence[str]) -> None:
        self.inner, self.count = inner, len(modalities)
        self.layers = (
            *inner.layers,
            LayerSpec("weight", "probability", "float32", float("nan"), tuple(modalities)),
        )

    def pack(self, scores: Tensor) -> Tensor:
        """Pack the scores; shares are what they are."""
        inner = self.inner.pack(scores[:, : -self.count])
        return torch.cat([inner.to(scores.dtype), scores[:, -self.count :]], 1)

    def decode(self, packed: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the inner layers and ``weight``: one band per modality, NaN where invalid."""
        said = self.inner.decode(packed[: -self.count], valid)
        weight = np.where(valid, packed[-self.count :], np.float32("nan")).astype(np.float32)
        return Prediction({**said.arrays, "weight": weight}, self.layers)


def _with_shares(scores: Tensor, shares: Tensor | None, fusion: str) -> Tensor:
    """Put shares of the modalities behind dense scores, at their size."""
    if shares is None or scores.shape[-1] == 1:
        raise ContractError(
            "the model has no shares of its modalities to map",
            why=f"fusion {fusion}" if shares is None else "it answers with one value per chip",
            fix="attention, sum and the late fusions have them, for segmentation",
        )
    return torch.cat([scores, torch.nn.functional.interpolate(shares.to(scores), scores.shape[-2:], mode="nearest")], 1)
