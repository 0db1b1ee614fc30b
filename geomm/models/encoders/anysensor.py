"""Vision transformers of torchgeo that read any bands, told what they are: DOFA, Copernicus-FM, Panopticon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import ContractError
from geomm.models.encoders.contract import EncoderInput
from geomm.models.encoders.local import token_maps
from geomm.models.encoders.vit import patch_grid
from geomm.models.features import FeatureMaps, shrink_valid

DOFA_RADAR = 3.75
"""What DOFA's weights take for the wavelength of radar: a mark, no length (torchgeo 0.10.1, models/dofa.py)."""

PANOPTICON_RADAR: Mapping[str, int] = MappingProxyType({"VV": -1, "VH": -2, "HH": -3, "HV": -4})
"""Panopticon's codes of polarisations, orbit unknown (torchgeo 0.10.1, models/panopticon.py, ``ChnEmb``)."""

COPERNICUS_RADAR = (5e7, 1e9)
COPERNICUS_MSI: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "B01": (440.0, 20.0),
        "B02": (490.0, 65.0),
        "B03": (560.0, 35.0),
        "B04": (665.0, 30.0),
        "B05": (705.0, 15.0),
        "B06": (740.0, 15.0),
        "B07": (783.0, 20.0),
        "B08": (842.0, 115.0),
        "B8A": (860.0, 20.0),
        "B09": (940.0, 20.0),
        "B10": (1370.0, 30.0),
        "B11": (1610.0, 90.0),
        "B12": (2190.0, 180.0),
    }
)
"""Wavelength and bandwidth in nanometres that Copernicus-FM was trained with, of Sentinel-1 and Sentinel-2
(zhu-xlab/Copernicus-FM: Copernicus-FM/src/engine_pretrain.py, WV and BW)."""


