"""Decoders: a pyramid to one fine map. A light one of our own for pyramids and tokens; U-Net and UPerNet of smp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import ContractError, UnknownNameError
from geomm.models.features import FeatureMaps
from geomm.models.levels import Shape


class Decoder(Protocol):
    """What a head needs of a decoder: an ``nn.Module`` that also says how wide its map is."""

    channels: int
    """Of the map."""

    def __call__(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Return a map ``(B, channels, h, w)``, at full resolution or coarser."""
        ...


def _smooth(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)
    )


class LightDecoder(nn.Module):
    """From coarse to fine: narrow, upsample, add, convolve; below stride 2 half the channels a step."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(shape.channels))
        self.smooth = nn.ModuleList(_smooth(c, c) for c in shape.channels)
        self.channels, stride, steps = shape.channels[0], shape.strides[0], []
        while stride > 2:
            steps.append(_smooth(self.channels, max(self.channels // 2, 8)))
            self.channels, stride = max(self.channels // 2, 8), stride // 2
        self.refine = nn.ModuleList(steps)

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's
        """Decode."""
        x: Tensor = self.smooth[-1](features.maps[-1])
        for level in reversed(range(len(features.maps) - 1)):
            fine = features.maps[level]
            coarse = functional.interpolate(self.narrow[level](x), fine.shape[-2:], mode="nearest")
            x = self.smooth[level](fine + coarse)
        for step in self.refine:
            x = step(functional.interpolate(x, scale_factor=2, mode="nearest"))
        return x


class UnetDecoder(nn.Module):
    """The U-Net decoder of segmentation-models-pytorch, one block for every level, to full resolution."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder as Blocks

        widths = [max(c // 2, 16) for c in reversed(shape.channels)]
        self.blocks = Blocks((0, *shape.channels), widths, n_blocks=len(widths))
        self.channels = widths[-1]

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:
        """Decode."""
        return self.blocks([valid.unsqueeze(1), *features.maps])  # type: ignore[no-any-return]


class UPerNetDecoder(nn.Module):
    """The UPerNet decoder of segmentation-models-pytorch, to the finest level."""

    def __init__(self, shape: Shape, width: int = 64) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder as Blocks

        if len(shape.channels) < 2:
            raise ContractError("UPerNet needs a pyramid of at least two levels", fix="use the decoder light")
        self.blocks = Blocks((0, 0, *shape.channels), max(len(shape.channels), 3), width)
        self.channels = width

    def forward(self, features: FeatureMaps, valid: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's
        """Decode."""
        return self.blocks([features.maps[0]] * 2 + list(features.maps))  # type: ignore[no-any-return]


DECODERS: Mapping[str, Callable[[Shape], Any]] = MappingProxyType(
    {"light": LightDecoder, "unet": UnetDecoder, "upernet": UPerNetDecoder}
)
"""Decoders by name."""


def build_decoder(name: str, shape: Shape) -> Any:
    """Build a decoder by name.

    Raises:
        UnknownNameError: there is none of that name.
        ContractError: it needs more levels than there are.
    """
    if name not in DECODERS:
        raise UnknownNameError.of("decoder", name, DECODERS)
    return DECODERS[name](shape)
