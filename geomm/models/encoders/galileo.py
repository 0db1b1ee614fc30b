"""Galileo (arXiv 2502.09356): a transformer over groups of bands, one modality and one date at a time.

Written anew after nasaharvest/galileo (MIT), whose files of weights it reads. Each group of bands gives a token per
patch; channel, month and place are added; all tokens attend to each other; the groups of a patch are averaged.

The name is ``galileo[:<patch size>][:<size of the network>]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import ContractError, PackageError, UnknownNameError
from geomm.models.encoders.contract import EncoderInput, require_multiple
from geomm.models.encoders.galileo_bands import GROUPS, galileo_groups, galileo_wants
from geomm.models.encoders.local import token_maps
from geomm.models.encoders.weights import Tolerated, load_weights, read_weights
from geomm.models.features import FeatureMaps, shrink_valid

__all__ = ["Galileo", "GalileoSize", "build_galileo", "galileo_groups", "galileo_wants"]

BASE = 8
"""Side in pixels of the stored kernels, and the default patch size: they are used as they are, and a patch size of 4
takes 4 times the tokens and up to 16 times the work. Training saw all sizes from 1 to 8."""
JUNE = 5
"""The reference's month where none is given (``DEFAULT_MONTH`` in src/data/utils.py); months count from 0."""
STEPS = 24
"""Rows of the stored table of time steps; a single date is the first."""

_UNUSED = ("space_embed.", "time_embed.", "static_embed.", "sp_channel_embed", "t_channel_embed", "st_channel_embed")
"""Weights for inputs that geomm does not give: elevation, land cover, weather, place."""


@dataclass(frozen=True, slots=True)
class GalileoSize:
    """Size of the network."""

    width: int
    """Of the tokens."""
    depth: int
    """Number of blocks."""
    heads: int
    """Of attention; not to be seen in a file of weights, so the widths below imply them."""


SIZES: Mapping[str, GalileoSize] = MappingProxyType(
    {"nano": GalileoSize(128, 4, 8), "tiny": GalileoSize(192, 12, 3), "base": GalileoSize(768, 12, 12)}
)
"""The published networks (config/models of the reference)."""


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Float[Tensor, "b n d"], allowed: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, None, None])
        return self.proj(found.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Float[Tensor, "b n d"], allowed: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        tokens = tokens + self.attn(self.norm1(tokens), allowed)
        return tokens + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(tokens))))  # type: ignore[no-any-return]


