"""Any segmentation network made ready to predict."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.prediction.device import arithmetic, check_device, resolved
from geomm.prediction.fold import traced
from geomm.prediction.normalise import STACKED, HostNormaliser
from geomm.prediction.predictor import Predictor, as_they_are, class_maps, only_largest
from geomm.prediction.settings import PredictSettings
from geomm.prediction.views import averaged
from geomm.transforms import Normaliser, to_physical
from geomm.types import ClassSpec, check_classes, check_kind, check_whole


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
        stride: pixels per cell of its coarsest level; images may be any number of these high and wide.

    Raises:
        ConfigError: an argument is of another kind.
    """
    _check_arguments(module, modalities, classes, settings, normaliser)
    check_whole({"stride": stride}, fix="write stride=32")
    check_device(settings.device)
    network: Any = traced(copy.deepcopy(module).eval(), stride)
    network = network.to(device=settings.device, memory_format=torch.channels_last)
    network = torch.compile(network) if settings.compiled else network
    names, host = tuple(modalities), HostNormaliser(normaliser)
    on_host = torch.device(settings.device).type == "cpu"

    def one(batch: Sample) -> Tensor:
        with arithmetic(settings.precision, settings.device):
            image = batch.images[STACKED].flatten(1, 2)
            try:
                said = network(image)
            except RuntimeError as error:
                if "channels" not in str(error):
                    raise
                raise _other_channels(image, names, error) from error
        logits = said["out"] if isinstance(said, Mapping) and "out" in said else said
        _check(logits, len(classes), batch)
        return logits if only_largest(settings, "segmentation") else torch.softmax(logits.float(), 1)

    def scores(batch: Sample) -> Tensor:
        return averaged(one, batch if on_host else _stacked(batch, names, normaliser), settings.symmetries)

    maps = class_maps(classes, settings, ("class", "probability"))
    half = resolved(settings.precision, settings.device) == "bf16"
    prepare = (lambda batch: host.stacked(batch, names, half=half)) if on_host else as_they_are
    return Predictor(scores, maps, names, prepare, stride, any_size=True)


def _check_arguments(module: Any, modalities: Any, classes: Any, settings: Any, normaliser: Any) -> None:
    fix = "write predictor_of_module(network, ['optical'], classes, PredictSettings(), normaliser=normaliser)"
    check_kind(module, torch.nn.Module, "this is no network", fix=fix)
    check_kind(modalities, (list, tuple), "modalities are a list of names", fix=fix)
    check_classes(classes)
    check_kind(settings, PredictSettings, "settings are PredictSettings", fix="write PredictSettings(size=256)")
    check_kind(normaliser, (Normaliser, type(None)), "this is no normaliser", fix=fix)


def _other_channels(image: Tensor, names: Sequence[str], error: RuntimeError) -> ContractError:
    return ContractError(
        "the network takes another number of channels",
        where=f"modalities {', '.join(names)}",
        why=f"they have {image.shape[1]} bands; {str(error).splitlines()[0][:160]}",
        fix="name the modalities, and load the bands, that it was trained with",
    )


def _check(logits: Any, classes: int, batch: Sample) -> None:
    """Refuse answers that are not one score for every class and pixel."""
    size = tuple(batch.images[STACKED].shape[-2:])
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.ndim != 4 or tuple(logits.shape[1:]) != (classes, *size):
        raise ContractError(
            "the network does not answer with one score for every class and pixel",
            why=f"got {got}; wanted (B, {classes}, {size[0]}, {size[1]})",
            fix="name as many classes as it has outputs; wrap it if it answers otherwise",
        )


def _stacked(batch: Sample, names: Sequence[str], normaliser: Normaliser | None) -> Sample:
    """Normalise on the device, and put the bands of all modalities together."""
    ready = to_physical(batch) if normaliser is None else normaliser(batch)
    image = torch.cat([ready.images[n].flatten(1, 2) for n in names], 1)
    image = image.contiguous(memory_format=torch.channels_last)
    return replace(ready, images={STACKED: image.unsqueeze(1)})
