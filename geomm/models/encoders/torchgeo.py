"""Encoders and pretrained weights of torchgeo, by its own names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from geomm.errors import ContractError, UnknownNameError
from geomm.models.encoders.anysensor import (
    CopernicusEncoder,
    DofaEncoder,
    PanopticonEncoder,
    copernicus_spectra,
    dofa_waves,
    panopticon_bands,
)
from geomm.models.encoders.contract import EncoderInput, check_wants
from geomm.models.encoders.pyramid import PyramidEncoder
from geomm.models.encoders.swin import SwinEncoder
from geomm.models.encoders.vit import CromaEncoder, ViTEncoder, croma_modality
from geomm.models.encoders.wants import wants
from geomm.models.encoders.weights import Tolerated, fetch_weights, load_weights, read_weights
from geomm.models.positions import sincos_positions


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a model of torchgeo becomes an encoder."""

    build: Callable[[str, EncoderInput], Any]
    """Encoder with random weights, of (torchgeo's name, what it is built for); weights go into its ``network``."""
    tolerated: Tolerated
    """What files of weights may lack or have too much."""


def _network(model: str, **options: Any) -> Any:
    from torchgeo.models import get_model

    return get_model(model, **options)


def _placed(network: Any) -> Any:
    """Give a network the fixed positions that torchgeo leaves at 0 where no weights are loaded."""
    side = round((network.pos_embed.shape[1] - 1) ** 0.5)
    with torch.no_grad():
        network.pos_embed[0, 1:] = sincos_positions(side, side, network.pos_embed.shape[-1])
    return network


def _resnet(model: str, given: EncoderInput) -> nn.Module:
    return PyramidEncoder(_network(model, features_only=True, in_chans=given.bands))


def _swin(model: str, given: EncoderInput) -> nn.Module:
    return SwinEncoder(_network(model), given.bands)


def _vit(model: str, given: EncoderInput) -> nn.Module:
    return ViTEncoder(_network(model, num_classes=0, dynamic_img_size=True, img_size=224, in_chans=given.bands))


def _croma(model: str, given: EncoderInput) -> nn.Module:
    return CromaEncoder(_network(model, modalities=[croma_modality(model, given)], image_size=8))


def _dofa(model: str, given: EncoderInput) -> nn.Module:
    waves = dofa_waves(model, given)
    return DofaEncoder(_placed(_network(model, num_classes=0)), waves)


def _copernicus(model: str, given: EncoderInput) -> nn.Module:
    spectra = copernicus_spectra(model, given)
    return CopernicusEncoder(_placed(_network(model)), spectra)


def _panopticon(model: str, given: EncoderInput) -> nn.Module:
    bands = panopticon_bands(model, given)
    return PanopticonEncoder(_network(model).model, bands)


_RESNET = Adapter(_resnet, Tolerated(leftover=("fc.",)))
_SWIN = Adapter(_swin, Tolerated(leftover=("norm.", "head.")))
_VIT = Adapter(_vit, Tolerated(("norm.",), ("head.",)))
_CROMA = Adapter(_croma, Tolerated(leftover=("s1_", "s2_", "joint_encoder.", "attn_bias")))
_MASKED = ("head.", "norm.", "mask_token", "projector.")
_DOFA = Adapter(_dofa, Tolerated(("fc_norm.",), _MASKED))
_COPERNICUS = Adapter(_copernicus, Tolerated(("fc_norm.",), (*_MASKED, "patch_embed_variable.")))

ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        **dict.fromkeys(("resnet18", "resnet50", "resnet152"), _RESNET),
        **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_b"), _SWIN),
        **dict.fromkeys((f"vit_{s}_patch16_224" for s in ("small", "base", "large")), _VIT),
        **dict.fromkeys(("vit_huge_patch14_224", "vit_small_patch14_dinov2", "vit_base_patch14_dinov2"), _VIT),
        **dict.fromkeys(("croma_base", "croma_large"), _CROMA),
        **dict.fromkeys((f"dofa_{s}_patch16_224" for s in ("small", "base", "large")), _DOFA),
        "dofa_huge_patch14_224": _DOFA,
        "copernicusfm_base": _COPERNICUS,
        "panopticon_vitb14": Adapter(_panopticon, Tolerated(leftover=("mask_token",))),
    }
)
"""torchgeo's name to the way it becomes an encoder."""


def build_torchgeo(name: str, given: EncoderInput) -> Any:
    """Build ``<model>[:<weights>]``, with its weights where they are asked for.

    Raises:
        UnknownNameError: no such model or weights.
        ContractError: a model without adapter, weights that want other bands, or whose wants are not known.
        PackageError: weights that cannot be had, read, or do not fit.
    """
    model, _, weights = name.partition(":")
    chosen = _find(model, weights)
    if chosen is not None and (given.pretrained or given.weights):
        wanted = wants(f"torchgeo:{name}", given.modality)
        if wanted is not None:
            check_wants(name, wanted, given)
    adapter = ADAPTERS[model]
    encoder = adapter.build(model, given)
    if given.weights:
        load_weights(encoder.network, read_weights(given.weights), adapter.tolerated, where=str(given.weights))
    elif chosen is not None and given.pretrained:
        load_weights(encoder.network, fetch_weights(chosen), adapter.tolerated, where=chosen.url)
    return encoder


def _find(model: str, weights: str) -> Any:
    """Return the member of torchgeo's enum of a model's weights; None where none are named."""
    from torchgeo.models import get_model_weights, list_models

    if model not in list_models():
        raise UnknownNameError.of("torchgeo model", model, list_models())
    if model not in ADAPTERS:
        raise ContractError(
            "geomm has no adapter for the torchgeo model",
            where=model,
            why="it reads series, places or several images, answers with a vector or classes, or is made for RGB alone",
            fix=f"choose one of {', '.join(ADAPTERS)}",
        )
    if not weights:
        return None
    try:
        available = get_model_weights(model).__members__
    except KeyError:  # it has none
        available = {}
    if weights not in available:
        raise UnknownNameError.of(f"weights of {model}", weights, available)
    return available[weights]