class DofaEncoder(nn.Module):
    """DOFA: makes its first layer from wavelengths.

    Args:
        network: torchgeo's ``DOFA``.
        waves: of the bands in micrometres, see :func:`dofa_waves`.
    """

    def __init__(self, network: Any, waves: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.channels, self.strides = (int(network.embed_dim),), (int(network.patch_size),)
        self.register_buffer("waves", torch.tensor(waves), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image; ``pooled`` is DOFA's own answer, of the patches that were seen.

        Raises:
            ContractError: height or width is not a multiple of the patch.
        """
        grid = patch_grid(image, self.strides[0])
        tokens, _ = self.network.patch_embed(image, self.get_buffer("waves"))
        tokens = _through(self.network, tokens, grid)
        return _normed(self.network.fc_norm, tokens, valid, grid, self.strides[0])


class CopernicusEncoder(nn.Module):
    """Copernicus-FM: makes its first layer from wavelengths and bandwidths; place, time and area stay unknown to it.

    Args:
        network: torchgeo's ``CopernicusFM``; its other first layer, for variables by name, is given up.
        spectra: wavelength and bandwidth of the bands in nanometres, see :func:`copernicus_spectra`.
    """

    def __init__(self, network: Any, spectra: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        del network.patch_embed_variable
        self.network = network
        self.channels = (int(network.cls_token.shape[-1]),)
        self.strides = (int(network.patch_embed_spectral.kernel_size),)
        self.register_buffer("spectra", torch.tensor(spectra), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image; ``pooled`` is the network's own answer, of the patches that were seen.

        Raises:
            ContractError: height or width is not a multiple of the patch.
        """
        grid = patch_grid(image, self.strides[0])
        waves, widths = self.get_buffer("spectra").unbind(1)
        tokens = self.network.patch_embed_spectral(image, waves, widths)
        net = self.network
        unknown = net.coord_fc(net.coord_token) + net.scale_fc(net.scale_token) + net.time_fc(net.time_token)
        return _normed(net.fc_norm, _through(net, tokens, grid, unknown), valid, grid, self.strides[0])


class PanopticonEncoder(nn.Module):
    """Panopticon: merges the bands by attention, told their wavelengths and polarisations.

    Args:
        network: the transformer in torchgeo's ``Panopticon``.
        bands: their numbers, see :func:`panopticon_bands`.
    """

    def __init__(self, network: Any, bands: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.channels, self.strides = (int(network.embed_dim),), (int(network.patch_embed.patch_size[0]),)
        self.register_buffer("bands", torch.tensor(bands), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the patch.
        """
        grid = patch_grid(image, self.strides[0])
        ids = self.get_buffer("bands").expand(len(image), -1).clone()  # it writes into them
        tokens = self.network.patch_embed({"imgs": image, "chn_ids": ids})
        tokens = self.network.norm(_through(self.network, tokens, grid))
        return token_maps(tokens, shrink_valid(valid, grid).flatten(1), grid, self.strides[0])


def dofa_waves(name: str, given: EncoderInput) -> tuple[float, ...]:
    """Return DOFA's wavelengths of a modality in micrometres.

    Raises:
        ContractError: a band has none, or nobody said which sensor it is.
    """
    return tuple(DOFA_RADAR if um is None else um for um, _ in _spectrum(name, given))


def panopticon_bands(name: str, given: EncoderInput) -> tuple[int, ...]:
    """Return Panopticon's numbers of the bands of a modality: whole nanometres, or codes of polarisations.

    Raises:
        ContractError: a band has neither, or nobody said which sensor it is.
    """
    pairs = _spectrum(name, given)
    return tuple(PANOPTICON_RADAR[p] if um is None else int(round(um * 1e3, 3)) for um, p in pairs)


def copernicus_spectra(name: str, given: EncoderInput) -> tuple[tuple[float, float], ...]:
    """Return Copernicus-FM's wavelengths and bandwidths of a modality in nanometres.

    Raises:
        ContractError: a band of another sensor than Sentinel-1 and Sentinel-2, or nobody said which sensor it is.
    """
    modality = given.known(name)
    if all(given.polarisations(name)):
        return (COPERNICUS_RADAR,) * given.bands
    unknown = [b for b in modality.bands if b not in COPERNICUS_MSI]
    if unknown or not modality.sensor.startswith("sentinel2"):
        raise ContractError(
            "Copernicus-FM needs wavelength and bandwidth of every band",
            where=name,
            why=f"{modality.sensor} {', '.join(modality.bands)}; known are those of Sentinel-1 and Sentinel-2",
            fix="give it one of these, or choose dofa or panopticon, which need no bandwidths",
        )
    return tuple(COPERNICUS_MSI[b] for b in modality.bands)


def _spectrum(name: str, given: EncoderInput) -> list[tuple[float | None, str]]:
    """Return wavelength and polarisation of every band; each has at least one."""
    pairs = list(zip(given.wavelengths(name), given.polarisations(name), strict=True))
    if not all(um or p in PANOPTICON_RADAR for um, p in pairs):
        raise ContractError(
            "the encoder needs a wavelength or polarisation of every band",
            where=name,
            why=f"{given.known(name).sensor} {', '.join(given.known(name).bands)}",
            fix="leave out bands that measure neither light nor backscatter",
        )
    return [(um, p or "") for um, p in pairs]


def _through(
    network: Any, tokens: Float[Tensor, "b n d"], grid: tuple[int, int], place: Tensor | None = None
) -> Float[Tensor, "b n d"]:
    """Add positions, resized to the grid, and ``place``; pass the blocks with the class token and drop it."""
    from torchgeo.models.copernicusfm import resize_abs_pos_embed

    side = isqrt(network.pos_embed.shape[1] - 1)
    positions = resize_abs_pos_embed(network.pos_embed, grid, (side, side))
    if place is not None:
        positions = positions + place
    first = (network.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
    tokens = torch.cat([first, tokens + positions[:, 1:]], 1)
    for block in network.blocks:
        tokens = block(tokens)
    return tokens[:, 1:]


def _normed(
    norm: nn.Module, tokens: Float[Tensor, "b n d"], valid: Bool[Tensor, "b h w"], grid: tuple[int, int], stride: int
) -> FeatureMaps:
    """Lay out normed tokens; pool before the norm, as DOFA does."""
    seen = shrink_valid(valid, grid).flatten(1)
    pooled = token_maps(tokens, seen, grid, stride).pooled
    return replace(token_maps(norm(tokens), seen, grid, stride), pooled=norm(pooled) * seen.any(1, keepdim=True))
