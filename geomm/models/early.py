"""Early fusion: images of all modalities to one, for one encoder.

The same contract as that of fusions of features: what is invalid contributes nothing, or a learned token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.models.features import masked_mean
from geomm.models.levels import MissingTokens


class EarlyFusion(nn.Module):
    """Merges the images of any subset of the modalities.

    Args:
        bands: of each modality, in the order of the merge.
        merge: :class:`ConcatImages`, :class:`SumImages` or :class:`MultiplyImages`.
        width: channels of the merged image, where the merge projects.
    """

    def __init__(self, bands: Mapping[str, int], merge: type[ImageMerge], width: int) -> None:
        super().__init__()
        self.bands = dict(bands)
        self.merge = merge(tuple(bands.values()), width)
        self.channels = self.merge.channels

    def forward(self, images: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Merge images ``(B, T, C, H, W)``: each the mean of its valid times, then all of them.

        Returns:
            The image ``(B, channels, H, W)`` and where any modality is valid, bool ``(B, H, W)``.
        """
        like = next(iter(images.values()))
        count, size = len(like), like.shape[-2:]
        maps, masks = [], []
        for name, bands in self.bands.items():
            if name in images:
                maps.append(masked_mean(images[name].movedim(1, 0), valid[name].movedim(1, 0)))
                masks.append(valid[name].any(1))
            else:
                maps.append(like.new_zeros((count, bands, *size)))
                masks.append(torch.zeros((count, *size), dtype=torch.bool, device=like.device))
        present = torch.stack(masks)
        return self.merge(maps, present), present.any(0)


class ImageMerge(nn.Module):
    """Merges images ``(B, C, H, W)`` that are 0 where ``valid (M, B, H, W)`` is False."""

    channels: int
    """Of the result."""

    def __init__(self, bands: Sequence[int], width: int) -> None:
        super().__init__()
        self.sizes, self.channels = tuple(bands), width


class ConcatImages(ImageMerge):
    """All bands side by side, with one validity channel per modality and a learned token for what is missing."""

    def __init__(self, bands: Sequence[int], width: int) -> None:
        super().__init__(bands, width)
        self.missing = MissingTokens(bands)
        self.channels = sum(bands) + len(bands)

    def forward(
        self, images: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Merge."""
        return torch.cat([*self.missing(images, valid), valid.movedim(0, 1).to(images[0].dtype)], 1)


class SumImages(ImageMerge):
    """The mean of what is valid, each modality projected to the same channels."""

    def __init__(self, bands: Sequence[int], width: int) -> None:
        super().__init__(bands, width)
        self.project = nn.ModuleList(nn.Conv2d(b, width, 1) for b in bands)

    def forward(
        self, images: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Merge."""
        return masked_mean(torch.stack([p(x) for p, x in zip(self.project, images, strict=True)]), valid)


class MultiplyImages(SumImages):
    """The same mean and, added to it, the product of one plus a gate for every modality, minus one.

    The gate is the hyperbolic tangent of a projection; a modality that is missing multiplies by one.
    """

    def __init__(self, bands: Sequence[int], width: int) -> None:
        super().__init__(bands, width)
        self.gate = nn.ModuleList(nn.Conv2d(b, width, 1) for b in bands)

    def forward(
        self, images: list[Float[Tensor, "b _ h w"]], valid: Bool[Tensor, "m b h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Merge."""
        gates = torch.stack([g(x).tanh() for g, x in zip(self.gate, images, strict=True)])
        product = (1.0 + gates * valid.unsqueeze(2)).prod(0)
        return super().forward(images, valid) + product - 1.0