class Galileo(nn.Module):
    """Galileo's encoder for one modality; it starts at random. Its weights have the names of the reference's.

    The reference trains with stochastic depth (0.1); that is left out.

    Args:
        groups: groups to read, each with the places of its bands in the image, see :func:`galileo_groups`.
        size: of the network.
        patch: side of a patch in pixels, 1 to 8; also the stride of the map.
        month: 0 for January to 11.
        gsd: side of a pixel in metres; places are counted in units of 10 m.

    Raises:
        ContractError: a patch size or month out of range.
    """

    def __init__(
        self,
        groups: Mapping[str, tuple[int, ...]],
        size: GalileoSize = SIZES["nano"],
        *,
        patch: int = BASE,
        month: int = JUNE,
        gsd: float = 10.0,
    ) -> None:
        super().__init__()
        if not (1 <= patch <= BASE and 0 <= month < 12):
            raise ContractError(
                "Galileo knows patch sizes from 1 to 8 and months from 0 to 11",
                why=f"got {patch} and {month}",
                fix="give patch as a number of pixels from 1 to 8, and months counted from 0 (January)",
            )
        self.groups, self.patch, self.month, self.gsd = dict(groups), patch, month, gsd
        self.channels, self.strides = (size.width,), (patch,)
        part = size.width // 4
        self.register_buffer("pos_embed", _waves(torch.arange(STEPS), part))
        self.month_embed = nn.Module()
        self.month_embed.register_buffer("weight", _months(part))
        self.register_buffer("resize", _resize(patch), persistent=False)
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(GROUPS), part))
        self.space_time_embed = nn.ModuleDict(
            {n: nn.ModuleDict({"proj": nn.Conv2d(len(at), size.width, BASE, BASE)}) for n, at in self.groups.items()}
        )
        self.blocks = nn.ModuleList(_Block(size.width, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image that is normalised as :func:`galileo_wants` says.

        Patches without a valid pixel are not attended to; in others, invalid pixels take the mean of the valid ones.

        Raises:
            ContractError: height or width is not a multiple of the patch size.
        """
        require_multiple(image, self.patch)
        image = fill_patches(image, valid, self.patch)
        grid = image.shape[-2] // self.patch, image.shape[-1] // self.patch
        seen = shrink_valid(valid, grid).flatten(1)
        tokens = torch.cat([self._embed(image, group) for group in self.groups], 1)
        # where nothing is seen at all, any answer does: it is zeroed
        allowed = (seen | ~seen.any(1, keepdim=True)).repeat(1, len(self.groups))
        for block in self.blocks:
            tokens = block(tokens, allowed)
        tokens = self.norm(tokens).unflatten(1, (len(self.groups), -1)).mean(1)
        return token_maps(tokens, seen, grid, self.patch)

    def _embed(self, image: Float[Tensor, "b c h w"], group: str) -> Float[Tensor, "b n d"]:
        """Return a token per patch, with channel, time step, month and place added."""
        kernel: Tensor = self.get_parameter(f"space_time_embed.{group}.proj.weight")
        bias = self.get_parameter(f"space_time_embed.{group}.proj.bias")
        if self.patch != BASE:
            resize = self.get_buffer("resize")
            kernel = resize @ kernel @ resize.T
        maps = functional.conv2d(image[:, list(self.groups[group])], kernel, bias, self.patch)
        rows, columns = (torch.arange(n, device=maps.device) * (self.gsd * self.patch / 10) for n in maps.shape[-2:])
        places = _places(rows, columns, self.channels[0] // 4)
        same = (
            self.s_t_channel_embed[list(GROUPS).index(group)],
            self.get_buffer("pos_embed")[0],
            self.get_buffer("month_embed.weight")[self.month],
        )
        added = [*(row.expand(len(places), -1) for row in same), places.to(bias.dtype)]
        return maps.flatten(2).transpose(1, 2) + torch.cat(added, 1)


def fill_patches(image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"], patch: int) -> Float[Tensor, "b c h w"]:
    """Give invalid pixels the mean of the valid ones of their patch, 0 where it has none.

    0 would be a dark pixel, not a missing one: Galileo's bands have their mean at 0.5. The reference fills with means
    of whole images (``_fillna`` in src/data/dataset.py).
    """
    known = valid.unsqueeze(1)
    share = functional.avg_pool2d(known.to(image.dtype), patch)
    mean = functional.avg_pool2d(torch.where(known, image, 0.0), patch) / share.clamp_min(1 / BASE**2)
    return torch.where(known, image, mean.repeat_interleave(patch, 2).repeat_interleave(patch, 3))


def build_galileo(name: str, given: EncoderInput) -> Galileo:
    """Build ``[<patch size>][:<size of the network>]``, with the weights of a file where one is given.

    Raises:
        UnknownNameError: neither a patch size nor a size of the network.
        ContractError: a patch size out of range, or a sensor or bands that Galileo does not know.
        PackageError: weights that cannot be read or do not fit.
    """
    patch, size = BASE, None
    for word in filter(None, name.split(":")):
        if word.isdecimal():
            patch = int(word)
        elif word in SIZES:
            size = SIZES[word]
        else:
            raise UnknownNameError.of("patch size or size of galileo", word, (*range(1, BASE + 1), *SIZES))
    groups = galileo_groups(given.known("galileo"))
    if given.weights is None:
        return Galileo(groups, size or SIZES["nano"], patch=patch)
    # The reference drops ``.backbone`` from the names of some of its files.
    state = {k.replace(".backbone", ""): v for k, v in read_weights(given.weights).items()}
    network = Galileo(groups, size or _size_of(state, given.weights), patch=patch)
    others = tuple(f"space_time_embed.{g}." for g in GROUPS if g not in groups)
    load_weights(network, state, Tolerated(leftover=_UNUSED + others), where=str(given.weights))
    return network


def _size_of(state: Mapping[str, Tensor], path: Path) -> GalileoSize:
    width = state["norm.weight"].numel() if "norm.weight" in state else 0
    depth = len({k.split(".")[1] for k in state if k.startswith("blocks.")})
    for size in SIZES.values():
        if size.width == width:
            return GalileoSize(width, depth, size.heads)
    raise PackageError(
        "these are no weights of Galileo's encoder",
        where=str(path),
        why=f"tokens of {width} features; has {', '.join(sorted(state)[:5])}",
        fix=f"known widths: {', '.join(str(s.width) for s in SIZES.values())}",
    )


def _waves(at: Tensor, size: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of places; rates fall from 1 to a hundredth, not to 1/10,000, as in the reference."""
    rates = 1.0 / 10000 ** (torch.arange(size // 2, device=at.device) / size / 2)
    angles = at.flatten()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _places(rows: Float[Tensor, " h"], columns: Float[Tensor, " w"], size: int) -> Float[Tensor, "n d"]:
    """Waves of the column, then of the row, of every cell of a grid."""
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.cat([_waves(column, size // 2), _waves(row, size // 2)], 1)


def _months(size: int) -> Float[Tensor, "12 d"]:
    """Sine of the month in the first half, cosine in the second."""
    angles = torch.arange(12) / (12 / (2 * torch.pi))
    return torch.cat([f(angles)[:, None].expand(-1, size // 2) for f in (torch.sin, torch.cos)], 1).contiguous()


def _resize(patch: int) -> Float[Tensor, "p k"]:
    """Return R, so that R K Rᵀ is the kernel for smaller patches that sees in them what K sees in them enlarged.

    FlexiViT (arXiv 2212.08013): the pseudo-inverse of resizing; along each axis on its own, as resizing is.
    """
    rows = torch.eye(BASE, dtype=torch.double)[:, None, :, None].repeat(1, 1, 1, BASE)
    small = functional.interpolate(rows, (patch, BASE), mode="bicubic", antialias=True)
    return cast("Tensor", torch.linalg.pinv(small[:, 0, :, 0])).float()
