"""Encoders: one modality's image to :class:`FeatureMaps`. The only door to torchgeo and timm.

A name is ``tiny_cnn``, ``tiny_vit``, ``galileo[:<patch>]``, ``timm:<model>`` or ``torchgeo:<model>[:<weights>]``.
Weights are loaded only where they are asked for, from torchgeo (which downloads them and checks their hash) or from a
local file; everything else starts at random, by choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from geomm.errors import ContractError, UnknownNameError, nearest
from geomm.models.encoders.contract import Encoder, EncoderInput, Wants
from geomm.models.encoders.galileo import build_galileo
from geomm.models.encoders.galileo_bands import galileo_wants
from geomm.models.encoders.local import TinyCNN, TinyViT
from geomm.models.encoders.pyramid import build_timm
from geomm.models.encoders.torchgeo import build_torchgeo
from geomm.models.encoders.wants import wants
from geomm.types import Modality

__all__ = ["ENCODERS", "Encoder", "EncoderInput", "Wants", "build_encoder", "wants_of"]

ENCODERS: Mapping[str, Callable[[str, EncoderInput], Any]] = MappingProxyType(
    {
        "tiny_cnn": lambda _name, given: TinyCNN(given.bands, given.width),
        "tiny_vit": lambda _name, given: TinyViT(given.bands, given.width),
        "galileo": build_galileo,
        "timm": build_timm,
        "torchgeo": build_torchgeo,
    }
)
"""Family to builder of (rest of the name, what it is built for)."""


def build_encoder(name: str, given: EncoderInput) -> Any:
    """Build an encoder by name.

    Args:
        name: see the module's docstring.
        given: bands, sensor, weights.

    Raises:
        UnknownNameError: no such family, model or weights.
        ContractError: weights that want other bands, or that the encoder cannot have.
    """
    family, _, rest = name.partition(":")
    if family not in ENCODERS:
        error = UnknownNameError.of("encoder", family, ENCODERS)
        if not nearest(family, ENCODERS):
            error.fix = f"models of other libraries are named timm:{family} or torchgeo:{family}"
        raise error
    nowhere = given.pretrained and family == "galileo" and not given.weights
    if nowhere or (given.weights and family.startswith("tiny")):
        raise ContractError(
            "the encoder cannot have those weights",
            where=name,
            why="it has none of its own" if given.weights else "nobody offers them for download by this name",
            fix="leave them away" if given.weights else "name a local file",
        )
    return ENCODERS[family](rest, given)


def wants_of(name: str, modality: Modality) -> Wants | None:
    """Return what the pretrained weights of an encoder want to see of a modality; None where nobody says.

    Raises:
        ContractError: they cannot see this modality, or it is not known what they want.
    """
    family, _, rest = name.partition(":")
    if family == "galileo":
        return galileo_wants(modality)
    return wants(name, modality) if family == "torchgeo" and ":" in rest else None
