"""Encoders: one modality's image to :class:`FeatureMaps`. The only door to torchgeo and timm.

A name is ``tiny_cnn``, ``timm:<model>`` or ``torchgeo:<model>[:<weights>]``. Weights are loaded only where a name asks
for them (torchgeo downloads them and checks their hash); everything else starts at random, by choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import ContractError, UnknownNameError
from geomm.models.features import FeatureMaps, shrink_valid


class Encoder(Protocol):
    """What the model needs of an encoder: an ``nn.Module`` that also says what it returns."""

    channels: tuple[int, ...]
    """Channels per level, finest first."""
    strides: tuple[int, ...]
    """Input pixels per cell, by level."""

    def __call__(self, image: Tensor, valid: Tensor) -> FeatureMaps:
        """Encode a normalised image ``(B, C, H, W)`` whose invalid pixels are 0, with ``valid (B, H, W)``."""
        ...


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)
    )


class TinyCNN(nn.Module):
    """A small local encoder for tests and small problems: three levels of two convolutions, validity as a channel.

    Args:
        in_channels: bands of the modality.
        width: channels of the finest level; each coarser level doubles them.
        levels: number of levels; strides are 1, 2, 4, ...
    """

    def __init__(self, in_channels: int, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        self.channels = tuple(width * 2**k for k in range(levels))
        self.strides = tuple(2**k for k in range(levels))
        inputs = (in_channels + 1, *self.channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(i, o, 1 if k == 0 else 2), _conv(o, o))
            for k, (i, o) in enumerate(zip(inputs, self.channels, strict=True))
        )

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the coarsest stride.
        """
        _require_multiple(image, self.strides[-1])
        x = torch.cat([image, valid.unsqueeze(1).to(image.dtype)], 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return FeatureMaps(tuple(maps), self.strides)


class PyramidEncoder(nn.Module):
    """A feature pyramid of another library behind the contract of geomm."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.channels = tuple(int(c) for c in network.feature_info.channels())
        self.strides = tuple(int(r) for r in network.feature_info.reduction())

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image; cells without a valid pixel are zeroed, as these networks take no mask."""
        _require_multiple(image, self.strides[-1])
        maps = [m * shrink_valid(valid, tuple(m.shape[-2:])).unsqueeze(1) for m in self.network(image)]
        return FeatureMaps(tuple(maps), self.strides)


def _timm(name: str, in_channels: int, _width: int) -> PyramidEncoder:
    import timm

    if not timm.is_model(name):
        raise UnknownNameError(f"timm has no model {name!r}", fix="timm.list_models() lists them")
    return PyramidEncoder(timm.create_model(name, features_only=True, in_chans=in_channels, pretrained=False))


def _torchgeo(name: str, in_channels: int, _width: int) -> PyramidEncoder:
    from torchgeo.models import get_model, get_model_weights, list_models

    model, _, weights = name.partition(":")
    if model not in list_models():
        raise UnknownNameError.of("torchgeo model", model, list_models())
    chosen = None
    if weights:
        available = get_model_weights(model)
        if weights not in available.__members__:
            raise UnknownNameError.of(f"weights of {model}", weights, available.__members__)
        chosen = available[weights]
        if chosen.meta.get("in_chans", in_channels) != in_channels:
            raise ContractError(
                "the weights want another number of bands",
                where=f"torchgeo:{name}",
                why=f"{in_channels} given, {chosen.meta['in_chans']} wanted: {', '.join(chosen.meta.get('bands', ()))}",
                fix="give the modality those bands, in that order",
            )
    return PyramidEncoder(get_model(model, weights=chosen, features_only=True, in_chans=in_channels))


ENCODERS: Mapping[str, Callable[[str, int, int], Any]] = MappingProxyType(
    {
        "tiny_cnn": lambda _name, in_channels, width: TinyCNN(in_channels, width),
        "timm": _timm,
        "torchgeo": _torchgeo,
    }
)
"""Family to builder of (rest of the name, bands, width)."""


def build_encoder(name: str, in_channels: int, *, width: int = 16) -> Any:
    """Build an encoder by name.

    Args:
        name: see the module's docstring.
        in_channels: bands of the modality.
        width: size of the local encoders; those of libraries have their own.

    Raises:
        UnknownNameError: no such family, model or weights.
        ContractError: weights that want another number of bands.
    """
    family, _, rest = name.partition(":")
    if family not in ENCODERS:
        raise UnknownNameError.of("encoder", family, ENCODERS)
    return ENCODERS[family](rest, in_channels, width)


def _require_multiple(image: Tensor, stride: int) -> None:
    if image.shape[-2] % stride or image.shape[-1] % stride:
        raise ContractError(
            "the chip size does not fit the encoder",
            why=f"{tuple(image.shape[-2:])} is not a multiple of its coarsest stride {stride}",
            fix=f"choose size and halo so that size + 2 halo is a multiple of {stride}",
        )
