"""Swin transformers of torchvision, as torchgeo has them, as a feature pyramid."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.models.encoders.contract import require_multiple
from geomm.models.features import FeatureMaps, shrink_valid


class SwinEncoder(nn.Module):
    """The output of each of the stages; cells without a valid pixel are zeroed, as the network takes no mask.

    Args:
        network: torchvision's ``SwinTransformer``; its last norm and its head are given up.
        bands: of the image; another number than the network's gets a new first layer.
    """

    def __init__(self, network: Any, bands: int) -> None:
        super().__init__()
        first = network.features[0][0]
        if first.in_channels != bands:
            network.features[0][0] = nn.Conv2d(bands, first.out_channels, first.kernel_size, first.stride)
        network.norm = network.head = nn.Identity()
        self.network = network
        stages = len(network.features) // 2
        self.channels = tuple(int(first.out_channels) * 2**k for k in range(stages))
        self.strides = tuple(int(first.stride[0]) * 2**k for k in range(stages))

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image.

        Raises:
            ContractError: height or width is not a multiple of the coarsest stride.
        """
        require_multiple(image, self.strides[-1])
        maps, x = [], image
        for k, layer in enumerate(self.network.features):
            x = layer(x)
            if k % 2:  # patches and merging are the even ones
                level = x.permute(0, 3, 1, 2)
                maps.append(level * shrink_valid(valid, tuple(level.shape[-2:])).unsqueeze(1))
        return FeatureMaps(tuple(maps), self.strides)
